"""Agents that draw their actions."""

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.distributions import log_probabilities, mode, sample
from comarl.types import TimeStep


class StochasticPolicy(eqx.Module):
    """Draws from the softmax of the agents' logits over the available actions; without exploration takes its mode."""

    actor: Agent

    def initial_carry(self) -> AgentCarry:
        """The agents' carry before an episode."""
        return self.actor.initial_carry()

    def act(
        self, carry: AgentCarry, ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[AgentCarry, Int[Array, " N"]]:
        """The agents' next carry and their actions ``[N]``."""
        memory, out = self.actor(carry, ts)
        log_p = log_probabilities(out.q, ts.avail)
        action = sample(log_p, key) if explore else mode(log_p)
        return AgentCarry(memory, action), action
