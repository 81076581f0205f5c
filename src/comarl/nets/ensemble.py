"""Several policies for each agent, of which it draws one for each episode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from comarl.nets.agents import AbstractAgent, Agent, AgentCarry, Utilities
from comarl.types import Action, TimeStep

SEEDING = 0x5EED
"""Tells the key that an ensemble is seeded by from the key of the action drawn at the same moment."""


class Turns(NamedTuple):
    """What says which sub-policies are in use: the draw is a function of it, so that no episode's need be stored.

    Attributes:
        seed: of all draws; zeros until it is drawn itself.
        episode: how many episodes have begun.
    """

    seed: UInt32[Array, "*batch 2"]
    episode: Int[Array, "*batch"]


class EnsembleMemory(NamedTuple):
    """What an ensemble remembers.

    Attributes:
        turns: whose turn it is.
        memory: that of the sub-policies in use, leaves ``[N, H]``.
    """

    turns: Turns
    memory: Any


class Ensemble(AbstractAgent):
    """``K`` sub-policies for each agent (Lowe et al. 2017, §4.3).

    Where an episode begins every agent draws one of its own, by itself, and keeps to it until the end. What it makes of
    a replayed step is what that sub-policy makes of it which took the step: any loss over replayed steps is a loss of
    each sub-policy over its own steps alone, for which the paper has a buffer each. A mean over all steps weighs
    sub-policies by how often it was their turn, which is 1 / K in expectation as in the paper.

    Attributes:
        agents: the sub-policies, each the agents of a whole team; arrays have a leading axis ``K``.
        size: ``K``.
    """

    agents: Agent
    size: int = eqx.field(static=True)

    def __init__(self, make: Callable[[PRNGKeyArray], Agent], size: int, *, key: PRNGKeyArray):
        self.agents = jax.vmap(make)(jax.random.split(key, size))
        self.size = size

    def initial_carry(self) -> AgentCarry:
        """The carry before a first episode, without batch axes."""
        memory, last_action = self.agents.initial_carry()
        turns = Turns(jnp.zeros(2, jnp.uint32), jnp.zeros((), jnp.int32))
        return AgentCarry(EnsembleMemory(turns, memory), last_action)

    def seeded(self, carry: AgentCarry, key: PRNGKeyArray) -> AgentCarry:
        """With a seed for the draws of all episodes, before the first one begins.

        A run's very first sequences are stored with the carry from before that, so that they are learned from by
        sub-policies that did not take the steps; off-policy learning does so with all others that have learned since.
        """
        turns: Turns = carry.memory.turns
        drawn = jax.random.bits(jax.random.fold_in(key, SEEDING), (2,), jnp.uint32)
        turns = turns._replace(seed=jnp.where(turns.episode == 0, drawn, turns.seed))
        return carry._replace(memory=carry.memory._replace(turns=turns))

    def forgetful(self, carry: AgentCarry) -> AgentCarry:
        """With nothing remembered but whose turn it is."""
        turns, memory = carry.memory
        empty = self.agents.forgetful(AgentCarry(memory, carry.last_action)).memory
        return carry._replace(memory=EnsembleMemory(turns, empty))

    def unroll(self, carry: AgentCarry, ts: TimeStep, action: Action) -> tuple[EnsembleMemory, Utilities]:
        """As :meth:`comarl.nets.agents.AbstractAgent.unroll`, of the sub-policies in use at each step."""
        (seed, begun), memory = carry.memory
        episode = begun[None] + jnp.cumsum(ts.first, axis=0, dtype=jnp.int32)
        which = self.in_use(Turns(jnp.broadcast_to(seed, (*episode.shape, 2)), episode))
        # All of them run over all steps. Where an episode begins memories are cleared, so that from there on each has
        # its own; until then the one carried on is that of the sub-policy in use.
        unroll = jax.vmap(Agent.unroll, in_axes=(0, None, None, None))
        after, out = unroll(self.agents, AgentCarry(memory, carry.last_action), ts, action)
        after = jax.tree.map(lambda x: _of(x, which[-1]), after)
        return EnsembleMemory(Turns(seed, episode[-1]), after), jax.tree.map(lambda x: _of(x, which), out)

    def in_use(self, turns: Turns) -> Int[Array, "*batch N"]:
        """Each agent's sub-policy in that episode: uniform, and independent of other agents and episodes."""

        def draw(seed: Array, episode: Array) -> Array:
            key = jax.random.fold_in(jax.random.wrap_key_data(seed, impl="threefry2x32"), episode)
            return jax.random.randint(key, (self.agents.num_agents,), 0, self.size)

        return jnp.vectorize(draw, signature="(k),()->(n)")(turns.seed, turns.episode)


def _of(x: Float[Array, "K *batch N features"], which: Int[Array, "*batch N"]) -> Float[Array, "*batch N features"]:
    """What each agent's sub-policy in use says; the others get no gradient."""
    used = jax.nn.one_hot(which, x.shape[0], axis=0, dtype=bool)
    return jnp.where(used[..., None], x, 0.0).sum(0)
