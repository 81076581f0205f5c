"""Level-based foraging and the warehouse through the adapter: Jumanji played by hand, endings, states, names."""

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.adapters.jumanji import AGENTS, SHELVES, JumanjiState, Lbf, Rware, make_lbf, make_rware
from comarl.envs.conformance import check_env
from comarl.envs.registry import FAMILIES, make_env
from comarl.envs.wrappers import AutoReset
from comarl.errors import ComarlError
from comarl.types import TimeStep

KEY = jax.random.key(0)
NONE, UP, DOWN, LEFT, RIGHT, LOAD = range(6)  # foraging
FORWARD, TURN_LEFT, TURN_RIGHT, TOGGLE = range(1, 5)  # the warehouse; NONE is the same
NORTH, EAST, SOUTH, WEST = range(4)


@functools.cache
def made(name: str) -> tuple[Any, Any, Any]:
    """The environment with its compiled reset and step."""
    env = make_env(name)
    return env, jax.jit(env.reset), jax.jit(env.step)


def step(name: str, state: JumanjiState, *action: int) -> tuple[JumanjiState, TimeStep]:
    return made(name)[2](state, jnp.array(action, jnp.int32), KEY)


def altered(state: JumanjiState, **fields: Any) -> JumanjiState:
    """The state with these fields of Jumanji's in place."""
    return state._replace(world=state.world.replace(**fields))


def ending(ts: TimeStep) -> tuple[bool, float]:
    """Whether a time step is the last, and its discount."""
    return bool(ts.last), float(ts.discount)


def agree_step_by_step(name: str, jumanji: Any, seed: int) -> list[Any]:
    """Plays an episode with random available actions here and with ``jumanji`` itself, and compares all along.

    Returns:
        Jumanji's time steps after the first.
    """
    _, reset, step = made(name)
    theirs_reset, theirs_step = jax.jit(jumanji.reset), jax.jit(jumanji.step)
    rng = np.random.default_rng(seed)
    key = jax.random.key(seed)
    state, ts = reset(key)
    with jax.numpy_rank_promotion("allow"):
        world, theirs = theirs_reset(key)
    played: list[Any] = []
    while not theirs.last():
        assert not bool(ts.last)
        assert bool(ts.first) == bool(theirs.first())
        np.testing.assert_array_equal(ts.obs, theirs.observation.agents_view)
        np.testing.assert_array_equal(ts.avail, theirs.observation.action_mask)
        rank = np.where(ts.avail, rng.random(ts.avail.shape), -1.0)
        action = jnp.asarray(rank.argmax(-1), jnp.int32)
        state, ts = step(state, action, world.key)  # the key with which Jumanji goes on
        with jax.numpy_rank_promotion("allow"):
            world, theirs = theirs_step(world, action)
        np.testing.assert_allclose(ts.reward, np.broadcast_to(theirs.reward, ts.reward.shape), rtol=1e-6)
        played.append(theirs)
    np.testing.assert_array_equal(ts.obs, theirs.observation.agents_view)
    np.testing.assert_array_equal(ts.avail, theirs.observation.action_mask)
    assert bool(ts.last)
    return played


# What the package is like.


@pytest.mark.parametrize("name", ["lbf/8x8-2p-2f-coop", "rware/tiny-2ag"])
def test_without_jumanji_the_error_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jumanji", None)
    with pytest.raises(ComarlError, match=r"package 'jumanji' is not installed: pip install 'comarl\[jumanji\]'"):
        make_env(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lbf/8x8-2p-2f", "lbf/8x8-2p-2f-coop"),
        ("lbf/8x8-2p-2f-coop-2s", "lbf/8x8-2p-2f-coop"),
        ("lbf/Foraging-8x8-2p-2f-coop", "lbforaging/Foraging-8x8-2p-2f-coop-v3"),
        ("rware/tiny-2ag-v1", "rware/tiny-2ag"),
        ("tiny-2ag", "rware/tiny-2ag"),
    ],
)
def test_names_are_looked_up_exactly(name: str, nearest: str) -> None:
    with pytest.raises(ComarlError, match=f"did you mean '{nearest}'"):
        make_env(name)


