"""Playing whole episodes with a fixed policy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from comarl.algos.base import Policy
from comarl.envs.base import Env, select
from comarl.types import Action, TimeStep

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


class Moment(NamedTuple):
    """An episode at one time step.

    Attributes:
        state: the environment's.
        ts: what the team perceives.
        carry: the policy's.
        action: the joint action that led here; means nothing at the first step.
        returns: each agent's rewards until now ``[N]``.
        length: transitions until now.
    """

    state: Any
    ts: TimeStep
    carry: Any
    action: Action
    returns: Float[Array, " N"]
    length: Int[Array, ""]


def evaluation_keys(episodes: int) -> Key[Array, " E"]:
    """The fixed keys of ``episodes`` episodes; the first ones stay the same when more are asked for."""
    return jax.vmap(evaluation_key)(jnp.arange(episodes))


def evaluation_key(episode: int | Int[Array, ""]) -> PRNGKeyArray:
    """The key of one of these episodes, counted from 0."""
    return jax.random.fold_in(jax.random.key(EVALUATION_SEED), episode)


def play(env: Env, policy: Policy, keys: Key[Array, " E"], *, explore: bool = False) -> Episodes:
    """Play one episode for each key, side by side, until the last one ends.

    Every episode counts once, however long it is. Nothing of the training is touched: the policy's carry and the
    keys are its own.
    """
    begin, step = _episode(env, policy, explore)

    def unless_over(now: Moment, key: Key[Array, ""]) -> Moment:
        return select(now.ts.last, now, step(now, key))

    def any_running(now: Moment) -> Bool[Array, ""]:
        return ~now.ts.last.all()

    end = jax.lax.while_loop(any_running, lambda now: jax.vmap(unless_over)(now, keys), jax.vmap(begin)(keys))
    # Mapped over the keys as well: a game of one step may have no state at all.
    outcome = jax.vmap(lambda state, _: env.outcome(state))(end.state, keys)
    return Episodes(returns=end.returns, length=end.length, outcome=outcome)


def record(env: Env, policy: Policy, key: Key[Array, ""], *, explore: bool = False) -> list[Moment]:
    """Play the episode that :func:`play` plays for that key, and keep its ``T + 1`` moments, on the host."""
    begin, step = (jax.jit(function) for function in _episode(env, policy, explore))
    moments = [jax.device_get(begin(key))]
    while not moments[-1].ts.last:
        moments.append(jax.device_get(step(moments[-1], key)))
    return moments


def _episode(env: Env, policy: Policy, explore: bool) -> tuple[Callable[..., Moment], Callable[..., Moment]]:
    """How an episode begins, from its key, and goes on, from a moment and the same key."""

    def begin(key: Key[Array, ""]) -> Moment:
        state, ts = env.reset(jax.random.split(key)[0])
        waiting = jnp.zeros(env.spec.action_form.shape, env.spec.action_form.dtype)
        return Moment(state, ts, policy.initial_carry(), waiting, ts.reward, jnp.zeros((), jnp.int32))

    def step(now: Moment, key: Key[Array, ""]) -> Moment:
        act_key, env_key = jax.random.split(jax.random.fold_in(jax.random.split(key)[1], now.length))
        carry, action = policy.act(now.carry, now.ts, act_key, explore)
        state, ts = env.step(now.state, action, env_key)
        return Moment(state, ts, carry, action, now.returns + ts.reward, now.length + 1)

    return begin, step
