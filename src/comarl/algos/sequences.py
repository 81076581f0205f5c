"""What every learning rule does with sequences ``[T, B, ...]``."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from comarl.returns import Returns


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


def masked_mean(x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """The mean of ``x`` where ``mask`` holds; 0 if it holds nowhere."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(mask.sum(), 1)
