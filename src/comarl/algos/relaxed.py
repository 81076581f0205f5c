"""What agents do by the outputs of their heads, beside an action that the policies' gradient passes through.

A critic of actions is asked about what the agent would do now, and that must be differentiable: a soft draw in place of
one of several actions (Lowe et al. 2017), or the vector itself (Lillicrap et al. 2016). Each class says how one kind of
action is done, what target policies do, what the gradient goes through, and what actions tell of the policy behind.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.algos.stochastic import Acting
from comarl.nets.distributions import chosen, divergence, entropy, gumbel_softmax, log_probabilities, mode, sample

Outputs = Float[Array, "*batch N A"]
Avail = Bool[Array, "*batch N A"]


@runtime_checkable
class Relaxed(Acting, Protocol):
    """Actions that have a differentiable form; what critics see of them is ``[*batch, N, A]``."""

    def target(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """What target policies do, as critics see it."""
        ...

    def soft(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """What agents would do now, as critics see it, with a gradient in the outputs."""
        ...

    def undecided(self, avail: Avail) -> Bool[Array, "*batch N"]:
        """Whether there is anything for the agent to choose."""
        ...

    def report(self, outputs: Outputs, avail: Avail) -> dict[str, Float[Array, "*batch N"]]:
        """How sure of themselves policies are, by name."""
        ...

    def log_likelihood(self, outputs: Outputs, avail: Avail, done: Outputs) -> Float[Array, "*batch N"]:
        """Of what was done, as critics see it, were it done by these outputs; up to a constant."""
        ...

    def entropy(self, outputs: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """Of the policy, up to a constant."""
        ...

    def divergence(self, outputs: Outputs, guess: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """Kullback and Leibler's, of the policy from a guess of it."""
        ...


class Softmax(eqx.Module):
    """What is common to draws from a softmax, hard and soft ones."""

    def undecided(self, avail: Avail) -> Bool[Array, "*batch N"]:
        """Whether there are two at least to choose from: the share of a single one is always 1."""
        return avail.sum(-1) > 1

    def report(self, outputs: Outputs, avail: Avail) -> dict[str, Float[Array, "*batch N"]]:
        """The entropy of the softmax in nats."""
        return {"entropy": self.entropy(outputs, avail)}

    def log_likelihood(self, outputs: Outputs, avail: Avail, done: Outputs) -> Float[Array, "*batch N"]:
        """Log π of the largest entry, which is a draw from π in a soft draw as in a hard one, at any temperature.

        The cross-entropy with a soft draw itself would fit its mean, which is flatter than π.
        """
        drawn = jnp.argmax(jnp.where(avail, done, -jnp.inf), axis=-1).astype(jnp.int32)
        return chosen(log_probabilities(outputs, avail), drawn)

    def entropy(self, outputs: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """Of the softmax, in nats."""
        return entropy(log_probabilities(outputs, avail))

    def divergence(self, outputs: Outputs, guess: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """Of the softmaxes, in nats."""
        return divergence(log_probabilities(outputs, avail), log_probabilities(guess, avail))


class GumbelDraw(Softmax):
    """One of several actions. Done and stored are hard draws; soft ones are for the gradient alone.

    Attributes:
        temperature: τ of the Gumbel-softmax.
        straight_through: the critic is shown a one-hot draw with the soft one's gradient, and not the soft draw itself.
    """

    temperature: float = eqx.field(static=True, default=1.0)
    straight_through: bool = eqx.field(static=True, default=False)

    def draw(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Int[Array, "*batch N"]:
        """The largest of the noisy logits, of which the soft draw is the softmax."""
        return sample(log_probabilities(outputs, avail), key)

    def greedy(self, outputs: Outputs, avail: Avail) -> Int[Array, "*batch N"]:
        """The largest logit."""
        return mode(log_probabilities(outputs, avail))

    def target(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """A hard draw."""
        return jax.nn.one_hot(self.draw(outputs, avail, key), outputs.shape[-1])

    def soft(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """A soft draw."""
        return gumbel_softmax(log_probabilities(outputs, avail), key, self.temperature, self.straight_through)


class Tanh(eqx.Module):
    """A vector tanh(x), to which exploration adds normal noise; components that an agent does not have are 0.

    Attributes:
        noise: its standard deviation. What it leads to is clipped to [-1, 1].
    """

    noise: float = eqx.field(static=True, default=0.1)

    def draw(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """With noise."""
        noisy = jnp.tanh(outputs) + self.noise * jax.random.normal(key, outputs.shape)
        return jnp.where(avail, jnp.clip(noisy, -1.0, 1.0), 0.0)

    def greedy(self, outputs: Outputs, avail: Avail) -> Outputs:
        """Without noise."""
        return jnp.where(avail, jnp.tanh(outputs), 0.0)

    def target(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """Without noise."""
        del key
        return self.greedy(outputs, avail)

    def soft(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """Without noise."""
        del key
        return self.greedy(outputs, avail)

    def undecided(self, avail: Avail) -> Bool[Array, "*batch N"]:
        """Whether the action has any component."""
        return avail.any(-1)

    def report(self, outputs: Outputs, avail: Avail) -> dict[str, Float[Array, "*batch N"]]:
        """The mean of |tanh(x)|; near 1 hardly any gradient is left."""
        size = jnp.abs(self.greedy(outputs, avail)).sum(-1)
        return {"saturation": size / jnp.maximum(avail.sum(-1), 1)}

    def log_likelihood(self, outputs: Outputs, avail: Avail, done: Outputs) -> Float[Array, "*batch N"]:
        """Of normal noise with a deviation of 1, whatever it was: where the likelihood is greatest does not change."""
        return -0.5 * ((done - self.greedy(outputs, avail)) ** 2).sum(-1)

    def entropy(self, outputs: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """That of the noise, which is the same for all outputs."""
        del avail
        return jnp.zeros(outputs.shape[:-1])

    def divergence(self, outputs: Outputs, guess: Outputs, avail: Avail) -> Float[Array, "*batch N"]:
        """With noise of deviation 1: half the squared distance."""
        return -self.log_likelihood(guess, avail, self.greedy(outputs, avail))


class SoftDraw(Softmax):
    """A vector 2y - 1, where y is a soft draw itself: what the authors of MADDPG execute, store and learn from.

    For worlds that take a mixture of actions, such as ``mpe-continuous``: the critic then sees nothing that could not
    be done. Greedy is the most probable action alone, the corner that soft draws come near to the surer a policy is.
    The authors go on drawing when they evaluate, and the softmax without noise is a mixture that few draws are near.

    Attributes:
        temperature: τ of the Gumbel-softmax.
    """

    temperature: float = eqx.field(static=True, default=1.0)

    def draw(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """A soft draw."""
        return _to_box(gumbel_softmax(log_probabilities(outputs, avail), key, self.temperature), avail)

    def greedy(self, outputs: Outputs, avail: Avail) -> Outputs:
        """The most probable action alone."""
        return _to_box(jax.nn.one_hot(mode(log_probabilities(outputs, avail)), outputs.shape[-1]), avail)

    def target(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """A soft draw."""
        return self.draw(outputs, avail, key)

    def soft(self, outputs: Outputs, avail: Avail, key: PRNGKeyArray) -> Outputs:
        """A soft draw."""
        return self.draw(outputs, avail, key)


def _to_box(y: Outputs, avail: Avail) -> Outputs:
    """From [0, 1] to [-1, 1], for the components that there are."""
    return jnp.where(avail, 2.0 * y - 1.0, 0.0)
