"""What values are measured in: running mean and spread of their targets."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MEMORY = 0.99999
"""How much of the running moments an update keeps (Yu et al. 2022's ValueNorm); at first they are plain means."""

SMALLEST = 1e-2
"""The variance counts as no less than this, so that a constant return does not blow its noise up."""


class ValueScale(NamedTuple):
    """Running mean and variance of each agent's targets, ``[N]``, and the weight of what was seen, which starts at 0.

    While nothing has been seen a value is in units of the reward.
    """

    mean: Float[Array, " N"]
    variance: Float[Array, " N"]
    weight: Float[Array, ""]

    @classmethod
    def fresh(cls, agents: int) -> "ValueScale":
        """Nothing seen yet."""
        return cls(jnp.zeros(agents), jnp.ones(agents), jnp.zeros(()))

    def update(self, target: Float[Array, "T B N"], real: Bool[Array, "T B"]) -> "ValueScale":
        """The moments of what was seen and of more targets, counted where ``real``."""
        count = jnp.maximum(real.sum(), 1)
        mean = jnp.where(real[..., None], target, 0.0).sum((0, 1)) / count
        variance = jnp.where(real[..., None], (target - mean[None, None]) ** 2, 0.0).sum((0, 1)) / count
        weight = MEMORY * self.weight + (1 - MEMORY)
        share = (1 - MEMORY) / weight
        # Moments of a mixture, without the difference of large squares that loses 32-bit variances.
        step = mean - self.mean
        mixed = (1 - share) * (self.variance + share * step**2) + share * variance
        return ValueScale(self.mean + share * step, mixed, weight)

    def normalise(self, value: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """From units of the reward to those of the critic."""
        mean, spread = self._moments(value.ndim)
        return (value - mean) / spread

    def restore(self, value: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """From the critic's units to those of the reward."""
        mean, spread = self._moments(value.ndim)
        return value * spread + mean

    def _moments(self, rank: int) -> tuple[Array, Array]:
        spread = jnp.sqrt(jnp.maximum(self.variance, SMALLEST))
        shape = (1,) * (rank - 1) + self.mean.shape
        return self.mean.reshape(shape), spread.reshape(shape)
