"""Playing whole episodes with a fixed policy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from comarl.algos.base import Policy
from comarl.envs.base import Env, select

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


def play(env: Env, policy: Policy, keys: Key[Array, " E"], *, explore: bool = False) -> Episodes:
    """Play one episode for each key, side by side, until the last one ends.

    Every episode counts once, however long it is. Nothing of the training is touched: the policy's carry and the
    keys are its own.
    """
    begin_keys, play_keys = jax.vmap(jax.random.split, out_axes=1)(keys)

    def begin(key: Key[Array, ""]) -> tuple[Any, ...]:
        state, ts = env.reset(key)
        return state, ts, policy.initial_carry(), ts.reward, jnp.zeros((), jnp.int32)

    def step(now: tuple[Any, ...], key: Key[Array, ""]) -> tuple[Any, ...]:
        state, ts, carry, returns, length = now
        act_key, env_key = jax.random.split(jax.random.fold_in(key, length))
        carry, action = policy.act(carry, ts, act_key, explore)
        state, ts_next = env.step(state, action, env_key)
        after = (state, ts_next, carry, returns + ts_next.reward, length + 1)
        return select(ts.last, now, after)

    def any_running(now: tuple[Any, ...]) -> Bool[Array, ""]:
        return ~now[1].last.all()

    end = jax.lax.while_loop(any_running, lambda now: jax.vmap(step)(now, play_keys), jax.vmap(begin)(begin_keys))
    # Mapped over the keys as well: a game of one step may have no state at all.
    outcome = jax.vmap(lambda state, _: env.outcome(state))(end[0], keys)
    return Episodes(returns=end[3], length=end[4], outcome=outcome)
