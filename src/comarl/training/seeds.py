"""Several seeds of one run, compiled once.

On a CPU each seed is a state and a thread of its own, and the cores are shared by the operating system. On an
accelerator all seeds are one mapped state, and on several they are shared out among them. Either way a seed computes
what it computes alone.
"""

import enum
import operator
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Traced

from comarl.garbage import uncollected
from comarl.training.awake import awake
from comarl.training.copies import Copies
from comarl.training.haste import compile_quickly
from comarl.training.ondevice import ChunkLog, OnDevice, RunState
from comarl.training.sharding import cores_that_meet, spread

SEED_AXES = cast(Any, RunState)(learner=0, memory=0, actors=0, iteration=None, seed=0)
"""The iteration is the same for all seeds: not mapping it keeps the replay's writes in place."""


class Then(enum.Enum):
    """What a seed does after a chunk."""

    GO_ON = enum.auto()
    SNAPSHOT = enum.auto()
    """Leave a copy of the state, and go on."""
    STOP = enum.auto()
    """Leave the state, and stop."""


class Chunk(NamedTuple):
    """What a seed has done.

    Attributes:
        seed: which.
        number: of the chunk, from 0 at the beginning of the training, however often it was broken off.
        log: what happened, on the host.
        snapshot: the state after it, if :class:`Then` asks for one; no later chunk of the same call takes its memory.
    """

    seed: int
    number: int
    log: ChunkLog
    snapshot: RunState | None


Decide = Callable[[int, int], Then]
"""From seed and number of a chunk that has just ended to what follows; called in the seeds' threads."""


