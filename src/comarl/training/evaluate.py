"""Playing whole episodes with a fixed policy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from comarl.algos.base import Policy
from comarl.envs.base import Env, select
from comarl.types import TimeStep

EVALUATION_SEED = 0x5EED
"""Every evaluation of every method and seed plays the same episodes' keys, so that differences are paired."""


class Episodes(NamedTuple):
    """Raw results of ``E`` episodes.

    Attributes:
        returns: undiscounted sum of each agent's rewards ``[E, N]``.
        length: transitions ``[E]``.
        outcome: what :meth:`Env.outcome` reports, each ``[E]``.
    """

    returns: Float[Array, "E N"]
    length: Int[Array, " E"]
    outcome: dict[str, Float[Array, " E"]]


def evaluation_keys(episodes: int) -> Key[Array, " E"]:
    """The fixed keys of ``episodes`` episodes; the first ones stay the same when more are asked for."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(EVALUATION_SEED), jnp.arange(episodes))


class Playing(NamedTuple):
    """An episode under way: the environment's state, what is perceived, the policy's carry, and the sums so far."""

    env: Any
    ts: TimeStep
    carry: Any
    returns: Float[Array, " N"]
    length: Int[Array, ""]


def play(env: Env, policy: Policy, keys: Key[Array, " E"], *, explore: bool = False) -> Episodes:
    """Play one episode for each key, side by side, until the last one ends.

    Every episode counts once, however long it is. Nothing of the training is touched: the policy's carry and the
    keys are its own.
    """
    begin_keys, play_keys = jax.vmap(jax.random.split, out_axes=1)(keys)

    def step(now: Playing, key: Key[Array, ""]) -> Playing:
        return _step(env, policy, now, key, explore)[0]

    def any_running(now: Playing) -> Bool[Array, ""]:
        return ~now.ts.last.all()

    begun = jax.vmap(lambda key: _begin(env, policy, key))(begin_keys)
    end = jax.lax.while_loop(any_running, lambda now: jax.vmap(step)(now, play_keys), begun)
    # Mapped over the keys as well: a game of one step may have no state at all.
    outcome = jax.vmap(lambda state, _: env.outcome(state))(end.env, keys)
    return Episodes(returns=end.returns, length=end.length, outcome=outcome)


class Recorded(NamedTuple):
    """An episode step by step; what stands beyond its ``length`` transitions repeats its last time step.

    Attributes:
        ts: what was perceived, ``[T + 1, ...]`` with T the environment's limit.
        action: what was done at ``ts[:-1]``, ``[T, N]``.
        carry: the policy's before the episode.
        length: transitions.
        outcome: what :meth:`Env.outcome` reports.
    """

    ts: TimeStep
    action: Int[Array, "T N"]
    carry: Any
    length: Int[Array, ""]
    outcome: dict[str, Float[Array, ""]]


def record(env: Env, policy: Policy, key: Key[Array, ""]) -> Recorded:
    """Play the greedy episode that :func:`play` plays for ``key``, and keep every step."""
    begin_key, play_key = jax.random.split(key)
    begun = _begin(env, policy, begin_key)

    def step(now: Playing, _: None) -> tuple[Playing, tuple[TimeStep, Array]]:
        after, action = _step(env, policy, now, play_key, False)
        return after, (after.ts, action)

    end, (later, action) = jax.lax.scan(step, begun, length=env.spec.max_episode_steps)
    ts = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), begun.ts, later)
    return Recorded(ts, action, begun.carry, end.length, env.outcome(end.env))


def _begin(env: Env, policy: Policy, key: Key[Array, ""]) -> Playing:
    state, ts = env.reset(key)
    return Playing(state, ts, policy.initial_carry(), ts.reward, jnp.zeros((), jnp.int32))


def _step(
    env: Env, policy: Policy, now: Playing, key: Key[Array, ""], explore: bool
) -> tuple[Playing, Int[Array, " N"]]:
    """One transition, with the keys of its place in the episode; an episode that has ended stays as it is."""
    act_key, env_key = jax.random.split(jax.random.fold_in(key, now.length))
    carry, action = policy.act(now.carry, now.ts, act_key, explore)
    state, ts = env.step(now.env, action, env_key)
    return select(now.ts.last, now, Playing(state, ts, carry, now.returns + ts.reward, now.length + 1)), action