@pytest.mark.parametrize("variant", ["8x8", "8x9-2p-2f", "8x8-2p-2f-coop-2s", "8x8-2p", "x8x8-2p-2f"])
def test_a_foraging_name_is_read_whole(variant: str) -> None:
    with pytest.raises(KeyError, match=variant):
        make_lbf(variant)


@pytest.mark.parametrize("variant", ["tiny", "tiny-2ag-", "tiny-2ag-soft", "huge-2ag", "tiny-ag"])
def test_a_warehouse_name_is_read_whole(variant: str) -> None:
    with pytest.raises(KeyError):
        make_rware(variant)


def test_the_seven_foraging_and_three_warehouse_scenarios_of_epymarl_are_listed() -> None:
    lbf = {"8x8-2p-2f-coop", "10x10-3p-3f", "15x15-3p-5f", "15x15-4p-3f", "15x15-4p-5f"}
    assert set(FAMILIES["lbf"].variants) == lbf | {"2s-8x8-2p-2f-coop", "2s-10x10-3p-3f"}
    assert {"tiny-2ag", "tiny-4ag", "small-4ag"} <= set(FAMILIES["rware"].variants)


@pytest.mark.parametrize("name", ["lbf/8x8-2p-2f-coop", pytest.param("rware/tiny-2ag", marks=pytest.mark.paper)])
def test_it_conforms(name: str) -> None:
    assert check_env(made(name)[0], episodes=2) == []


@pytest.mark.parametrize("name", ["lbf/8x8-2p-2f-coop", "rware/tiny-2ag"])
def test_a_step_after_a_step_compiles_nothing_and_the_state_holds_no_key(name: str) -> None:
    _, reset, step = made(name)
    state, _ = reset(KEY)
    assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in jax.tree.leaves(state))
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    for _ in range(2):
        state, _ = step(state, jnp.zeros(2, jnp.int32), KEY)
    assert step._cache_size() == 1


# Level-based foraging.

LBF = "lbf/8x8-2p-2f-coop"


def foraging(
    agents: list[tuple[int, int, int]], foods: list[tuple[int, int, int]], name: str = LBF, *, time: int = 0
) -> JumanjiState:
    """A state with agents and foods (row, column, level) at that time."""
    state, _ = made(name)[1](KEY)
    a, f = jnp.array(agents, jnp.int32), jnp.array(foods, jnp.int32)
    return altered(
        state,
        agents=state.world.agents.replace(position=a[:, :2], level=a[:, 2]),
        food_items=state.world.food_items.replace(position=f[:, :2], level=f[:, 2]),
        step_count=jnp.array(time, jnp.int32),
    )


BESIDE_FOOD = [(1, 2, 1), (3, 2, 2)]
"""Two agents of levels 1 and 2, above and below (2, 2)."""
TWO_FOODS = [(2, 2, 3), (5, 5, 3)]


@pytest.mark.parametrize(("name", "fov"), [(LBF, 8), ("lbf/2s-8x8-2p-2f-coop", 2)])
def test_foraging_is_jumanjis_until_the_time_limit_truncates_it(name: str, fov: int) -> None:
    from jumanji.environments.routing.lbf.env import LevelBasedForaging
    from jumanji.environments.routing.lbf.generator import RandomGenerator

    generator = RandomGenerator(grid_size=8, num_agents=2, num_food=2, fov=fov, max_agent_level=2, force_coop=True)
    played = agree_step_by_step(name, LevelBasedForaging(generator, time_limit=50), seed=1)
    # Two agents at random do not meet at both foods: the episode ends by time, with a discount of 1 in Jumanji, too.
    assert len(played) == made(name)[0].spec.max_episode_steps == 50
    assert played[-1].discount.tolist() == [1.0, 1.0]


