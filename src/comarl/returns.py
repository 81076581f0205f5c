"""Rewards and returns: unbatched functions of one trajectory, to be mapped by the caller.

Names carry time as in the transition ``t-1 -> t``: ``r_t``, ``discount_t`` and ``v_t`` belong to the step arrived at.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

TeamReward = Literal["mean", "sum", "individual"]


def form_team_reward(
    reward: Float[Array, "*batch N"], how: TeamReward
) -> Float[Array, "*batch"] | Float[Array, "*batch N"]:
    """The reward that is learned from, made from the agents' rewards.

    Args:
        reward: one per agent, ``[..., N]``.
        how: ``mean`` (a shared reward stays what it is) or ``sum`` over the agents, or ``individual``: as they are.

    >>> form_team_reward(jnp.array([1.0, 3.0]), "mean")
    Array(2., dtype=float32)
    """
    match how:
        case "mean":
            return reward.mean(-1)
        case "sum":
            return reward.sum(-1)
        case "individual":
            return reward


def td_lambda(
    r_t: Float[Array, " T"],
    discount_t: Float[Array, " T"],
    v_t: Float[Array, " T"],
    last_t: Bool[Array, " T"],
    lambda_: float,
) -> Float[Array, " T"]:
    r"""λ-returns, computed backwards (Sutton and Barto 2018, eq. 12.20; Peng's Q(λ) if ``v_t`` is a maximum).

    .. math:: G_{t-1} = r_t + γ_t [(1 - λ) v_t + λ G_t]

    The recursion starts anew wherever an episode ends: there, and at the end of the sequence, :math:`G_t = v_t`.
    ``λ = 0`` gives one-step targets.

    Args:
        r_t: rewards ``[T]``.
        discount_t: γ times the environment's discount ``[T]``: 0 on termination, γ on truncation.
        v_t: bootstrap values of the steps arrived at ``[T]``.
        last_t: whether the step arrived at ends an episode ``[T]``.
        lambda_: λ in [0, 1].

    Returns:
        ``G_0 ... G_{T-1}``, shape ``[T]``.

    >>> td_lambda(jnp.ones(3), jnp.ones(3), jnp.zeros(3), jnp.zeros(3, bool), 1.0)
    Array([3., 2., 1.], dtype=float32)
    """
    if not r_t.ndim == discount_t.ndim == v_t.ndim == last_t.ndim == 1:
        raise ValueError("td_lambda takes one trajectory: map over batches and agents with jax.vmap")
    if lambda_ == 0.0:
        return r_t + discount_t * v_t

    def backward(g_t: Array, x: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        r, d, v, last = x
        g = r + d * jnp.where(last, v, (1 - lambda_) * v + lambda_ * g_t)
        return g, g

    _, g = jax.lax.scan(backward, v_t[-1], (r_t, discount_t, v_t, last_t), reverse=True)
    return g
