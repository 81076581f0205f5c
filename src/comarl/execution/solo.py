"""One agent's greedy policy on its own, cut out of the team's: what is exported."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from comarl.algos.base import Policy
from comarl.algos.coma import Floored
from comarl.algos.ppo import PPOPolicy
from comarl.algos.qlearning import QPolicy
from comarl.algos.relaxed import GumbelDraw, SoftDraw, Tanh
from comarl.algos.stochastic import Acting, Draws, StochasticPolicy
from comarl.errors import ComarlError
from comarl.mixers.base import MASKED
from comarl.nets.agents import AbstractAgent, Agent, Body
from comarl.nets.distributions import Categorical, Gaussian, log_probabilities
from comarl.nets.ensemble import Ensemble
from comarl.types import Action, action_features

Carry = dict[str, Float[Array, "B _"]]
Grounds = dict[str, Float[Array, "B A"]]
LAST_ACTION = "last_action"


class Head(NamedTuple):
    """How the numbers that an agent's head gives become what it does greedily.

    Attributes:
        decide: from them ``[B, outputs]`` and what is available ``[B, A]`` to the actions and what they are chosen by.
        grounds: the names of the latter.
    """

    decide: Callable[[Any, Any], tuple[Action, Grounds]]
    grounds: tuple[str, ...]


def _values(q: Float[Array, "B A"], avail: Bool[Array, "B A"]) -> tuple[Action, Grounds]:
    masked = jnp.where(avail, q, MASKED)
    return jnp.argmax(masked, axis=-1).astype(jnp.int32), {"values": masked}


def _softmax(logits: Float[Array, "B A"], avail: Bool[Array, "B A"]) -> tuple[Action, Grounds]:
    distribution = Categorical.of(logits, avail)
    return distribution.mode(), {"probabilities": jnp.exp(distribution.log_p)}


def _gaussian(outputs: Float[Array, "B two_A"], avail: Bool[Array, "B A"]) -> tuple[Action, Grounds]:
    distribution = Gaussian.of(outputs, avail)
    return distribution.mode(), {"mean": distribution.mean, "std": jnp.exp(distribution.log_std)}


def _tanh(outputs: Float[Array, "B A"], avail: Bool[Array, "B A"]) -> tuple[Action, Grounds]:
    return Tanh().greedy(outputs, avail), {}


def _corner(logits: Float[Array, "B A"], avail: Bool[Array, "B A"]) -> tuple[Action, Grounds]:
    return SoftDraw().greedy(logits, avail), {"probabilities": jnp.exp(log_probabilities(logits, avail))}


HEADS = {
    "values": Head(_values, ("values",)),
    "softmax": Head(_softmax, ("probabilities",)),
    "gaussian": Head(_gaussian, ("mean", "std")),
    "tanh": Head(_tanh, ()),
    "corner": Head(_corner, ("probabilities",)),
}
"""By the name that the manifest has for them."""


class Solo(eqx.Module):
    """One agent, from its own carry, observation and mask; a batch of games at once.

    Everything that it remembers is in the carry, its last action too, and all of it is zero where an episode begins: so
    that nothing must be told of episodes.

    Attributes:
        body: the network.
        head: a name in ``HEADS``.
        obs_dim: ``D``.
        num_actions: ``A``.
        use_last_action: whether the network sees the last action.
        agent: the agent's index.
        agent_ids: length of the one-hot index that the network sees; 0 for none.
    """

    body: Body
    head: str = eqx.field(static=True)
    obs_dim: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    use_last_action: bool = eqx.field(static=True)
    agent: int = eqx.field(static=True)
    agent_ids: int = eqx.field(static=True)

    def initial_carry(self, games: int) -> Carry:
        """Zeros, by name."""
        memory = jax.tree.leaves(self.body.cell.initial_state((games,)))
        carry = dict(zip(self.body.cell.memory_names, memory, strict=True))
        return carry | ({LAST_ACTION: jnp.zeros((games, self.num_actions))} if self.use_last_action else {})

    def __call__(
        self, carry: Carry, observation: Float[Array, "B D"], mask: Bool[Array, "B A"]
    ) -> tuple[Carry, Action, Grounds]:
        """The carry of the next step, the greedy actions ``[B]`` or ``[B, A]``, and what they were chosen by."""
        names = self.body.cell.memory_names
        structure = jax.tree.structure(self.body.cell.initial_state((1,)))
        memory = jax.tree.unflatten(structure, [carry[name] for name in names])
        memory, out = self.body.step(memory, self._inputs(carry, observation))
        action, grounds = HEADS[self.head].decide(out.q, mask)
        after = dict(zip(names, jax.tree.leaves(memory), strict=True))
        if self.use_last_action:
            after[LAST_ACTION] = action_features(action, self.num_actions)
        return after, action, grounds

    def _inputs(self, carry: Carry, observation: Float[Array, "B D"]) -> Float[Array, "B inputs"]:
        parts = [observation]
        if self.use_last_action:
            parts.append(carry[LAST_ACTION])
        if self.agent_ids:
            own = np.eye(self.agent_ids, dtype=np.float32)[[self.agent]]  # a constant of the exported program
            parts.append(jnp.broadcast_to(own, (observation.shape[0], self.agent_ids)))
        return jnp.concatenate(parts, axis=-1)


def solos(policy: Policy, obs_dim: int) -> list[list[Solo]]:
    """Each agent's greedy policies: one, or as many as it draws from.

    Raises:
        ComarlError: if the policy is not made of agents that act by themselves.
    """
    teams, head = _teams_and_head(policy)
    return [[_solo(team, i, head, obs_dim) for team in teams] for i in range(teams[0].num_agents)]


def owners(policy: Policy) -> tuple[int, ...]:
    """For each agent which of the team's networks is its own; agents that share one have the same."""
    (team, *_), _ = _teams_and_head(policy)
    return team.body.owner or (0,) * team.num_agents


def _solo(team: Agent, agent: int, head: str, obs_dim: int) -> Solo:
    return Solo(
        team.body.of(agent),
        head,
        obs_dim,
        team.num_actions,
        team.use_last_action,
        agent,
        team.num_agents if team.use_agent_id else 0,
    )


def _teams_and_head(policy: Policy) -> tuple[list[Agent], str]:
    """What is left of a policy when nobody explores or learns any more; several teams where each agent draws one."""
    match policy:
        case QPolicy():
            return _teams(policy.agent), "values"
        case PPOPolicy():
            return _teams(policy.networks.actor), _head(policy.draws)
        case StochasticPolicy():
            return _teams(policy.actor), _head(policy.acting)
        case _:
            raise ComarlError(f"a policy of the kind {type(policy).__name__} cannot be exported: it is not learned")


def _teams(agents: AbstractAgent) -> list[Agent]:
    match agents:
        case Agent():
            return [agents]
        case Ensemble():
            return [jax.tree.map(lambda w, k=k: w[k], agents.agents) for k in range(agents.size)]
        case _:
            raise ComarlError(f"agents of the kind {type(agents).__name__} cannot be exported")


def _head(acting: Acting) -> str:
    match acting:
        case Draws() if acting.distribution == Gaussian.of:
            return "gaussian"
        case Draws() | Floored() | GumbelDraw():
            return "softmax"
        case Tanh():
            return "tanh"
        case SoftDraw():
            return "corner"
        case _:
            raise ComarlError(f"policies that act by {type(acting).__name__} cannot be exported")