@pytest.mark.paper  # slow; the smaller ones are checked in each run
def test_foraging_with_other_numbers_is_jumanjis() -> None:
    from jumanji.environments.routing.lbf.env import LevelBasedForaging
    from jumanji.environments.routing.lbf.generator import RandomGenerator

    generator = RandomGenerator(grid_size=10, num_agents=3, num_food=3, fov=10, max_agent_level=2, force_coop=False)
    rewards = [
        ts.reward.sum()
        for seed in range(3)
        for ts in agree_step_by_step("lbf/10x10-3p-3f", LevelBasedForaging(generator, time_limit=50), seed)
    ]
    assert max(rewards) > 0  # something was eaten


def test_foods_level_is_paid_by_the_lifters_levels_as_a_fraction_of_all_food() -> None:
    state = foraging(BESIDE_FOOD, TWO_FOODS)
    state, ts = step(LBF, state, LOAD, LOAD)
    # 3 of 6 levels of food, shared 1 : 2.
    np.testing.assert_allclose(ts.reward, [1 / 6, 2 / 6], rtol=1e-6)
    assert ending(ts) == (False, 1.0)
    assert float(made(LBF)[0].outcome(state)["eaten"]) == 0.5
    _, ts = step(LBF, state, LOAD, LOAD)
    assert ts.reward.tolist() == [0.0, 0.0]  # once


def test_in_a_coop_scenario_one_alone_lifts_nothing() -> None:
    state, ts = step(LBF, foraging(BESIDE_FOOD, TWO_FOODS), NONE, LOAD)
    assert ts.reward.tolist() == [0.0, 0.0]
    assert float(made(LBF)[0].outcome(state)["eaten"]) == 0.0
    levels = [made(LBF)[1](jax.random.key(seed))[0].world for seed in range(20)]
    for world in levels:
        assert world.food_items.level.tolist() == 2 * [int(world.agents.level.sum())]
    assert {int(world.agents.level.max()) for world in levels} == {1, 2}


@pytest.mark.parametrize(
    ("time", "actions", "ends", "return_"),
    [
        (10, (LOAD, LOAD), (True, 0.0), 0.5),  # the last food is eaten: no value follows
        (49, (NONE, NONE), (True, 1.0), 0.0),  # the 50th transition: a time limit
        (49, (LOAD, LOAD), (True, 0.0), 0.5),  # both at once
        (48, (NONE, NONE), (False, 1.0), 0.0),
    ],
)
def test_eating_all_terminates_and_the_time_limit_truncates(
    time: int, actions: tuple[int, int], ends: tuple[bool, float], return_: float
) -> None:
    state = foraging(BESIDE_FOOD, TWO_FOODS, time=time)
    eaten = state.world.food_items.replace(eaten=jnp.array([False, True]))
    _, ts = step(LBF, altered(state, food_items=eaten), *actions)
    assert ending(ts) == ends
    assert float(ts.reward.sum()) == pytest.approx(return_)


def test_a_foragers_observation_and_the_global_state() -> None:
    state = foraging([(0, 7, 1), (3, 2, 2)], TWO_FOODS)
    foods = state.world.food_items.replace(eaten=jnp.array([False, True]))
    ts = made(LBF)[0].observe(altered(state, food_items=foods))
    # Foods, itself, the other; the second food is eaten.
    np.testing.assert_array_equal(
        ts.obs, [[2, 2, 3, -1, -1, 0, 0, 7, 1, 3, 2, 2], [2, 2, 3, -1, -1, 0, 3, 2, 2, 0, 7, 1]]
    )
    # Places are fractions of 7, levels of 4 (foods) and of 2 (agents).
    food = [2 / 7, 2 / 7, 3 / 4, 1, 0, 0, 3 / 4, 0]
    np.testing.assert_allclose(ts.state, [*food, 0, 1, 1 / 2, 3 / 7, 2 / 7, 1], rtol=1e-6)


