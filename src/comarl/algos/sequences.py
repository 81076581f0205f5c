"""What every learning rule does with sequences ``[T, B, ...]``."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from comarl.nets.agents import AbstractAgent, AgentCarry, Utilities
from comarl.returns import Returns
from comarl.types import Action, TimeStep, Trajectory


def unroll(agent: AbstractAgent, trajectory: Trajectory, *, stored_state: bool, burn_in: int) -> Utilities:
    """What the agents compute at the steps after the burn-in, ``[T + 1 - burn_in, B, N, ...]``.

    Args:
        agent: the online or a target network.
        trajectory: its carry is the agents' own.
        stored_state: whether sequences begin with the memory they were collected with, else with an empty one.
        burn_in: steps that only warm the memory up; no loss reaches back into them.
    """
    ts, action, carry = trajectory.ts, trajectory.action, trajectory.carry
    if not stored_state:
        carry = agent.forgetful(carry)
    if k := burn_in:
        memory, _ = agent.unroll(carry, jax.tree.map(lambda x: x[:k], ts), action[: k - 1])
        carry = AgentCarry(jax.lax.stop_gradient(memory), action[k - 1])
    return agent.unroll(carry, jax.tree.map(lambda x: x[k:], ts), action[k:])[1]


def learned_steps(trajectory: Trajectory, burn_in: int) -> tuple[TimeStep, Action]:
    """The time steps after the burn-in and what was done at all but the last of them."""
    return jax.tree.map(lambda x: x[burn_in:], trajectory.ts), trajectory.action[burn_in:]


def acted_steps(trajectory: Trajectory, burn_in: int) -> tuple[TimeStep, Action]:
    """The time steps after the burn-in that were acted on, and what was done there."""
    ts, action = learned_steps(trajectory, burn_in)
    return jax.tree.map(lambda x: x[:-1], ts), action


def deciding(ts: TimeStep) -> Bool[Array, "T B N"]:
    """Who had a choice at a step that was acted on; a dead agent, for one, has a single action."""
    return ~ts.last[..., None] & (ts.avail.sum(-1) > 1)


def sequence_returns(
    returns: Returns,
    reward: Float[Array, "T B *agents"],
    discount: Float[Array, "T B"],
    v: Float[Array, "T B *values"],
    last: Bool[Array, "T B"],
) -> Float[Array, "T B *values"]:
    """The returns of every sequence, and of every agent where values are per agent.

    Args:
        returns: of one trajectory, such as :func:`comarl.returns.td_lambda`.
        reward: of the team ``[T, B]``, or per agent ``[T, B, N]`` if values are; a team's is every agent's.
        discount: γ times the environment's.
        v: bootstrap values of the steps arrived at.
        last: whether the step arrived at ends an episode.
    """
    mapped = jax.vmap(returns, in_axes=1, out_axes=1)
    if v.ndim == 3:
        reward = jnp.broadcast_to(reward.reshape(*reward.shape[:2], -1), v.shape)
        mapped = jax.vmap(mapped, in_axes=(2, None, 2, None), out_axes=2)
    return mapped(reward, discount, v, last)


def per_agent(mask: Bool[Array, "T B"], like: Float[Array, "T B N"]) -> Bool[Array, "T B N"]:
    """The same for every agent."""
    return jnp.broadcast_to(mask[..., None], like.shape)


def masked_mean(x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of ``x`` where ``mask`` holds; 0 if it holds nowhere."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(mask.sum(), 1)
