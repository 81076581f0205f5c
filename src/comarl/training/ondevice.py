"""The on-device driver: collecting and learning in one compiled function, evaluating in another."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from comarl.algos.base import Policy
from comarl.envs.base import Env
from comarl.envs.wrappers import AutoReset
from comarl.training.evaluate import Episodes, evaluation_keys, play
from comarl.training.learner import Learner
from comarl.types import TimeStep, Trajectory


class Actors(NamedTuple):
    """``B`` environments in the middle of their episodes.

    Attributes:
        env: the environments' states.
        ts: what the teams perceive now.
        carry: the policy's carry on entering ``ts``.
        returns: each agent's reward so far in this episode ``[B, N]``.
        length: transitions so far in this episode ``[B]``.
    """

    env: Any
    ts: TimeStep
    carry: Any
    returns: Float[Array, "B N"]
    length: Int[Array, " B"]


class RunState(NamedTuple):
    """All that a run is: with the same configuration, what follows depends on nothing else."""

    learner: Any
    memory: Any
    actors: Actors
    iteration: Int[Array, ""]
    seed: Int[Array, ""]


class Finished(NamedTuple):
    """Training episodes, one entry per environment step; real where ``ended``."""

    ended: Bool[Array, "*time B"]
    returns: Float[Array, "*time B N"]
    length: Int[Array, "*time B"]
    outcome: dict[str, Float[Array, "*time B"]]


class Faults(NamedTuple):
    """What an environment must never do, counted; on the device it cannot drop an episode."""

    reward_not_finite: Int[Array, "*time"]
    no_available_action: Int[Array, "*time"]
    dropped_episodes: Int[Array, "*time"]


class TrainLog(NamedTuple):
    """What ``K`` iterations report.

    Attributes:
        metrics: the learner's, one per iteration ``[K]``, NaN before learning starts.
        finished: training episodes ``[K, T, B]``.
        faults: counts per iteration ``[K]``.
    """

    metrics: dict[str, Float[Array, " K"]]
    finished: Finished
    faults: Faults


class ChunkLog(NamedTuple):
    """What a chunk of iterations reports to the host.

    Attributes:
        metrics: as in :class:`TrainLog`, and so are the next two.
        finished: training episodes.
        faults: counts per iteration.
        evaluation: greedy episodes played after the chunk.
    """

    metrics: dict[str, Float[Array, " K"]]
    finished: Finished
    faults: Faults
    evaluation: Episodes


@dataclasses.dataclass(frozen=True)
class OnDevice:
    """Runs an environment written in JAX and the learner inside one compiled loop.

    A chunk is :meth:`train` and :meth:`evaluate`, which are compiled apart (:mod:`comarl.training.seeds`).

    Attributes:
        env: the environment; it is reset automatically in training.
        learner: what learns from the trajectories.
        num_envs: ``B``, environments side by side.
        length: ``T``, transitions collected per environment and iteration.
        iterations: iterations per chunk; each chunk ends with an evaluation.
        episodes: episodes per evaluation.
    """

    env: Env
    learner: Learner
    num_envs: int
    length: int
    iterations: int
    episodes: int

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration, over all environments."""
        return self.num_envs * self.length

    def init(self, seed: Int[Array, ""] | int) -> RunState:
        """The state before the first iteration. Seeds differ in everything, initial parameters included."""
        _, env_keys = first_keys(seed, self.num_envs)
        env_state, ts = jax.vmap(AutoReset(self.env).reset)(env_keys)
        return begin_run(self.learner, seed, env_state, ts, self.length)

    def shapes(self) -> RunState:
        """The shapes and dtypes of a run's state."""
        return jax.eval_shape(self.init, 0)

    def chunk(self, run: RunState) -> tuple[RunState, ChunkLog]:
        """``iterations`` iterations and an evaluation."""
        run, log = self.train(run)
        return run, ChunkLog(*log, self.evaluate(run))

    def train(self, run: RunState) -> tuple[RunState, TrainLog]:
        """``iterations`` iterations."""
        return jax.lax.scan(self._iterate, run, length=self.iterations)

    def evaluate(self, run: RunState) -> Episodes:
        """Greedy episodes of what has been learned."""
        policy = self.learner.algorithm.policy(run.learner, run.iteration * self.steps_per_iteration)
        return play(self.env, policy, evaluation_keys(self.episodes))

    def _iterate(self, run: RunState, _: None) -> tuple[RunState, TrainLog]:
        collect_key, learn_key = iteration_keys(run.seed, run.iteration)
        policy = self.learner.algorithm.policy(run.learner, run.iteration * self.steps_per_iteration)
        actors, trajectory, finished = self.collect(policy, run.actors, collect_key)
        state, memory, metrics = self.learner.step(run.learner, run.memory, trajectory, run.iteration, learn_key)
        run = RunState(state, memory, actors, run.iteration + 1, run.seed)
        return run, TrainLog(metrics, finished, count_faults(trajectory.ts))

    def collect(self, policy: Policy, actors: Actors, key: PRNGKeyArray) -> tuple[Actors, Trajectory, Finished]:
        """``T`` steps of every environment."""
        env = AutoReset(self.env)

        def step(actors: Actors, keys: tuple[Key[Array, " B"], ...]) -> tuple[Actors, tuple[TimeStep, Array, Finished]]:
            act_keys, env_keys = keys
            act = jax.vmap(lambda c, ts, k: policy.act(c, ts, k, True))
            carry, action = act(actors.carry, actors.ts, act_keys)
            env_state, ts = jax.vmap(env.step)(actors.env, action, env_keys)
            returns = jnp.where(ts.first[:, None], 0.0, actors.returns + ts.reward)
            length = jnp.where(ts.first, 0, actors.length + 1)
            finished = Finished(ts.last, returns, length, jax.vmap(env.outcome)(env_state))
            return Actors(env_state, ts, carry, returns, length), (actors.ts, action, finished)

        # All at once: on a CPU a few keys of one step take as long as those of all.
        keys = jax.vmap(lambda key: step_keys(key, self.num_envs))(jax.random.split(key, self.length))
        end, (ts, action, finished) = jax.lax.scan(step, actors, keys)
        ts = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), ts, end.ts)
        return end, Trajectory(ts, action, actors.carry), finished