class Seeds:
    """The states of all seeds and the compiled programs that move them on and evaluate them.

    Attributes:
        seeds: their numbers.
        done: chunks that each of them has behind it.
        compile_seconds: what tracing and compiling took until training could begin.
    """

    @uncollected()
    def __init__(
        self,
        driver: OnDevice,
        seeds: list[int],
        begin: Mapping[int, RunState] | None = None,
        devices: Sequence[Any] | None = None,
    ):
        """Seeds that are in ``begin`` go on from there, the others start afresh; on ``devices``, or all there are."""
        begin, devices = begin or {}, devices or jax.local_devices()
        self.seeds = seeds
        self._copies = Copies()
        self.done = {seed: int(begin[seed].iteration) // driver.iterations if seed in begin else 0 for seed in seeds}
        level = len(set(self.done.values())) == 1
        self._mapped = level and (len(devices) > 1 or (jax.default_backend() != "cpu" and len(seeds) > 1))
        start = time.perf_counter()
        init, train, evaluate, self._layout = driver.init, driver.train, driver.evaluate, None
        if self._mapped:
            init, train, evaluate, self._layout = spread(driver, SEED_AXES, len(seeds), devices)
        groups = [seeds] if self._mapped else [[seed] for seed in seeds]
        # Compiled for what init gives, and not for what was read: the same programs, whether or not anything was.
        first = jax.jit(init, out_shardings=self._layout).trace(self._numbers(groups[0]))
        before, after = (self._layout,), (self._layout, None)
        beside = ThreadPoolExecutor(1)  # the compiler uses one core for most of its time
        evaluation = lambda: compile_quickly(jax.jit(evaluate, in_shardings=before).lower(first.out_info))  # noqa: E731
        beginnings = beside.submit(lambda: self._begin(first, groups, begin))
        if self._mapped:  # all cores will train: compiling then would hold every meeting of the devices up
            self._evaluation = beside.submit(evaluation)
        jitted = jax.jit(train, in_shardings=before, out_shardings=after, donate_argnums=0)
        self._train = jitted.lower(first.out_info).compile()
        self._states: list[RunState] = jax.block_until_ready(beginnings.result())
        if not self._mapped:  # while the first chunk is trained, which leaves cores idle: needed at its end alone
            self._evaluation = beside.submit(evaluation)
        beside.shutdown(wait=False)
        self._kept_awake = cores_that_meet(self._layout) if self._mapped else 0
        self.compile_seconds = time.perf_counter() - start

    def _begin(self, first: Traced, groups: list[list[int]], begin: Mapping[int, RunState]) -> list[RunState]:
        """Where each group begins: at its first state, if not all of it is in ``begin``."""
        known = [all(seed in begin for seed in group) for group in groups]
        init = None if all(known) else compile_quickly(first.lower())
        return [
            self._together([begin[seed] for seed in group]) if there or not init else init(self._numbers(group))
            for group, there in zip(groups, known, strict=True)
        ]

    def _together(self, states: list[RunState]) -> RunState:
        if not self._mapped:
            return states[0]
        stack = lambda *xs: jnp.stack(xs)  # noqa: E731
        parts: list[Any] = [
            part[0] if axis is None else jax.tree.map(stack, *part)
            for part, axis in zip(zip(*states, strict=True), SEED_AXES, strict=True)
        ]
        return jax.device_put(RunState(*parts), self._layout)

    def _numbers(self, group: list[int]) -> jax.Array:
        return jnp.asarray(group if self._mapped else group[0])

    def run(self, chunks: int, decide: Decide = lambda seed, number: Then.GO_ON) -> Iterator[Chunk]:
        """Move every seed on until it has done so many chunks, or is told to stop; each chunk as it is finished."""
        if self._mapped:
            with awake(self._kept_awake):
                yield from self._run_mapped(chunks, decide)
        else:
            yield from self._run_side_by_side(chunks, decide)

    def _chunk(self, state: RunState) -> tuple[RunState, ChunkLog]:
        state, (metrics, finished, faults) = self._train(state)
        return state, ChunkLog(metrics, finished, faults, self._evaluation.result()(state))

    def _run_mapped(self, chunks: int, decide: Decide) -> Iterator[Chunk]:
        for number in range(self.done[self.seeds[0]], chunks):
            self._states[0], logs = self._chunk(self._states[0])
            logs = jax.device_get(logs)
            then = {decide(seed, number) for seed in self.seeds}
            for i, seed in enumerate(self.seeds):
                self.done[seed] = number + 1
                snapshot = None if then == {Then.GO_ON} else self._copies.of(self.state(seed))
                yield Chunk(seed, number, jax.tree.map(operator.itemgetter(i), logs), snapshot)
            if Then.STOP in then:
                return

    def _run_side_by_side(self, chunks: int, decide: Decide) -> Iterator[Chunk]:
        """Each seed in a thread of its own: a compiled chunk keeps one core busy and holds no Python lock."""
        finished: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()
        stopping = threading.Event()
        # A seed may be this many chunks ahead of whoever takes their logs.
        ahead = {seed: threading.Semaphore(2) for seed in self.seeds}

        def work(i: int, seed: int) -> None:
            try:
                for number in range(self.done[seed], chunks):
                    ahead[seed].acquire()
                    if stopping.is_set():
                        return
                    self._states[i], log = self._chunk(self._states[i])
                    log = jax.device_get(log)
                    self.done[seed] = number + 1
                    then = decide(seed, number)
                    # The last state is its own snapshot: no chunk follows that takes its memory.
                    last = then is Then.STOP or number + 1 == chunks
                    snapshot = None
                    if then is not Then.GO_ON:
                        snapshot = self._states[i] if last else self._copies.of(self._states[i])
                    finished.put(Chunk(seed, number, log, snapshot))
                    if then is Then.STOP:
                        break
                finished.put(None)
            except BaseException as error:  # it is raised in the caller's thread
                finished.put(error)

        threads = [threading.Thread(target=work, args=x, daemon=True) for x in enumerate(self.seeds)]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                item = finished.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                    continue
                yield item
                ahead[item.seed].release()
        finally:
            stopping.set()
            for seed, thread in zip(self.seeds, threads, strict=True):
                ahead[seed].release()
                thread.join()

    def state(self, seed: int) -> RunState:
        """The state of one seed."""
        i = self.seeds.index(seed)
        if not self._mapped:
            return self._states[i]
        parts: list[Any] = [
            part if axis is None else jax.tree.map(operator.itemgetter(i), part)
            for part, axis in zip(self._states[0], SEED_AXES, strict=True)
        ]
        return RunState(*parts)


def finished_episodes(log: ChunkLog) -> dict[str, Any]:
    """The training episodes that ended in a chunk, in order of time: raw returns ``[E, N]``, lengths and outcomes."""
    ended = np.asarray(log.finished.ended)
    return {
        "returns": np.asarray(log.finished.returns)[ended],
        "length": np.asarray(log.finished.length)[ended],
        **{name: np.asarray(x)[ended] for name, x in log.finished.outcome.items()},
    }
