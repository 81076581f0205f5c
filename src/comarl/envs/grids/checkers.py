"""Checkers: one agent should eat, the other clear the way (Sunehag et al. 2018, §4.2).

The rules are those of ma-gym's ``Checkers-v0`` (Koul 2019).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep
from comarl.envs.grids.moves import MOVES, NAMES, walk
from comarl.envs.grids.plan import Plan
from comarl.envs.scene import Figure, Item, Scene, places
from comarl.types import EnvSpec, TimeStep

BOARD = (
    "alalal  ",
    "lalala  ",
    "alalal  ",
)
"""Apples and lemons; the agents start on the right."""

STARTS = np.array([[0, 6], [2, 6]])
VALUES = np.array([10.0, 1.0])
"""What an apple is worth to each agent; a lemon costs it as much."""

COST = 0.01
STEPS = 100

OPTIMAL = ("dlru.....dlllrd..uu.dlllrd..uu.dllduu", "...ullrrd...ullllrrd...ullllrrd......")
"""The plan with the highest return that there is, 86.26, found by search."""


class CheckersState(NamedTuple):
    """Where the agents are, where food is left, the transitions so far, and the reward for the last one."""

    places: Int[Array, "2 2"]
    food: Bool[Array, "3 8"]
    time: Int[Array, ""]
    reward: Float[Array, " 2"]


class Checkers(ObservedEnv):
    """Two agents before a chequered field of 9 apples and 9 lemons.

    - The grid has 3 rows and 8 columns. In the first six an apple lies where row + column is even, else a lemon. The
      agents start at (0, 6) and (2, 6).
    - Actions: *down*, *left*, *up*, *right*, *stay*, always available. The first agent moves before the second; who
      would leave the grid or walk into the other stays. Whoever enters a place eats what lies there.
    - An apple pays the first agent 10 and the second one 1; a lemon costs them as much. Each step costs each .01.
    - The episode terminates when no apple is left, and is truncated after 100 steps.
    - An agent observes its row / 3, its column / 7, and for each of the 3 x 3 places around it, row by row, whether
      there is a lemon, an apple, the first agent, the second one; nothing outside the grid. (ma-gym has a fifth
      feature, for walls, of which there are none, and rounds to two digits.) The state, which ma-gym does not have,
      is rows and columns of both agents, and for each of the 18 pieces of food whether it is left.

    Rewards are per agent; published returns are their sums over the team. The outcome ``eaten`` is the share of apples
    that were eaten.
    """

    def __init__(self) -> None:
        board = np.array([list(row) for row in BOARD])
        self.apples, self.lemons = board == "a", board == "l"
        self.spec = EnvSpec(
            name="checkers",
            num_agents=2,
            obs_dim=2 + 3 * 3 * 4,
            state_dim=4 + 18,
            num_actions=len(MOVES),
            max_episode_steps=STEPS,
            agent_types=(0, 1),
            outcomes=("eaten",),
            reward="per agent",
        )

    def begin(self, key: PRNGKeyArray) -> CheckersState:
        del key
        food = jnp.asarray(self.apples | self.lemons)
        return CheckersState(jnp.asarray(STARTS, jnp.int32), food, jnp.zeros((), jnp.int32), jnp.zeros(2))

    def advance(self, state: CheckersState, action: Int[Array, " 2"], key: PRNGKeyArray) -> CheckersState:
        del key
        steps = jnp.asarray(MOVES, jnp.int32)[action]
        places = walk(state.places, steps, jnp.arange(2), jnp.ones(self.apples.shape, bool))
        rows, columns = places[:, 0], places[:, 1]
        # No two agents are in one place and where one has been no food is left: both may eat at once.
        worth = jnp.where(jnp.asarray(self.apples)[rows, columns], 1.0, -1.0) * jnp.asarray(VALUES, jnp.float32)
        reward = jnp.where(state.food[rows, columns], worth, 0.0) - COST
        return CheckersState(places, state.food.at[rows, columns].set(False), state.time + 1, reward)

    def observe(self, state: CheckersState) -> TimeStep:
        rows, columns = self.apples.shape
        scaled = state.places / np.array([[rows, columns - 1]])
        food = state.food[np.nonzero(self.apples | self.lemons)].astype(jnp.float32)
        return make_timestep(
            jnp.concatenate([scaled, self._around(state)], axis=-1),
            jnp.concatenate([(state.places / np.array([[rows - 1, columns - 1]])).reshape(-1), food]),
            num_actions=self.spec.num_actions,
            reward=state.reward,
            terminated=~(state.food & self.apples).any(),
            truncated=state.time >= STEPS,
            first=state.time == 0,
        )

    def outcome(self, state: CheckersState) -> dict[str, Float[Array, ""]]:
        left = (state.food & self.apples).sum(dtype=jnp.float32)
        return {"eaten": 1.0 - left / self.apples.sum()}

    def heuristics(self) -> dict[str, Any]:
        return {"optimal": Plan(OPTIMAL)}

    def scene(self, state: CheckersState) -> Scene:
        left = np.asarray(state.food)
        kinds = {"apple": left & self.apples, "lemon": left & self.lemons}
        return Scene(
            size=left.shape,
            agents=tuple(map(Figure, places(state.places))),
            items=tuple(Item(kind, place) for kind, where in kinds.items() for place in places(np.argwhere(where))),
            actions=NAMES,
            caption=f"{int(kinds['apple'].sum())} apples left",
        )

    def _around(self, state: CheckersState) -> Float[Array, "2 36"]:
        """What is on the places around each agent."""
        food = jnp.stack([state.food & self.lemons, state.food & self.apples], axis=-1)
        agents = jnp.zeros((*self.apples.shape, 2), bool)
        agents = agents.at[state.places[:, 0], state.places[:, 1], jnp.arange(2)].set(True)
        board = jnp.pad(jnp.concatenate([food, agents], axis=-1), ((1, 1), (1, 1), (0, 0)))
        # In the padded board a window begins where its middle is in the board itself.
        windows = jax.vmap(lambda place: jax.lax.dynamic_slice(board, (place[0], place[1], 0), (3, 3, 4)))(state.places)
        return windows.reshape(2, -1).astype(jnp.float32)


def make(variant: str) -> Checkers:
    """The task ``checkers``, which has no variants."""
    del variant
    return Checkers()
