"""Distributions over the actions that are available."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

IMPOSSIBLE = -1e9
"""The logit of an action that is not available: its probability is exactly 0 in 32 bits, and nothing is infinite."""


def log_probabilities(logits: Float[Array, "*batch A"], avail: Bool[Array, "*batch A"]) -> Float[Array, "*batch A"]:
    """Log-probabilities of the softmax over the available actions.

    >>> jnp.exp(log_probabilities(jnp.zeros(3), jnp.array([True, True, False])))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    return jax.nn.log_softmax(jnp.where(avail, logits, IMPOSSIBLE), axis=-1)


def with_floor(
    log_p: Float[Array, "*batch A"], avail: Bool[Array, "*batch A"], epsilon: Float[Array, "*batch"]
) -> Float[Array, "*batch A"]:
    """Log-probabilities of (1 - ε) p + ε / |available|: no available action is rarer than ε / |available|.

    >>> jnp.exp(with_floor(jnp.log(jnp.array([0.9, 0.1])), jnp.array([True, True]), jnp.array(0.5)))
    Array([0.7, 0.3], dtype=float32)
    """
    share = epsilon / avail.sum(-1)
    mixed = jnp.logaddexp(log_p + jnp.log(1 - epsilon)[..., None], jnp.log(share)[..., None])
    return jnp.where(avail, mixed, IMPOSSIBLE)


def sample(log_p: Float[Array, "*batch A"], key: PRNGKeyArray) -> Int[Array, "*batch"]:
    """A draw from each distribution."""
    return jax.random.categorical(key, log_p, axis=-1).astype(jnp.int32)


def gumbel_softmax(
    log_p: Float[Array, "*batch A"], key: PRNGKeyArray, temperature: float, straight_through: bool = False
) -> Float[Array, "*batch A"]:
    r"""A soft draw that the logits have a gradient in (Jang et al. 2017, eq. 2; Maddison et al. 2017).

    .. math:: y = \operatorname{softmax}((\log π + g) / τ), \qquad g \sim \text{Gumbel}(0, 1)

    Its largest entry is at a draw from π. An action of probability 0 stays at 0.

    Args:
        log_p: log-probabilities over the last axis.
        key: of the noise.
        temperature: τ; the smaller, the nearer to a one-hot draw.
        straight_through: gives that one-hot draw itself, with the gradient of y.
    """
    noisy = log_p + jax.random.gumbel(key, log_p.shape)
    soft = jax.nn.softmax(noisy / temperature, axis=-1)
    if not straight_through:
        return soft
    hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), log_p.shape[-1])
    return hard + soft - jax.lax.stop_gradient(soft)


def mode(log_p: Float[Array, "*batch A"]) -> Int[Array, "*batch"]:
    """The most probable action; the lowest index wins ties."""
    return jnp.argmax(log_p, axis=-1).astype(jnp.int32)


def chosen(x: Float[Array, "*batch A"], action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """What ``x`` has for each action that was taken, such as its log-probability."""
    return jnp.take_along_axis(x, action[..., None], axis=-1)[..., 0]


def entropy(log_p: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
    """-Σ p log p in nats; an action of probability 0 adds nothing, to the gradient neither."""
    possible = log_p > 0.5 * IMPOSSIBLE
    return -jnp.sum(jnp.where(possible, jnp.exp(log_p) * jnp.where(possible, log_p, 0.0), 0.0), axis=-1)
