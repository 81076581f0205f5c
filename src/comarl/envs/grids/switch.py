"""Switch: agents who want to opposite sides through a corridor that is one place wide (Sunehag et al. 2018, §4.2).

The rules are those of ma-gym's ``Switch2-v0`` and ``Switch4-v0`` (Koul 2019).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep
from comarl.envs.grids.moves import MOVES, NAMES, walk
from comarl.envs.grids.plan import Plan
from comarl.envs.scene import Figure, Scene, places
from comarl.types import EnvSpec, TimeStep

ROOMS = (
    "  ###  ",
    "       ",
    "  ###  ",
)
"""Two rooms and the corridor between them; ``#`` is a wall."""

STARTS = np.array([[0, 1], [0, 5], [2, 1], [2, 5]])
GOALS = np.array([[0, 6], [0, 0], [2, 6], [2, 0]])
REWARD, COST = 5.0, 0.1
STEPS = 50

OPTIMAL = {
    2: ("drrrrru.....", ".....dlllllu"),
    4: ("drrrrru........", "........dlllllu", ".urrrrrd.......", "......ulllldl.."),
}
"""Plans with the highest return that there is, found by search: 8.3 for two agents and 16.1 for four."""


class SwitchState(NamedTuple):
    """Where the agents are, how many transitions the episode has had, and the reward for the last one."""

    places: Int[Array, "N 2"]
    time: Int[Array, ""]
    reward: Float[Array, " N"]


class Switch(ObservedEnv):
    """Two or four agents who want to the other room.

    - The grid has 3 rows and 7 columns: two rooms of 3 x 2 places, and between them a corridor in the middle row. The
      agents start at (0, 1), (0, 5), (2, 1), (2, 5) and want to (0, 6), (0, 0), (2, 6), (2, 0).
    - Actions: *down*, *left*, *up*, *right*, *stay*, always available. Agents move one after another, by index; who
      would walk into a wall or an agent stays. An agent at its goal stays there for good, and is in the way.
    - Each step costs an agent .1 until it arrives; the step that arrives pays 5 instead, and later ones nothing.
    - The episode terminates when all have arrived, and is truncated after 50 steps.
    - An agent observes its row and column, as fractions of the last ones', and the share of the 50 steps that have
      gone; it does not see the others. (ma-gym rounds to two digits.) The state, which ma-gym does not have, is every
      agent's row and column, and the same clock.

    Rewards are per agent; published returns are their sums over the team. The outcome ``arrived`` is the share of
    agents at their goals.

    Args:
        num_agents: 2 or 4.
    """

    def __init__(self, num_agents: int):
        self.free = np.array([[place == " " for place in row] for row in ROOMS])
        self.spec = EnvSpec(
            name=f"switch/{num_agents}",
            num_agents=num_agents,
            obs_dim=3,
            state_dim=2 * num_agents + 1,
            num_actions=len(MOVES),
            max_episode_steps=STEPS,
            outcomes=("arrived",),
            reward="per agent",
        )

    def begin(self, key: PRNGKeyArray) -> SwitchState:
        del key
        n = self.spec.num_agents
        return SwitchState(jnp.asarray(STARTS[:n], jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros(n))

    def advance(self, state: SwitchState, action: Int[Array, " N"], key: PRNGKeyArray) -> SwitchState:
        del key
        before = self._arrived(state.places)
        steps = jnp.where(before[:, None], 0, jnp.asarray(MOVES, jnp.int32)[action])
        places = walk(state.places, steps, jnp.arange(self.spec.num_agents), jnp.asarray(self.free))
        arriving = self._arrived(places) & ~before
        reward = jnp.where(arriving, REWARD, jnp.where(before, 0.0, -COST))
        return SwitchState(places, state.time + 1, reward.astype(jnp.float32))

    def observe(self, state: SwitchState) -> TimeStep:
        places = state.places / (np.array(self.free.shape) - 1)[None]
        clock = state.time[None] / STEPS
        return make_timestep(
            jnp.concatenate([places, jnp.broadcast_to(clock[None], (len(places), 1))], axis=-1),
            jnp.concatenate([places.reshape(-1), clock]),
            num_actions=self.spec.num_actions,
            reward=state.reward,
            terminated=self._arrived(state.places).all(),
            truncated=state.time >= STEPS,
            first=state.time == 0,
        )

    def outcome(self, state: SwitchState) -> dict[str, Float[Array, ""]]:
        return {"arrived": self._arrived(state.places).mean(dtype=jnp.float32)}

    def heuristics(self) -> dict[str, Any]:
        return {"optimal": Plan(OPTIMAL[self.spec.num_agents])}

    def scene(self, state: SwitchState) -> Scene:
        return Scene(
            size=(len(ROOMS), len(ROOMS[0])),
            agents=tuple(map(Figure, places(state.places))),
            walls=tuple(places(np.argwhere(~self.free))),
            goals=tuple(zip(places(GOALS[: self.spec.num_agents]), range(self.spec.num_agents), strict=True)),
            actions=NAMES,
        )

    def _arrived(self, places: Int[Array, "N 2"]) -> Bool[Array, " N"]:
        return (places == jnp.asarray(GOALS[: self.spec.num_agents])).all(-1)


def make(variant: str) -> Switch:
    """The task ``switch/<number of agents>``."""
    return Switch(int(variant))