def test_with_sight_2_a_forager_sees_a_window() -> None:
    name = "lbf/2s-8x8-2p-2f-coop"
    ts = made(name)[0].observe(foraging([(4, 4, 1), (0, 1, 2)], TWO_FOODS, name))
    # The first one's window begins at (2, 2): it is at (2, 2) of it itself. The second's is cut off by the walls.
    np.testing.assert_array_equal(
        ts.obs, [[0, 0, 3, 3, 3, 3, 2, 2, 1, -1, -1, 0], [2, 2, 3, -1, -1, 0, 0, 1, 2, -1, -1, 0]]
    )


def test_a_forager_may_walk_where_nothing_is_and_lift_what_is_beside_it() -> None:
    ts = made(LBF)[0].observe(foraging([(1, 2, 1), (1, 3, 2)], TWO_FOODS))
    # The first one has food below and the other to its right, and may lift; the second one has no food beside it.
    np.testing.assert_array_equal(ts.avail, [[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 1, 0]])
    ts = made(LBF)[0].observe(foraging([(0, 0, 1), (7, 7, 2)], TWO_FOODS))
    np.testing.assert_array_equal(ts.avail, [[1, 0, 1, 0, 1, 0], [1, 1, 0, 1, 0, 0]])


def test_after_the_last_step_a_whole_new_episode_begins() -> None:
    env = AutoReset(made(LBF)[0])
    stepped = jax.jit(jax.vmap(env.step))
    one = foraging(BESIDE_FOOD, TWO_FOODS, time=49)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), (one, jnp.array(False)))
    keys = jax.random.split(KEY, 2)
    batch, ts = stepped(batch, jnp.array([[NONE, NONE], [LOAD, LOAD]]), keys)
    assert ts.last.tolist() == [True, True]
    assert ts.obs[0].tolist() != ts.obs[1].tolist()  # eaten in one of them
    _, ts = stepped(batch, jnp.zeros((2, 2), jnp.int32), keys)
    assert ts.first.tolist() == [True, True]
    assert ts.reward.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    np.testing.assert_array_equal(ts.obs[1], made(LBF)[1](keys[1])[1].obs)


# The warehouse: 11 rows, 10 columns; goals at the bottom, (10, 4) and (10, 5); shelves in rows 1 to 8 of the columns
# 1, 2, 7 and 8.

TINY = "rware/tiny-2ag"


def warehouse(*agents: tuple[int, int, int, int | None], requested: tuple[int, int] = (0, 1)) -> JumanjiState:
    """A state with agents (row, column, direction, the shelf carried or None) and these shelves requested."""
    state, _ = made(TINY)[1](KEY)
    world = state.world
    rows, columns, directions = (jnp.array([agent[i] for agent in agents], jnp.int32) for i in range(3))
    grid = world.grid.at[AGENTS].set(0).at[AGENTS, rows, columns].set(jnp.arange(1, len(agents) + 1))
    shelf_rows, shelf_columns = world.shelves.position
    for row, column, _, shelf in agents:
        if shelf is not None:
            grid = grid.at[SHELVES, shelf_rows[shelf], shelf_columns[shelf]].set(0)
            grid = grid.at[SHELVES, row, column].set(shelf + 1)
            shelf_rows, shelf_columns = shelf_rows.at[shelf].set(row), shelf_columns.at[shelf].set(column)
    position = type(world.agents.position)
    return altered(
        state,
        grid=grid,
        agents=world.agents._replace(
            position=position(rows, columns),
            direction=directions,
            is_carrying=jnp.array([agent[3] is not None for agent in agents], jnp.int32),
        ),
        shelves=world.shelves._replace(
            position=position(shelf_rows, shelf_columns),
            is_requested=jnp.zeros(32).at[jnp.array(requested)].set(1.0),
        ),
        request_queue=jnp.array(requested, jnp.int32),
        action_mask=jnp.ones((2, 5), bool),
    )


