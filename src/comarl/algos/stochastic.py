"""Agents that draw their actions."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.distributions import log_probabilities, mode, sample, with_floor
from comarl.types import TimeStep


class StochasticPolicy(eqx.Module):
    """Draws from the softmax of the agents' logits over the available actions; without exploration takes its mode.

    Attributes:
        actor: the agents.
        epsilon: the floor of :func:`comarl.nets.distributions.with_floor`, of draws alone; None without one.
    """

    actor: Agent
    epsilon: Float[Array, ""] | None = None

    def initial_carry(self) -> AgentCarry:
        """The agents' carry before an episode."""
        return self.actor.initial_carry()

    def act(
        self, carry: AgentCarry, ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[AgentCarry, Int[Array, " N"]]:
        """The agents' next carry and their actions ``[N]``."""
        memory, out = self.actor(carry, ts)
        log_p = log_probabilities(out.q, ts.avail)
        action = sample(self._floored(log_p, ts), key) if explore else mode(log_p)
        return AgentCarry(memory, action), action

    def _floored(self, log_p: Float[Array, "N A"], ts: TimeStep) -> Float[Array, "N A"]:
        if self.epsilon is None:
            return log_p
        return with_floor(log_p, ts.avail, jnp.broadcast_to(self.epsilon, log_p.shape[:-1]))
