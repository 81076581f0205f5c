"""Teams made of agents that were trained in different ones."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.algos.base import Policy
from comarl.types import Action, TimeStep


class MixedTeam(NamedTuple):
    """A team whose agents come from several others: each acts by its own team's networks, on its own history.

    Every source acts as a whole and keeps a carry of its own, and of its joint action only its own agents' part is
    carried out. What it would have the others do makes no difference: an agent's memory and last action are its own.
    All sources get the same key, of which each agent's draws are a part of its own. So a mixture of a team with itself
    does exactly what the team does, and no two agents draw alike.

    Attributes:
        sources: policies for the same environment; agents of each act apart.
        whose: the source that each agent comes from ``[N]``.
    """

    sources: tuple[Policy, ...]
    whose: Int[Array, " N"]

    def initial_carry(self) -> tuple[Any, ...]:
        """The carry of each source before an episode."""
        return tuple(source.initial_carry() for source in self.sources)

    def act(
        self, carry: tuple[Any, ...], ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[tuple[Any, ...], Action]:
        """The sources' next carries and the joint action ``[N]`` or ``[N, A]``."""
        acted = [source.act(before, ts, key, explore) for source, before in zip(self.sources, carry, strict=True)]
        actions = jnp.stack([action for _, action in acted])
        return tuple(after for after, _ in acted), actions[self.whose, jnp.arange(self.whose.shape[0])]
