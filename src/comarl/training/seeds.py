"""Several seeds of one run, compiled once.

On a CPU each seed is a state and a thread of its own, and the cores are shared by the operating system. On an
accelerator all seeds are one mapped state, and on several they are shared out among them. Either way a seed computes
what it computes alone.
"""

import operator
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from comarl.training.ondevice import ChunkLog, OnDevice, RunState
from comarl.training.sharding import spread

SEED_AXES = cast(Any, RunState)(learner=0, memory=0, actors=0, iteration=None, seed=0)
"""The iteration is the same for all seeds: not mapping it keeps the replay's writes in place."""


class Seeds:
    """The states of all seeds and the compiled program that moves them on.

    Attributes:
        seeds: their numbers.
        compile_seconds: what tracing and compiling took.
    """

    def __init__(self, driver: OnDevice, seeds: list[int]):
        self.seeds = seeds
        self._mapped = len(seeds) > 1 and (jax.default_backend() != "cpu" or jax.local_device_count() > 1)
        start = time.perf_counter()
        init, chunk = driver.init, driver.chunk
        if self._mapped:
            init, chunk = spread(init, chunk, SEED_AXES, len(seeds))
        self._init = jax.jit(init)
        groups = [jnp.asarray(seeds)] if self._mapped else [jnp.asarray(s) for s in seeds]
        self._states: list[RunState] = [self._init(group) for group in groups]
        self._chunk = jax.jit(chunk, donate_argnums=0).lower(self._states[0]).compile()
        jax.block_until_ready(self._states)
        self.compile_seconds = time.perf_counter() - start

    def run(self, chunks: int) -> Iterator[tuple[int, int, ChunkLog]]:
        """Move every seed on by so many chunks: seed, chunk (from 0) and log on the host, as they are finished."""
        if self._mapped:
            yield from self._run_mapped(chunks)
        else:
            yield from self._run_side_by_side(chunks)

    def _run_mapped(self, chunks: int) -> Iterator[tuple[int, int, ChunkLog]]:
        for chunk in range(chunks):
            self._states[0], logs = self._chunk(self._states[0])
            logs = jax.device_get(logs)
            for i, seed in enumerate(self.seeds):
                yield seed, chunk, jax.tree.map(operator.itemgetter(i), logs)

    def _run_side_by_side(self, chunks: int) -> Iterator[tuple[int, int, ChunkLog]]:
        """Each seed in a thread of its own: a compiled chunk keeps one core busy and holds no Python lock."""
        finished: queue.SimpleQueue[tuple[int, int, ChunkLog] | BaseException] = queue.SimpleQueue()
        stopping = threading.Event()
        # A seed may be this many chunks ahead of whoever takes their logs.
        ahead = [threading.Semaphore(2) for _ in self.seeds]

        def work(i: int) -> None:
            try:
                for chunk in range(chunks):
                    ahead[i].acquire()
                    if stopping.is_set():
                        return
                    self._states[i], log = self._chunk(self._states[i])
                    finished.put((self.seeds[i], chunk, jax.device_get(log)))
            except BaseException as error:  # it is raised in the caller's thread
                finished.put(error)

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(self.seeds))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(chunks * len(self.seeds)):
                item = finished.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                ahead[self.seeds.index(item[0])].release()
        finally:
            stopping.set()
            for i, thread in enumerate(threads):
                ahead[i].release()
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
