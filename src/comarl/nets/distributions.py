"""What agents with policies draw from: distributions over the actions that are available, and over vectors."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.types import Action

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


def divergence(log_p: Float[Array, "*batch A"], log_q: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
    """Kullback and Leibler's Σ p (log p - log q) in nats, over actions that are available to both.

    >>> divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75])))
    Array(0.14384104, dtype=float32)
    """
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


@runtime_checkable
class Distribution(Protocol):
    """Every agent's distribution over its own actions, in the moments ``[*batch]``."""

    @property
    def undecided(self) -> Bool[Array, "*batch N"]:
        """Whether there is anything for the agent to choose."""
        ...

    def sample(self, key: PRNGKeyArray) -> Action:
        """A draw for each agent."""
        ...

    def mode(self) -> Action:
        """What to do greedily."""
        ...

    def log_prob(self, action: Action) -> Float[Array, "*batch N"]:
        """Log-probabilities, or log-densities, of each agent's action."""
        ...

    def entropy(self) -> Float[Array, "*batch N"]:
        """In nats."""
        ...


class Categorical(NamedTuple):
    """One of the actions that are available.

    Attributes:
        log_p: log-probabilities.
        avail: what is available.
    """

    log_p: Float[Array, "*batch N A"]
    avail: Bool[Array, "*batch N A"]

    @classmethod
    def of(cls, outputs: Float[Array, "*batch N A"], avail: Bool[Array, "*batch N A"]) -> "Categorical":
        """The softmax of logits."""
        return cls(log_probabilities(outputs, avail), avail)

    @property
    def undecided(self) -> Bool[Array, "*batch N"]:
        """Whether there are two actions at least."""
        return self.avail.sum(-1) > 1

    def sample(self, key: PRNGKeyArray) -> Int[Array, "*batch N"]:
        """A draw for each agent."""
        return sample(self.log_p, key)

    def mode(self) -> Int[Array, "*batch N"]:
        """The most probable actions."""
        return mode(self.log_p)

    def log_prob(self, action: Int[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """Log π(u)."""
        return chosen(self.log_p, action)

    def entropy(self) -> Float[Array, "*batch N"]:
        """-Σ π log π."""
        return entropy(self.log_p)


LOG_STD, LOG_STD_REACH = -1.0, 2.0
"""log σ where the network says 0, and how far it can come from there: σ lies in [.05, 2.7] and begins near .37."""


class Gaussian(NamedTuple):
    r"""Independent normal distributions of an action's components, which environments clip to [-1, 1].

    Not squashed: the density of what was drawn is exact, and it is the drawn number that is stored.

    Attributes:
        mean: μ.
        log_std: log σ.
        avail: the components that an agent's action has; the others are 0 and count for nothing.
    """

    mean: Float[Array, "*batch N A"]
    log_std: Float[Array, "*batch N A"]
    avail: Bool[Array, "*batch N A"]

    @classmethod
    def of(cls, outputs: Float[Array, "*batch N two_A"], avail: Bool[Array, "*batch N A"]) -> "Gaussian":
        r"""From ``[μ, x]``, where :math:`\log σ = -1 + 2 \tanh(x / 2)`.

        The network gives both, so that whoever shares parameters shares σ too, and it may depend on what is seen. It is
        bounded smoothly: an entropy bonus drives it no further, and it always finds back.
        """
        mean, x = jnp.split(outputs, 2, axis=-1)
        log_std = LOG_STD + LOG_STD_REACH * jnp.tanh(x / LOG_STD_REACH)
        return cls(mean, log_std, avail)

    @property
    def undecided(self) -> Bool[Array, "*batch N"]:
        """Whether the action has any component."""
        return self.avail.any(-1)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*batch N A"]:
        """A draw for each agent; not clipped."""
        return self._own(self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape))

    def mode(self) -> Float[Array, "*batch N A"]:
        """The means, clipped to [-1, 1] as environments do."""
        return self._own(jnp.clip(self.mean, -1.0, 1.0))

    def log_prob(self, action: Float[Array, "*batch N A"]) -> Float[Array, "*batch N"]:
        """Log π(u), the sum over the agent's own components."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return self._own(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Float[Array, "*batch N"]:
        """Σ log σ + ½ log 2πe over the agent's own components."""
        return self._own(self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def _own(self, x: Float[Array, "*batch N A"]) -> Float[Array, "*batch N A"]:
        return jnp.where(self.avail, x, 0.0)
