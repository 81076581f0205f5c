"""The host driver: collect from environments that Python steps; learn and evaluate as on the device."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from comarl.algos.base import Policy
from comarl.envs.base import Hosted, HostEnv
from comarl.training.copies import Copies
from comarl.training.learner import Learner
from comarl.training.ondevice import (
    Actors,
    ChunkLog,
    Faults,
    Finished,
    RunState,
    begin_run,
    first_keys,
    iteration_keys,
    step_keys,
)
from comarl.training.players import HostPlayer, counted
from comarl.training.seeds import Chunk, Decide, Then
from comarl.types import Action, TimeStep, Trajectory

AHEAD = 2
"""So many iterations may be collected before they are learned from."""

Row = tuple[dict[str, Array], Finished, Faults]
"""What an iteration reports."""


class Collected(NamedTuple):
    """What an iteration has collected, with how many episodes were dropped meanwhile."""

    actors: Actors
    trajectory: Trajectory
    finished: Finished
    dropped: int


class HostDriver:
    """Runs environments that Python steps in turn with the policy, and the learner after each iteration.

    It does with the same keys what :class:`comarl.training.ondevice.OnDevice` does: an environment written in JAX and
    stepped from Python gives the same parameters, bit for bit. :meth:`chunk` is a function of the run's state here
    too: the environments are brought to where the state says, unless they are there already.

    What an environment loses when it fails (:class:`comarl.envs.base.HostEnv`) is cut off in the trajectory: the step
    before is marked as its episode's last one, as by a time limit, so that nothing is learned across the gap, and the
    episode is counted as dropped and not as finished.

    Args:
        env: the environment.
        learner: what learns from the trajectories.
        num_envs: ``B``, environments side by side.
        length: ``T``, transitions collected per environment and iteration.
        iterations: iterations per chunk; each chunk ends with an evaluation.
        episodes: episodes per evaluation.
        asynchronous: collect in a thread, with whatever policy is the latest, while learning goes on from what was
            collected before. How far the policy lags depends on the machine's load, so that the same seed does
            **not** give the same result again. For algorithms that learn from replay.
    """

    def __init__(
        self,
        env: Hosted,
        learner: Learner,
        *,
        num_envs: int,
        length: int,
        iterations: int,
        episodes: int,
        asynchronous: bool = False,
    ):
        self.env, self.learner, self._asynchronous = env, learner, asynchronous
        self.num_envs, self.length, self.iterations, self.episodes = num_envs, length, iterations, episodes
        self._player = HostPlayer(env, episodes)
        self._running: dict[int, _Running] = {}
        self._begin = jax.jit(lambda seed, ts: begin_run(learner, seed, (), ts, length))
        self._first_seeds = jax.jit(lambda seed: jax.random.key_data(first_keys(seed, num_envs)[1]))
        self._policy = jax.jit(lambda state, iteration: learner.algorithm.policy(state, iteration * num_envs * length))
        self._collect_keys = jax.jit(self._keys_of)
        self._learn_key = jax.jit(lambda seed, iteration: iteration_keys(seed, iteration)[1])
        self._act = jax.jit(_act)
        self._learn = jax.jit(learner.step, donate_argnums=(0, 1))

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration, over all environments."""
        return self.num_envs * self.length

    def init(self, seed: Int[Array, ""] | int) -> RunState:
        """The state before the first iteration. Seeds differ in everything, initial parameters included."""
        running = self._running[int(seed)] = self._running.get(int(seed)) or _Running(self.env.start(self.num_envs))
        ts = running.env.reset(np.asarray(self._first_seeds(seed)))
        run = self._begin(seed, ts)
        return run._replace(actors=run.actors._replace(env=running.leave()))

    def shapes(self) -> RunState:
        """The shapes and dtypes of a run's state; environments are started to find theirs out."""
        with contextlib.closing(self.env.start(self.num_envs)) as env:
            ts = env.reset(np.asarray(self._first_seeds(0)))
            run = jax.eval_shape(self._begin, 0, ts)
            return jax.eval_shape(lambda at: run._replace(actors=run.actors._replace(env=at)), env.snapshot())

    def chunk(self, run: RunState) -> tuple[RunState, ChunkLog]:
        """``iterations`` iterations and an evaluation; ``run`` is given up."""
        seed = int(run.seed)
        running = self._running[seed] = self._running.get(seed) or _Running(self.env.start(self.num_envs))
        running.enter(run.actors.env)
        rows: list[Row] = []
        move = self._iterate_ahead if self._asynchronous else self._iterate
        for after, row in move(run, running.env):
            run = after
            rows.append(row)
        policy = self._policy(run.learner, run.iteration)
        metrics, finished, faults = jax.tree.map(lambda *x: np.stack(x), *jax.device_get(rows))
        run = run._replace(actors=run.actors._replace(env=running.leave()))
        return run, ChunkLog(metrics, finished, faults, self._player(policy))

    def close(self) -> None:
        """Free the environments."""
        self._player.close()
        for running in self._running.values():
            running.env.close()
        self._running.clear()

    def _iterate(self, run: RunState, env: HostEnv) -> Iterator[tuple[RunState, Row]]:
        """The state after each iteration: collect with the current policy, then learn."""
        for _ in range(self.iterations):
            policy = self._policy(run.learner, run.iteration)
            run, row = self._learn_from(run, self._collect(policy, run, env))
            yield run, row

    def _iterate_ahead(self, run: RunState, env: HostEnv) -> Iterator[tuple[RunState, Row]]:
        """The same while another thread collects, at most ``AHEAD`` iterations before they are learned from."""
        latest = [self._latest_policy(run)]
        collected: queue.Queue[Collected | BaseException] = queue.Queue(AHEAD)
        stopping = threading.Event()

        def act(at: RunState) -> None:
            try:
                for _ in range(self.iterations):
                    if stopping.is_set():
                        return
                    new = self._collect(latest[0], at, env)
                    collected.put(new)
                    at = at._replace(actors=new.actors, iteration=at.iteration + 1)
            except BaseException as error:  # it is raised in the learner's thread
                collected.put(error)

        thread = threading.Thread(target=act, args=(run._replace(learner=None, memory=None),), daemon=True)
        thread.start()
        try:
            for _ in range(self.iterations):
                new = collected.get()
                if isinstance(new, BaseException):
                    raise new
                run, row = self._learn_from(run, new)
                latest[0] = self._latest_policy(run)
                yield run, row
        finally:
            stopping.set()
            while thread.is_alive():
                with contextlib.suppress(queue.Empty):
                    collected.get(timeout=0.01)

    def _latest_policy(self, run: RunState) -> Policy:
        # Arrays of its own: learning gives up those of the state.
        return jax.tree.map(jnp.copy, self._policy(run.learner, run.iteration))

    def _collect(self, policy: Policy, run: RunState, env: HostEnv) -> Collected:
        """What is collected in an iteration; of the run's state only the actors, the iteration and the seed count."""
        collect_keys, seeds = self._collect_keys(run.seed, run.iteration)
        dropped = env.dropped
        actors, trajectory, finished = self.collect(policy, run.actors, env, collect_keys, np.asarray(seeds))
        return Collected(actors, trajectory, finished, env.dropped - dropped)

    def _learn_from(self, run: RunState, collected: Collected) -> tuple[RunState, Row]:
        key = self._learn_key(run.seed, run.iteration)
        state, memory, metrics = self._learn(run.learner, run.memory, collected.trajectory, run.iteration, key)
        counts: Any = map(np.int32, (0, 0, collected.dropped))  # a HostEnv lets no other fault through
        run = RunState(state, memory, collected.actors, run.iteration + 1, run.seed)
        return run, (metrics, collected.finished, Faults(*counts))

    def collect(
        self, policy: Policy, actors: Actors, env: HostEnv, keys: Array, seeds: np.ndarray
    ) -> tuple[Actors, Trajectory, Finished]:
        """``T`` steps of every environment.

        Args:
            policy: who acts.
            actors: where the environments are.
            env: the running environments.
            keys: the policy's ``[T, B]``.
            seeds: the environments', as words ``[T, B, 2]``.
        """
        ts: TimeStep = jax.device_get(actors.ts)
        steps, actions, ends = [ts], [], []
        carry, returns, length = actors.carry, *jax.device_get((actors.returns, actors.length))
        for t in range(self.length):
            carry, action = self._act(policy, carry, ts, keys, t)
            actions.append(np.asarray(action))
            before, ts = ts, env.step(actions[-1], seeds[t])
            steps[-1] = before._replace(last=before.last | ts.first)  # a first step comes after a last one, or a cut
            returns, length = counted(ts, returns, length)
            steps.append(ts)
            outcome: Any = env.outcome()
            ends.append(Finished(ts.last, returns, length, outcome))
        stack = lambda rows: jax.tree.map(lambda *x: np.stack(x), *rows)  # noqa: E731
        trajectory = Trajectory(stack(steps), stack(actions), actors.carry)
        return Actors((), ts, carry, returns, length), trajectory, stack(ends)

    def _keys_of(self, seed: Array, iteration: Array) -> tuple[Array, Array]:
        """The policy's keys ``[T, B]`` and the environments' as words ``[T, B, 2]``."""
        collect_key, _ = iteration_keys(seed, iteration)
        split = jax.vmap(lambda key: step_keys(key, self.num_envs))
        act_keys, env_keys = split(jax.random.split(collect_key, self.length))
        return act_keys, jax.random.key_data(env_keys)


