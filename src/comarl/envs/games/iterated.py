"""Matrix games played again and again by the same two agents, who remember the last round."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep
from comarl.envs.games.matrix import PAYOFFS
from comarl.types import EnvSpec, TimeStep

ROUNDS = 25
"""As in Papoudakis et al. 2021, §4.1."""

OWN_PAYOFFS: dict[str, list[list[tuple[float, float]]]] = {
    # Foerster et al. 2018b (LOLA), tables 1 and 2: actions cooperate, defect; heads, tails.
    "prisoners": [[(-1, -1), (-3, 0)], [(0, -3), (-2, -2)]],
    "pennies": [[(1, -1), (-1, 1)], [(-1, 1), (1, -1)]],
    # Skyrms 2004: stag, hare. Hunting the stag together is best, the hare alone is safe.
    "stag-hunt": [[(4, 4), (0, 3)], [(3, 0), (3, 3)]],
    # Rapoport and Chammah 1966: swerve, drive on. Two equilibria, each the better one for one agent.
    "chicken": [[(0, 0), (-1, 1)], [(1, -1), (-10, -10)]],
    # Luce and Raiffa 1957: Bach, Stravinsky.
    "bach-stravinsky": [[(2, 1), (0, 0)], [(0, 0), (1, 2)]],
}
"""The payoffs of both agents in ``iterated/<name>``: the first agent picks the row."""


def _penalty(k: float) -> list[list[float]]:
    return [[10.0, 0.0, k], [0.0, 2.0, 0.0], [k, 0.0, 10.0]]


SHARED_PAYOFFS: dict[str, list[list[float]]] = {
    "climbing": PAYOFFS["climbing"],
    # Claus and Boutilier 1998: the penalty game with each k that Papoudakis et al. 2021 play.
    **{f"penalty-{cost}": _penalty(-float(cost)) for cost in (0, 25, 50, 75, 100)},
}
"""The team's payoffs in ``iterated/<name>``."""


class Rounds(NamedTuple):
    """How far the game is; ``action`` and ``reward`` are those of the last round, meaningless before the first."""

    round: Int[Array, ""]
    action: Int[Array, " 2"]
    reward: Float[Array, " 2"]


class IteratedGame(ObservedEnv):
    """Two agents play a matrix game for :data:`ROUNDS` rounds.

    Each sees the last round: its own action, then the other's, both one-hot ``[2 A]``, zeros before the first. The
    global state is what the first agent sees. Nothing ends with the last round, which is a time limit: values are
    bootstrapped through it, for otherwise agents that could count would know that nothing follows it.

    Args:
        name: the name in the registry.
        payoff: what each agent gets ``[A, A, 2]``; the first agent picks the row.
    """

    def __init__(self, name: str, payoff: np.ndarray):
        self.payoff = np.asarray(payoff, np.float32)
        shared = bool((self.payoff[..., 0] == self.payoff[..., 1]).all())
        actions = self.payoff.shape[0]
        self.spec = EnvSpec(
            name=name,
            num_agents=2,
            obs_dim=2 * actions,
            state_dim=2 * actions,
            num_actions=actions,
            max_episode_steps=ROUNDS,
            reward="shared by the team" if shared else "per agent",
            opposed=not shared and bool(np.ptp(self.payoff.sum(-1)) == 0),
        )

    def begin(self, key: PRNGKeyArray) -> Rounds:
        del key
        return Rounds(jnp.zeros((), jnp.int32), jnp.zeros(2, jnp.int32), jnp.zeros(2))

    def advance(self, state: Rounds, action: Int[Array, " 2"], key: PRNGKeyArray) -> Rounds:
        del key
        return Rounds(state.round + 1, action, jnp.asarray(self.payoff)[tuple(action)])

    def observe(self, state: Rounds) -> TimeStep:
        first: Bool[Array, ""] = state.round == 0
        done = jnp.where(first, 0.0, jax.nn.one_hot(state.action, self.spec.num_actions))
        obs = jnp.stack([done.reshape(-1), done[::-1].reshape(-1)])
        return make_timestep(
            obs,
            obs[0],
            num_actions=self.spec.num_actions,
            reward=state.reward,
            truncated=state.round == ROUNDS,
            first=first,
        )


def make(variant: str) -> IteratedGame:
    """The game ``iterated/<variant>`` of :data:`OWN_PAYOFFS` or :data:`SHARED_PAYOFFS`."""
    name = f"iterated/{variant}"
    if variant in OWN_PAYOFFS:
        return IteratedGame(name, np.array(OWN_PAYOFFS[variant]))
    shared = np.array(SHARED_PAYOFFS[variant])
    return IteratedGame(name, np.stack([shared, shared], axis=-1))