def collided(state: JumanjiState) -> float:
    return float(made(TINY)[0].outcome(state)["collided"])


def test_the_warehouse_is_jumanjis() -> None:
    from jumanji.environments.routing.robot_warehouse.env import RobotWarehouse
    from jumanji.environments.routing.robot_warehouse.generator import RandomGenerator

    jumanji = RobotWarehouse(RandomGenerator(1, 3, 8, num_agents=2, sensor_range=1, request_queue_size=2))
    lengths = [len(agree_step_by_step(TINY, jumanji, seed)) for seed in range(3)]
    assert min(lengths) > 20


def test_the_sizes_of_warehouses() -> None:
    def shelves(name: str) -> int:
        env = make_env(name)
        assert isinstance(env, Rware)
        return (env.spec.state_dim - 8 * env.spec.num_agents) // 2

    # A row of 3 clusters of 8 x 2 shelves, less the one above the goals; 3 rows of 5.
    assert [shelves(f"rware/{size}-4ag") for size in ("tiny", "large")] == [2 * 16, 14 * 16]
    begun = [jax.eval_shape(make_rware(f"tiny-4ag{d}").begin, KEY) for d in ("-easy", "", "-hard")]
    asked = [state.world.request_queue.shape for state in begun]
    assert asked == [(8,), (4,), (2,)]


def test_a_delivery_pays_every_agent_1_and_another_shelf_is_requested() -> None:
    state = warehouse((9, 4, SOUTH, 0), (0, 0, NORTH, None))
    state, ts = step(TINY, state, FORWARD, NONE)
    assert ts.reward.tolist() == [1.0, 1.0]
    assert ending(ts) == (False, 1.0)
    queue = state.world.request_queue.tolist()
    assert 0 not in queue
    assert 1 in queue
    assert np.flatnonzero(state.world.shelves.is_requested).tolist() == sorted(queue)
    _, ts = step(TINY, state, NONE, NONE)
    assert ts.reward.tolist() == [0.0, 0.0]  # it still stands there, and is not wanted any more


def test_the_new_request_is_drawn_with_the_steps_key() -> None:
    state = warehouse((9, 4, SOUTH, 0), (0, 0, NORTH, None))
    stepped = made(TINY)[2]
    queues = {
        int(stepped(state, jnp.array([FORWARD, NONE]), jax.random.key(i))[0].world.request_queue[0]) for i in range(8)
    }
    assert len(queues) > 3


def test_a_shelf_that_nobody_wants_pays_nothing() -> None:
    _, ts = step(TINY, warehouse((9, 4, SOUTH, 5), (0, 0, NORTH, None)), FORWARD, NONE)
    assert ts.reward.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        ((0, 3, EAST, None), (0, 5, WEST, None), True),  # into one place
        ((0, 3, EAST, None), (0, 4, WEST, None), True),  # past each other
        ((0, 3, EAST, None), (0, 4, EAST, None), True),  # behind the other, which moves later: Jumanji's order
        ((0, 4, EAST, None), (0, 3, EAST, None), False),  # behind the other, which has moved already
        ((0, 3, NORTH, None), (0, 4, EAST, None), False),  # against the wall
    ],
)
def test_collisions_terminate(first: Any, second: Any, ends: bool) -> None:
    state, ts = step(TINY, warehouse(first, second), FORWARD, FORWARD)
    assert ending(ts) == (ends, 0.0 if ends else 1.0)
    assert collided(state) == float(ends)


