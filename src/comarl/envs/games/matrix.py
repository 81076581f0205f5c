"""Matrix games: every agent picks one action, the team gets the payoff of the joint action, and that is all."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, make_timestep
from comarl.types import EnvSpec, TimeStep

PAYOFFS: dict[str, list[list[float]]] = {
    # Son et al. 2019 (QTRAN), table 1.
    "qtran": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]],
    # Wang et al. 2021 (QPLEX), its matrix games 1 and 3 in the authors' code (game 2 is QTRAN's).
    "qplex-1": [[10.4, 0, 10], [0, 10, 10], [10, 10, 10]],
    "qplex-3": [[8, -12, -12], [-12, 6, 0], [-12, 0, 6]],
    # Claus and Boutilier 1998: the climbing game, and the penalty game with k = -100.
    "climbing": [[11, -30, 0], [-30, 7, 6], [0, 0, 5]],
    "penalty": [[10, 0, -100], [0, 2, 0], [-100, 0, 10]],
}
"""The payoffs of ``matrix/<name>``: the first agent picks the row."""


class MatrixGame(Env):
    """A one-step game of any number of agents.

    There is a single state, so observations and state are the constant 1; every episode is one transition and
    terminates. Agents may have different numbers of actions: the smaller sets are padded and masked.

    Attributes:
        payoff: what the team gets, one axis per agent ``[A_1, ..., A_N]``.
    """

    def __init__(self, name: str, payoff: np.ndarray):
        self.payoff = np.asarray(payoff, np.float32)
        sizes = np.array(self.payoff.shape)
        self._avail = np.arange(sizes.max()) < sizes[:, None]
        self.spec = EnvSpec(
            name=name,
            num_agents=len(sizes),
            obs_dim=1,
            state_dim=1,
            num_actions=int(sizes.max()),
            max_episode_steps=1,
        )

    def reset(self, key: PRNGKeyArray) -> tuple[tuple[()], TimeStep]:
        del key
        return (), self._timestep(first=True)

    def step(self, state: tuple[()], action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[tuple[()], TimeStep]:
        del key
        return state, self._timestep(reward=jnp.asarray(self.payoff)[tuple(action)], terminated=True)

    def _timestep(
        self, *, reward: Float[Array, ""] | float = 0.0, terminated: bool = False, first: bool = False
    ) -> TimeStep:
        return make_timestep(
            jnp.ones((self.spec.num_agents, 1)),
            jnp.ones((1,)),
            avail=jnp.asarray(self._avail),
            reward=reward,
            terminated=terminated,
            first=first,
        )


def make(variant: str) -> MatrixGame:
    """The game ``matrix/<variant>`` of :data:`PAYOFFS`."""
    return MatrixGame(f"matrix/{variant}", np.array(PAYOFFS[variant]))
