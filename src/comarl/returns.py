"""Rewards and returns: unbatched functions of one trajectory, to be mapped by the caller.

Names carry time as in the transition ``t-1 -> t``: ``r_t``, ``discount_t`` and ``v_t`` belong to the step arrived at.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

TeamReward = Literal["mean", "sum", "individual"]

Returns = Callable[[Float[Array, " T"], Float[Array, " T"], Float[Array, " T"], Bool[Array, " T"]], Float[Array, " T"]]
"""Targets of one trajectory from ``r_t``, ``discount_t``, ``v_t`` and ``last_t``: see :func:`td_lambda`."""


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
    _require_unbatched("td_lambda", r_t, discount_t, v_t, last_t)
    if lambda_ == 0.0:
        return r_t + discount_t * v_t

    def backward(g_t: Array, x: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        r, d, v, last = x
        g = r + d * jnp.where(last, v, (1 - lambda_) * v + lambda_ * g_t)
        return g, g

    _, g = jax.lax.scan(backward, v_t[-1], (r_t, discount_t, v_t, last_t), reverse=True)
    return g


def n_step(
    r_t: Float[Array, " T"], discount_t: Float[Array, " T"], v_t: Float[Array, " T"], last_t: Bool[Array, " T"], n: int
) -> Float[Array, " T"]:
    r"""n-step returns (Sutton and Barto 2018, eq. 7.1; with maxima for ``v_t`` those of Rainbow and R2D2).

    .. math:: G^{(1)}_{t-1} = r_t + γ_t v_t, \qquad G^{(k)}_{t-1} = r_t + γ_t G^{(k-1)}_t

    Where an episode or the sequence ends before ``n`` steps are over, the return is that of the steps there are, with
    the value of the step arrived at: nothing on termination, ``v_t`` on truncation. Not corrected for actions that a
    greedy team would not have taken.

    Args:
        r_t: rewards ``[T]``.
        discount_t: γ times the environment's discount ``[T]``: 0 on termination, γ on truncation.
        v_t: bootstrap values of the steps arrived at ``[T]``.
        last_t: whether the step arrived at ends an episode ``[T]``.
        n: rewards in a return, at least 1; 1 gives one-step targets.

    Returns:
        ``G_0 ... G_{T-1}``, shape ``[T]``.

    Raises:
        ValueError: if ``n`` is less than 1, or the arrays have batch axes.

    >>> n_step(jnp.ones(3), jnp.ones(3), jnp.zeros(3), jnp.zeros(3, bool), 2)
    Array([2., 2., 1.], dtype=float32)
    """
    _require_unbatched("n_step", r_t, discount_t, v_t, last_t)
    if n < 1:
        raise ValueError(f"n_step sums at least 1 reward, got n={n}")
    ends = last_t.at[-1].set(True)
    g = r_t + discount_t * v_t
    for _ in range(min(n, r_t.size) - 1):
        g = r_t + discount_t * jnp.where(ends, v_t, jnp.roll(g, -1))
    return g


def _require_unbatched(name: str, *arrays: Array) -> None:
    if any(x.ndim != 1 for x in arrays):
        raise ValueError(f"{name} takes one trajectory: map over batches and agents with jax.vmap")