def test_the_time_limit_truncates_the_warehouse_where_jumanji_says_terminated() -> None:
    assert made(TINY)[0].spec.max_episode_steps == 500
    state = warehouse((0, 3, EAST, None), (0, 5, WEST, None))
    state = altered(state, step_count=jnp.array(498, jnp.int32))
    state, ts = step(TINY, state, NONE, NONE)
    assert ending(ts) == (False, 1.0)
    after, ts = step(TINY, state, NONE, NONE)
    assert ending(ts) == (True, 1.0)
    assert collided(after) == 0.0
    after, ts = step(TINY, state, FORWARD, FORWARD)
    assert ending(ts) == (True, 0.0)  # a collision at the time limit is a collision


def test_with_a_shelf_an_agent_may_not_walk_into_another() -> None:
    # From (2, 0) to the east there is a shelf at (2, 1). The second one carries nothing and may walk below.
    state = warehouse((2, 0, EAST, 31), (3, 0, EAST, None))
    _, ts = step(TINY, state, NONE, NONE)
    np.testing.assert_array_equal(ts.avail, [[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize(("place", "carries"), [((1, 1), False), ((1, 0), True)])
def test_waiting_puts_a_shelf_down_where_shelves_may_stand(place: tuple[int, int], carries: bool) -> None:
    state, _ = step(TINY, warehouse((*place, EAST, 0), (9, 9, NORTH, None)), NONE, NONE)
    assert bool(state.world.agents.is_carrying[0]) == carries


def test_a_robots_observation_and_the_global_state() -> None:
    # The first shelf is at (1, 1), the next at (1, 2); the first agent has carried it to the left.
    env = made(TINY)[0]
    ts = env.observe(warehouse((1, 0, SOUTH, 0), (1, 1, WEST, None), requested=(0, 4)))
    own = [1, 0, 1, 0, 0, 1, 0, 1]  # row, column, carries, south, on a highway
    seen = [0] * 15 + [0] * 5 + [1, 0, 0, 0, 1] + [0] * 15  # the other, to the east, looks west
    shelves = [0, 0] * 4 + [1, 1] + [0, 0] * 3 + [1, 1]  # its own, requested; (1, 1) is empty; (2, 1) is requested
    np.testing.assert_array_equal(ts.obs[0], own + seen + shelves)
    agents = [[1 / 10, 0, 1, 1, 0, 0, 1, 0], [1 / 10, 1 / 9, 0, 0, 0, 0, 0, 1]]
    places = np.stack([np.ones(32), np.zeros(32)], axis=-1)
    places[0] = 0  # taken away
    places[4] = 1  # (2, 1): four to a row
    np.testing.assert_allclose(ts.state, np.concatenate([np.ravel(agents), places.ravel()]), rtol=1e-6)


def test_states_are_of_order_one_all_along() -> None:
    for name in (LBF, TINY):
        env, reset, stepped = made(name)
        assert isinstance(env, Lbf | Rware)
        state, ts = reset(KEY)
        for t in range(20):
            state, ts = stepped(state, jnp.array([t % 5, (t + 2) % 5], jnp.int32), KEY)
            assert 0 <= float(ts.state.min()) <= float(ts.state.max()) <= 1


def test_pictures() -> None:
    forage = made(LBF)[0].scene(foraging(BESIDE_FOOD, TWO_FOODS))
    assert forage is not None
    assert [(agent.place, agent.note) for agent in forage.agents] == [(a[:2], f"level {a[2]}") for a in BESIDE_FOOD]
    assert [(item.place, item.note) for item in forage.items] == [(f[:2], str(f[2])) for f in TWO_FOODS]
    scene = made(TINY)[0].scene(warehouse((9, 4, SOUTH, 0), (0, 0, EAST, None)))
    assert scene is not None
    assert scene.size == (11, 10)
    assert scene.goals == (((10, 4), None), ((10, 5), None))
    assert [(a.place, a.heading, a.carrying) for a in scene.agents] == [((9, 4), (1, 0), True), ((0, 0), (0, 1), False)]
    assert [item.place for item in scene.items if item.kind == "requested shelf"] == [(1, 2), (9, 4)]
