"""Agents that draw their actions."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.nets.agents import AbstractAgent, AgentCarry
from comarl.nets.distributions import Categorical, Distribution, log_probabilities, mode, sample, with_floor
from comarl.types import Action, TimeStep


@runtime_checkable
class Acting(Protocol):
    """How what the agents' heads give becomes actions; a pytree."""

    def draw(
        self, outputs: Float[Array, "*batch N outputs"], avail: Bool[Array, "*batch N A"], key: PRNGKeyArray
    ) -> Action:
        """What is done to explore."""
        ...

    def greedy(self, outputs: Float[Array, "*batch N outputs"], avail: Bool[Array, "*batch N A"]) -> Action:
        """What is done to be judged."""
        ...


class Draws(eqx.Module):
    """Draws from a distribution, and its mode.

    Attributes:
        distribution: from outputs and what is available to a distribution, such as ``Categorical.of``.
    """

    distribution: Callable[[Any, Any], Distribution] = eqx.field(static=True, default=Categorical.of)

    def draw(
        self, outputs: Float[Array, "*batch N outputs"], avail: Bool[Array, "*batch N A"], key: PRNGKeyArray
    ) -> Action:
        """A draw."""
        return self.distribution(outputs, avail).sample(key)

    def greedy(self, outputs: Float[Array, "*batch N outputs"], avail: Bool[Array, "*batch N A"]) -> Action:
        """The mode."""
        return self.distribution(outputs, avail).mode()


class Floored(eqx.Module):
    """Draws from the softmax with the floor of :func:`comarl.nets.distributions.with_floor`, and the mode without it.

    Attributes:
        epsilon: ε.
    """

    epsilon: Float[Array, ""]

    def draw(
        self, outputs: Float[Array, "*batch N A"], avail: Bool[Array, "*batch N A"], key: PRNGKeyArray
    ) -> Int[Array, "*batch N"]:
        """A draw."""
        log_p = log_probabilities(outputs, avail)
        return sample(with_floor(log_p, avail, jnp.broadcast_to(self.epsilon, log_p.shape[:-1])), key)

    def greedy(self, outputs: Float[Array, "*batch N A"], avail: Bool[Array, "*batch N A"]) -> Int[Array, "*batch N"]:
        """The mode: where ε is 1 the floor would make all alike."""
        return mode(log_probabilities(outputs, avail))


class StochasticPolicy(eqx.Module):
    """Draws the agents' actions; without exploration acts greedily.

    Attributes:
        actor: the agents.
        acting: what is made of their outputs; the softmax over the available actions if left out.
    """

    actor: AbstractAgent
    acting: Acting = Draws()

    def initial_carry(self) -> AgentCarry:
        """The agents' carry before an episode."""
        return self.actor.initial_carry()

    def act(self, carry: AgentCarry, ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[AgentCarry, Action]:
        """The agents' next carry and their actions."""
        memory, out = self.actor(self.actor.seeded(carry, key), ts)
        action = self.acting.draw(out.q, ts.avail, key) if explore else self.acting.greedy(out.q, ts.avail)
        return AgentCarry(memory, action), action