def _act(policy: Policy, carry: Any, ts: TimeStep, keys: Array, t: Array) -> tuple[Any, Action]:
    # Of the keys [T, B] it takes its own: to slice them outside would be another program for every step.
    return jax.vmap(lambda c, ts, k: policy.act(c, ts, k, True))(carry, ts, keys[t])


class _Running:
    """Environments that run, and the snapshot which says where they are."""

    def __init__(self, env: HostEnv):
        self.env = env
        self._at: Any = None

    def enter(self, snapshot: Any) -> None:
        """Bring them to where ``snapshot`` says."""
        if self._at is None or snapshot is not self._at:
            self.env.restore(snapshot)
        self._at = None

    def leave(self) -> Any:
        """Where they are now; until the next :meth:`enter` nothing moves them."""
        self._at = self.env.snapshot()
        return self._at


class HostSeeds:
    """Several seeds, a chunk of each in turn; used like :class:`comarl.training.seeds.Seeds`.

    Attributes:
        seeds: their numbers.
        done: chunks that each of them has behind it.
        compile_seconds: what starting the environments and making the first states took.
    """

    def __init__(self, driver: HostDriver, seeds: list[int], begin: Mapping[int, RunState] | None = None):
        """Seeds that are in ``begin`` go on from there, the others start afresh."""
        begin = begin or {}
        self.seeds, self._driver, self._copies = seeds, driver, Copies()
        self.done = {seed: int(begin[seed].iteration) // driver.iterations if seed in begin else 0 for seed in seeds}
        start = time.perf_counter()
        self._states = {seed: begin[seed] if seed in begin else driver.init(jnp.asarray(seed)) for seed in seeds}
        self.compile_seconds = time.perf_counter() - start

    def run(self, chunks: int, decide: Decide = lambda seed, number: Then.GO_ON) -> Iterator[Chunk]:
        """Move every seed on until it has done so many chunks, or is told to stop; each chunk as it is finished."""
        going = [seed for seed in self.seeds if self.done[seed] < chunks]
        try:
            while going:
                for seed in tuple(going):
                    number = self.done[seed]
                    self._states[seed], log = self._driver.chunk(self._states[seed])
                    self.done[seed] = number + 1
                    then = decide(seed, number)
                    yield Chunk(seed, number, log, None if then is Then.GO_ON else self._copies.of(self._states[seed]))
                    if then is Then.STOP or self.done[seed] == chunks:
                        going.remove(seed)
        finally:
            self._driver.close()

    def state(self, seed: int) -> RunState:
        """The state of one seed."""
        return self._states[seed]
