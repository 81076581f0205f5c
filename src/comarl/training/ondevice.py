"""The on-device driver: collect, learn and evaluate in one compiled function."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

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
    """What an environment must never do, counted."""

    reward_not_finite: Int[Array, "*time"]
    no_available_action: Int[Array, "*time"]


class ChunkLog(NamedTuple):
    """What a chunk of iterations reports to the host.

    Attributes:
        metrics: the learner's, one per iteration ``[K]``, NaN before learning starts.
        finished: training episodes ``[K, T, B]``.
        faults: counts per iteration ``[K]``.
        evaluation: greedy episodes played after the chunk.
    """

    metrics: dict[str, Float[Array, " K"]]
    finished: Finished
    faults: Faults
    evaluation: Episodes


@dataclasses.dataclass(frozen=True)
class OnDevice:
    """Runs an environment written in JAX and the learner inside one compiled loop.

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
        learner_key, env_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
        state = self.learner.algorithm.init(learner_key)
        env_state, ts = jax.vmap(AutoReset(self.env).reset)(jax.random.split(env_key, self.num_envs))
        policy = self.learner.algorithm.policy(state, 0)
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_envs, *x.shape)).copy(), policy.initial_carry())
        actors = Actors(env_state, ts, carry, jnp.zeros_like(ts.reward), jnp.zeros(self.num_envs, jnp.int32))
        start, annotate = jnp.zeros((), jnp.int32), self.learner.algorithm.annotate
        collect = lambda a: self.collect(policy, a, learner_key)[1]  # noqa: E731
        example = jax.eval_shape(lambda a: annotate(state, collect(a), start, learner_key), actors)
        memory = self.learner.memory.init(example)
        return RunState(state, memory, actors, start, jnp.asarray(seed, jnp.int32))

    def chunk(self, run: RunState) -> tuple[RunState, ChunkLog]:
        """``iterations`` iterations and an evaluation."""
        run, (metrics, finished, faults) = jax.lax.scan(self._iterate, run, length=self.iterations)
        policy = self.learner.algorithm.policy(run.learner, run.iteration * self.steps_per_iteration)
        evaluation = play(self.env, policy, evaluation_keys(self.episodes))
        return run, ChunkLog(metrics, finished, faults, evaluation)

    def _iterate(self, run: RunState, _: None) -> tuple[RunState, tuple[dict[str, Array], Finished, Faults]]:
        # Iteration 0 of the key stream made the initial state.
        key = jax.random.fold_in(jax.random.key(run.seed), run.iteration + 1)
        collect_key, learn_key = jax.random.split(key)
        policy = self.learner.algorithm.policy(run.learner, run.iteration * self.steps_per_iteration)
        actors, trajectory, finished = self.collect(policy, run.actors, collect_key)
        state, memory, metrics = self.learner.step(run.learner, run.memory, trajectory, run.iteration, learn_key)
        run = RunState(state, memory, actors, run.iteration + 1, run.seed)
        return run, (metrics, finished, _faults(trajectory.ts))

    def collect(self, policy: Policy, actors: Actors, key: PRNGKeyArray) -> tuple[Actors, Trajectory, Finished]:
        """``T`` steps of every environment."""
        env = AutoReset(self.env)

        def step(actors: Actors, key: PRNGKeyArray) -> tuple[Actors, tuple[TimeStep, Array, Finished]]:
            act_key, env_key = jax.random.split(key)
            act = jax.vmap(lambda c, ts, k: policy.act(c, ts, k, True))
            carry, action = act(actors.carry, actors.ts, jax.random.split(act_key, self.num_envs))
            env_state, ts = jax.vmap(env.step)(actors.env, action, jax.random.split(env_key, self.num_envs))
            returns = jnp.where(ts.first[:, None], 0.0, actors.returns + ts.reward)
            length = jnp.where(ts.first, 0, actors.length + 1)
            finished = Finished(ts.last, returns, length, jax.vmap(env.outcome)(env_state))
            return Actors(env_state, ts, carry, returns, length), (actors.ts, action, finished)

        end, (ts, action, finished) = jax.lax.scan(step, actors, jax.random.split(key, self.length))
        ts = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), ts, end.ts)
        return end, Trajectory(ts, action, actors.carry), finished


def _faults(ts: TimeStep) -> Faults:
    return Faults(
        reward_not_finite=(~jnp.isfinite(ts.reward)).sum(dtype=jnp.int32),
        no_available_action=(~ts.avail.any(-1)).sum(dtype=jnp.int32),
    )
