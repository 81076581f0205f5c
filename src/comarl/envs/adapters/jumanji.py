"""Jumanji's environments: Level-Based Foraging and the robot warehouse (RWARE).

Jumanji is imported by the functions that need it: the import takes seconds and the package is optional.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep, strong
from comarl.envs.scene import Figure, Item, Scene, places
from comarl.errors import missing_extra
from comarl.types import EnvSpec, TimeStep

LBF_STEPS = 50
"""Time limit of the foraging scenarios in lb-foraging, whose names these are (Jumanji's own default is 100)."""

RWARE_STEPS = 500
"""Time limit of the warehouse scenarios."""

RWARE_SIZES: dict[str, tuple[int, int]] = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
"""Rows and columns of shelf clusters, each cluster 8 shelves high and 2 wide."""

RWARE_REQUESTS: dict[str, float] = {"-easy": 2.0, "": 1.0, "-hard": 0.5}
"""Shelves requested at a time, per agent."""

HEADINGS = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns of the directions: up, right, down, left."""

SHELVES, AGENTS = 0, 1
"""The layers of the warehouse's grid: at each place, 1 + the index of the shelf or agent there, or 0."""


def import_jumanji() -> Any:
    """The package ``jumanji``.

    Raises:
        ComarlError: if it, or something it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jumanji
    except ImportError as error:
        raise missing_extra((error.name or "jumanji").split(".")[0], "jumanji") from error
    return jumanji


def make_lbf(variant: str) -> "Lbf":
    """The scenario ``lbf/<variant>``, named as in lb-foraging: ``[<sight>s-]<size>x<size>-<players>p-<foods>f[-coop]``.

    Agents see the whole grid if no sight is named. Their levels are 1 or 2.

    Raises:
        ComarlError: if Jumanji is not installed.
        KeyError: if ``variant`` is not such a name.
    """
    sight, size, width, agents, foods, coop = _fields(r"(?:(\d+)s-)?(\d+)x(\d+)-(\d+)p-(\d+)f(-coop)?", variant)
    if size != width:
        raise KeyError(variant)
    import_jumanji()
    from jumanji.environments.routing.lbf.env import LevelBasedForaging
    from jumanji.environments.routing.lbf.generator import RandomGenerator

    generator = RandomGenerator(
        grid_size=int(size),
        num_agents=int(agents),
        num_food=int(foods),
        fov=int(sight or size),
        max_agent_level=2,
        force_coop=bool(coop),
    )
    return Lbf(f"lbf/{variant}", LevelBasedForaging(generator, time_limit=LBF_STEPS))


def make_rware(variant: str) -> "Rware":
    """The scenario ``rware/<variant>``, named as in RWARE: ``<size>-<agents>ag[-easy|-hard]``.

    Sizes are those of :data:`RWARE_SIZES`, the last word is one of :data:`RWARE_REQUESTS`.

    Raises:
        ComarlError: if Jumanji is not installed.
        KeyError: if ``variant`` is not such a name.
    """
    size, agents, difficulty = _fields(r"(\w+)-(\d+)ag(-\w+)?", variant)
    rows, columns = RWARE_SIZES[size]
    requests = int(int(agents) * RWARE_REQUESTS[difficulty])
    import_jumanji()
    from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse
    from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator

    generator = RandomGenerator(
        shelf_rows=rows,
        shelf_columns=columns,
        column_height=8,
        num_agents=int(agents),
        sensor_range=1,
        request_queue_size=requests,
    )
    return Rware(f"rware/{variant}", RobotWarehouse(generator, time_limit=RWARE_STEPS))


def _fields(pattern: str, name: str) -> tuple[str, ...]:
    """What the groups of ``pattern`` match in the whole of ``name``, empty where an optional one is left out."""
    found = re.fullmatch(pattern, name)
    if found is None:
        raise KeyError(name)
    return found.groups("")


class JumanjiState(NamedTuple):
    """Jumanji's state, without its key, and each agent's reward for arriving in it."""

    world: Any
    reward: Float[Array, " N"]


class JumanjiEnv(ObservedEnv):
    """What the environments have in common: Jumanji's own reset and step.

    Args:
        env: Jumanji's environment.
        look: Jumanji's function that makes observations, of what :meth:`observe` of the subclass gives it.
        spec: the sizes; the reward is Jumanji's, given to every agent if it is one number.
    """

    def __init__(self, env: Any, look: Callable[..., Any], spec: EnvSpec):
        # Compiled, because the loops in them would otherwise be compiled anew by every step played by hand.
        self._reset, self._step, self._look = jax.jit(env.reset), jax.jit(env.step), jax.jit(look)
        self._time_limit = int(env.time_limit)
        self.spec = spec

    def begin(self, key: PRNGKeyArray) -> JumanjiState:
        with jax.numpy_rank_promotion("allow"):
            world, _ = self._reset(key)
        return JumanjiState(_keyless(world), jnp.zeros(self.spec.num_agents))

    def advance(self, state: JumanjiState, action: Int[Array, " N"], key: PRNGKeyArray) -> JumanjiState:
        # The observations that come with it are not used, so the compiler drops them.
        with jax.numpy_rank_promotion("allow"):
            world, ts = self._step(state.world.replace(key=key), action)
        reward = jnp.broadcast_to(jnp.asarray(ts.reward, jnp.float32), (self.spec.num_agents,))
        return JumanjiState(_keyless(world), reward)


def _keyless(world: Any) -> Any:
    # Jumanji keeps a key in its state; ours comes with every step.
    return strong(world.replace(key=None))


class Lbf(JumanjiEnv):
    """Level-Based Foraging (Albrecht & Ramamoorthy 2013; Papoudakis et al. 2021).

    Agents walk over a grid and lift food; it is eaten if the levels of those who lift at its side reach its own, in
    *coop* scenarios the sum of all levels (of the three lowest, if there are more agents). The actions are *none*,
    *up*, *down*, *left*, *right* and *load*; walking into something and lifting nothing are masked.

    An agent observes (row, column, level) of every food, of itself and of every other agent, in this order
    (Jumanji's ``VectorObserver``, unscaled): places are counted from the upper left corner of what it sees, and what
    is eaten or out of sight is (-1, -1, 0). The global state is described at :func:`foraging_state`.

    Food pays its level to those who lifted it, in proportion to their levels, divided by the levels of all food: an
    episode in which all is eaten pays the team 1 in sum. It terminates then, and is truncated at the time limit
    otherwise. The outcome ``eaten`` is the share of the food that was eaten.

    Args:
        name: the name in the registry.
        env: Jumanji's ``LevelBasedForaging`` with vector observations.
    """

    def __init__(self, name: str, env: Any):
        agents, foods = int(env.num_agents), int(env.num_food)
        spec = EnvSpec(
            name=name,
            num_agents=agents,
            obs_dim=3 * (foods + agents),
            state_dim=4 * foods + 3 * agents,
            num_actions=6,
            max_episode_steps=int(env.time_limit),
            outcomes=("eaten",),
            reward="per agent",
        )
        super().__init__(env, env._observer.state_to_observation, spec)
        self._size, self._max_level = int(env.grid_size), int(env._generator.max_agent_level)

    def observe(self, state: JumanjiState) -> TimeStep:
        world = state.world
        with jax.numpy_rank_promotion("allow"):
            seen = self._look(world)
        return make_timestep(
            seen.agents_view.astype(jnp.float32),
            foraging_state(world, self._size, self._max_level),
            avail=seen.action_mask,
            reward=state.reward,
            terminated=world.food_items.eaten.all(),
            truncated=world.step_count >= self._time_limit,
            first=world.step_count == 0,
        )

    def outcome(self, state: JumanjiState) -> dict[str, Float[Array, ""]]:
        return {"eaten": state.world.food_items.eaten.mean(dtype=jnp.float32)}

    def scene(self, state: JumanjiState) -> Scene:
        agents, foods = state.world.agents, state.world.food_items
        left = np.flatnonzero(~np.asarray(foods.eaten))
        return Scene(
            size=(self._size, self._size),
            agents=tuple(
                Figure(place, note=f"level {level}")
                for place, level in zip(places(agents.position), agents.level.tolist(), strict=True)
            ),
            items=tuple(Item("food", places(foods.position)[i], note=str(foods.level[i])) for i in left),
            actions=("none", "up", "down", "left", "right", "load"),
            caption=f"{len(foods.eaten) - len(left)} of {len(foods.eaten)} eaten",
        )


def foraging_state(world: Any, size: int, max_level: int) -> Float[Array, " S"]:
    """The whole of a foraging state but its time, each feature between 0 and 1.

    Per food: row, column, level and whether it is there; an eaten food keeps its level, because rewards are fractions
    of all levels, and has no place. Per agent: row, column, level. Rows and columns are fractions of the last one's,
    levels of the highest possible: ``max_level`` for an agent, that of up to three agents together for a food.
    """
    agents, foods = world.agents, world.food_items
    there = ~foods.eaten[:, None]
    place = jnp.where(there, foods.position / (size - 1), 0.0)
    level = foods.level[:, None] / (max_level * min(agents.level.shape[0], 3))
    food = jnp.concatenate([place, level, there.astype(jnp.float32)], axis=-1)
    agent = jnp.concatenate([agents.position / (size - 1), agents.level[:, None] / max_level], axis=-1)
    return jnp.concatenate([food.reshape(-1), agent.reshape(-1)])


class Rware(JumanjiEnv):
    """The robot warehouse (Papoudakis et al. 2021): agents carry requested shelves to the goals and back.

    The actions are *none*, *forward*, *left*, *right* (turns) and *toggle load*. Masked is walking into a shelf while
    carrying one. A requested shelf that comes to a goal pays 1, which the team shares, and another shelf is
    requested in its place.

    An agent observes its row and column (unscaled), whether it carries, its direction one-hot and whether it is on a
    highway; of the eight places around it whether an agent is there and its direction; and of these and its own
    whether a shelf is there and whether it is requested (Jumanji's). The global state is described at
    :func:`warehouse_state`.

    Unlike the original's, Jumanji's episodes end when agents collide: that terminates (outcome ``collided``), the
    time limit truncates, where Jumanji itself gives a discount of 0 to both. Agents move one after another, by index:
    who walks into a place that an agent of higher index leaves in the same step collides with it. *None* puts down
    what is carried where shelves may stand.

    Args:
        name: the name in the registry.
        env: Jumanji's ``RobotWarehouse``.
    """

    def __init__(self, name: str, env: Any):
        agents = int(env.num_agents)
        # Shelves stand where no highway is, nowhere else unless an agent carries them.
        self._goals = [tuple(goal) for goal in env.goals]
        self._places = np.argwhere(~np.asarray(env.highways, bool))
        spec = EnvSpec(
            name=name,
            num_agents=agents,
            obs_dim=int(env.num_obs_features),
            state_dim=8 * agents + 2 * len(self._places),
            num_actions=5,
            max_episode_steps=int(env.time_limit),
            outcomes=("collided",),
        )
        super().__init__(env, env._make_observations, spec)

    def observe(self, state: JumanjiState) -> TimeStep:
        world = state.world
        with jax.numpy_rank_promotion("allow"):
            seen = self._look(world.grid, world.agents, world.shelves)
        return make_timestep(
            seen.astype(jnp.float32),
            warehouse_state(world, self._places),
            avail=world.action_mask,
            reward=state.reward,
            terminated=_collided(world),
            truncated=world.step_count >= self._time_limit,
            first=world.step_count == 0,
        )

    def outcome(self, state: JumanjiState) -> dict[str, Float[Array, ""]]:
        return {"collided": _collided(state.world).astype(jnp.float32)}

    def scene(self, state: JumanjiState) -> Scene:
        world = state.world
        agents = world.agents
        standing = zip(_places(agents.position), agents.direction.tolist(), agents.is_carrying.tolist(), strict=True)
        # Requested shelves last, so that they are drawn above a shelf that a collision put in the same place.
        shelves = sorted(zip(world.shelves.is_requested.tolist(), _places(world.shelves.position), strict=True))
        return Scene(
            size=(int(world.grid.shape[1]), int(world.grid.shape[2])),
            agents=tuple(
                Figure(place, heading=HEADINGS[int(direction)], carrying=bool(carries))
                for place, direction, carries in standing
            ),
            goals=tuple(((int(row), int(column)), None) for column, row in self._goals),
            items=tuple(Item("requested shelf" if wanted else "shelf", place) for wanted, place in shelves),
            actions=("none", "forward", "left", "right", "toggle load"),
            caption="collided" if bool(_collided(world)) else "",
        )


def _places(position: Any) -> list[tuple[int, int]]:
    """Jumanji's rows ``x`` and columns ``y`` as pairs."""
    return places(np.stack([position.x, position.y], axis=-1))


def _collided(world: Any) -> Bool[Array, ""]:
    """Whether an agent's mark on the grid is missing: another has overwritten it."""
    place = world.agents.position
    marks = world.grid[AGENTS, place.x, place.y]
    return (marks != jnp.arange(1, marks.shape[0] + 1)).any()


def warehouse_state(world: Any, places: Int[np.ndarray, "P 2"]) -> Float[Array, " S"]:
    """The whole of a warehouse's state but its time, each feature between 0 and 1.

    Per agent: row and column as fractions of the last one's, whether it carries a shelf, whether that one is requested,
    and its direction one-hot. Per place of ``places`` (row, column), where shelves may stand: whether one is
    there, and whether it is requested.
    """
    position, carrying = world.agents.position, world.agents.is_carrying.astype(bool)
    height, width = world.grid.shape[1:]
    requested = jnp.concatenate([jnp.zeros(1, bool), world.shelves.is_requested.astype(bool)])
    below, there = world.grid[SHELVES, position.x, position.y], world.grid[SHELVES, places[:, 0], places[:, 1]]
    features = [position.x / (height - 1), position.y / (width - 1), carrying, carrying & requested[below]]
    agents = jnp.concatenate([jnp.stack(features, axis=-1), jax.nn.one_hot(world.agents.direction, 4)], axis=-1)
    shelves = jnp.stack([there > 0, requested[there]], axis=-1)
    return jnp.concatenate([agents.reshape(-1), shelves.astype(jnp.float32).reshape(-1)])
