"""The sizes of an environment. Nothing here imports JAX: processes that step Python environments know them too."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """The sizes and the meaning of an environment's arrays.

    Attributes:
        name: the name in the registry, such as ``smax/3m``.
        num_agents: ``N``.
        obs_dim: ``D``.
        state_dim: ``S``.
        num_actions: ``A``.
        max_episode_steps: no episode has more transitions than this.
        agent_types: one number per agent; agents of equal type may share parameters. Empty: all of one type.
        units: where in the state the features of each agent stand, ``(start, stop)``, all of one length; empty if the
            state is not made like that.
        outcomes: names of what :meth:`comarl.envs.base.Env.outcome` reports, such as ``won``.
        reward: how the environment's reward is meant, for the reports.
        continuous: whether an agent's action is a vector of ``A`` numbers in [-1, 1] rather than one of ``A`` actions.
        opposed: whether some agents gain what others lose, so that no single reward can stand for all.
        sides: where agents are opposed, which side each of them is on, by name. Empty: two types of agents are two
            sides, and so are two agents.
    """

    name: str
    num_agents: int
    obs_dim: int
    state_dim: int
    num_actions: int
    max_episode_steps: int
    agent_types: tuple[int, ...] = ()
    units: tuple[tuple[int, int], ...] = ()
    outcomes: tuple[str, ...] = ()
    reward: str = "shared by the team"
    continuous: bool = False
    opposed: bool = False
    sides: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[int, ...]:
        """``agent_types``, one number per agent even where the environment names none."""
        return self.agent_types or (0,) * self.num_agents

    @property
    def action_form(self) -> "jax.ShapeDtypeStruct":
        """Shape and dtype of a joint action."""
        import jax
        import jax.numpy as jnp

        if self.continuous:
            return jax.ShapeDtypeStruct((self.num_agents, self.num_actions), jnp.float32)
        return jax.ShapeDtypeStruct((self.num_agents,), jnp.int32)