def first_keys(seed: Int[Array, ""] | int, num_envs: int) -> tuple[PRNGKeyArray, Key[Array, " B"]]:
    """The keys of iteration 0, which makes the initial state: the learner's, and each environment's."""
    learner_key, env_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
    return learner_key, jax.random.split(env_key, num_envs)


def iteration_keys(seed: Int[Array, ""] | int, iteration: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys that an iteration, counted from 0, collects and learns with."""
    collect_key, learn_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), iteration + 1))
    return collect_key, learn_key


def step_keys(key: PRNGKeyArray, num_envs: int) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    """The keys of a step: each team's to act with, and each environment's."""
    act_keys, env_keys = jax.vmap(lambda key: jax.random.split(key, num_envs))(jax.random.split(key))
    return act_keys, env_keys


def begin_run(learner: Learner, seed: Int[Array, ""] | int, env: Any, ts: TimeStep, length: int) -> RunState:
    """The state before the first iteration.

    Args:
        learner: what will learn.
        seed: of the run.
        env: the environments' state.
        ts: their first time steps ``[B, ...]``.
        length: ``T``, transitions of a trajectory.
    """
    envs = ts.last.shape[0]
    learner_key, _ = first_keys(seed, envs)
    state = learner.algorithm.init(learner_key)
    policy = learner.algorithm.policy(state, 0)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (envs, *x.shape)).copy(), policy.initial_carry())
    actors = Actors(env, ts, carry, jnp.zeros_like(ts.reward), jnp.zeros(envs, jnp.int32))
    start = jnp.zeros((), jnp.int32)

    def example(ts: TimeStep, carry: Any) -> Trajectory:
        act = jax.vmap(lambda c, ts, k: policy.act(c, ts, k, True))
        _, action = act(carry, ts, jax.random.split(learner_key, envs))
        over = lambda steps: lambda x: jnp.broadcast_to(x, (steps, *x.shape))  # noqa: E731
        trajectory = Trajectory(jax.tree.map(over(length + 1), ts), over(length)(action), carry)
        return learner.algorithm.annotate(state, trajectory, start, learner_key)

    memory = learner.memory.init(jax.eval_shape(example, ts, carry))
    return RunState(state, memory, actors, start, jnp.asarray(seed, jnp.int32))


def count_faults(ts: TimeStep) -> Faults:
    return Faults(
        reward_not_finite=(~jnp.isfinite(ts.reward)).sum(dtype=jnp.int32),
        no_available_action=(~ts.avail.any(-1)).sum(dtype=jnp.int32),
        dropped_episodes=jnp.zeros((), jnp.int32),
    )
