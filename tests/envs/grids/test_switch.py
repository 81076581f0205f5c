"""Switch: against the rules as a loop in Python, and the highest return by search."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.base import Env
from comarl.envs.conformance import check_env
from comarl.envs.grids.plan import Plan
from comarl.envs.grids.switch import OPTIMAL, Switch
from comarl.training.evaluate import evaluation_keys, play
from tests.envs.grids.play import disturbed, play_actions
from tests.envs.grids.search import search

KEY = jax.random.key(0)
DOWN, LEFT, UP, RIGHT, STAY = range(5)

Place = tuple[int, int]
WALLS = {(row, column) for row in (0, 2) for column in (2, 3, 4)}
STARTS: tuple[Place, ...] = ((0, 1), (0, 5), (2, 1), (2, 5))
GOALS: tuple[Place, ...] = ((0, 6), (0, 0), (2, 6), (2, 0))


def turn(places: tuple[Place, ...], agent: int, action: int) -> tuple[tuple[Place, ...], int]:
    """One agent's move; the reward in tenths."""
    row, column = places[agent]
    if places[agent] == GOALS[agent]:
        return places, 0
    down, right = {DOWN: (1, 0), LEFT: (0, -1), UP: (-1, 0), RIGHT: (0, 1), STAY: (0, 0)}[action]
    target = (row + down, column + right)
    if 0 <= target[0] < 3 and 0 <= target[1] < 7 and target not in WALLS and target not in places:
        places = (*places[:agent], target, *places[agent + 1 :])
    return places, 50 if places[agent] == GOALS[agent] else -1


def bound(places: tuple[Place, ...]) -> int:
    """5 for everyone who has not arrived, in tenths."""
    return sum(50 for place, goal in zip(places, GOALS, strict=False) if place != goal)


@pytest.mark.parametrize(("agents", "best", "steps"), [(2, 83, 12), (4, 161, 15)])
def test_the_plan_has_the_highest_return_that_there_is(agents: int, best: int, steps: int) -> None:
    found = search(STARTS[:agents], agents, turn, bound, lambda places: bound(places) == 0)
    assert found == (best, steps)
    played = play_actions(Switch(agents), Plan(OPTIMAL[agents]).actions)
    assert played.rewards.shape == (steps, agents)
    assert played.rewards.sum() == pytest.approx(best / 10, abs=1e-4)
    assert played.outcome == {"arrived": 1.0}
    assert float(played.last.discount) == 0.0


@pytest.mark.parametrize("agents", [2, 4])
def test_the_plan_is_the_environments_own_policy(agents: int) -> None:
    env = Switch(agents)
    episodes = play(env, env.heuristics()["optimal"], evaluation_keys(3))
    np.testing.assert_allclose(episodes.returns.sum(-1), {2: 8.3, 4: 16.1}[agents], rtol=1e-5)


@pytest.mark.parametrize("agents", [2, 4])
def test_it_plays_like_the_loop(agents: int) -> None:
    env = Switch(agents)
    step = jax.jit(env.step)
    arrived: list[float] = []
    for seed in range(6):
        places = STARTS[:agents]
        state, ts = env.reset(KEY)
        actions = disturbed(Plan(OPTIMAL[agents]).actions, 50, seed)
        for time, action in enumerate(actions, 1):
            reward = np.zeros(agents)
            for agent in range(agents):
                places, reward[agent] = turn(places, agent, int(action[agent]))
            state, ts = step(state, jnp.asarray(action, jnp.int32), KEY)
            assert state.places.tolist() == [list(place) for place in places]
            np.testing.assert_allclose(ts.reward, reward / 10, rtol=1e-6)
            assert_seen(ts, places, time)
            over = bound(places) == 0
            assert (bool(ts.last), float(ts.discount)) == (over or time == 50, 0.0 if over else 1.0)
            if ts.last:
                break
        arrived.append(float(env.outcome(state)["arrived"]))
    assert min(arrived) < max(arrived)


def assert_seen(ts: Any, places: tuple[Place, ...], time: int) -> None:
    """Observations and state."""
    own = [[row / 2, column / 6] for row, column in places]
    np.testing.assert_allclose(ts.obs, [[*place, time / 50] for place in own], rtol=1e-6)
    np.testing.assert_allclose(ts.state, [*np.ravel(own), time / 50], rtol=1e-6)


def test_the_first_step() -> None:
    ts = Switch(4).reset(KEY)[1]
    np.testing.assert_allclose(ts.obs, [[0, 1 / 6, 0], [0, 5 / 6, 0], [1, 1 / 6, 0], [1, 5 / 6, 0]], rtol=1e-6)
    assert ts.avail.all()


def test_who_has_arrived_stays_in_the_way() -> None:
    # The second agent arrives at (0, 0); the first one cannot enter, and the second one cannot leave.
    env = Switch(2)
    state, _ = env.reset(KEY)
    state = state._replace(places=jnp.array([[1, 0], [0, 1]], jnp.int32))
    state, ts = env.step(state, jnp.array([UP, LEFT]), KEY)
    assert state.places.tolist() == [[0, 0], [0, 1]]  # the first one moves first
    np.testing.assert_allclose(ts.reward, [-0.1, -0.1])
    state = state._replace(places=jnp.array([[0, 1], [0, 0]], jnp.int32))
    state, ts = env.step(state, jnp.array([LEFT, DOWN]), KEY)
    assert state.places.tolist() == [[0, 1], [0, 0]]
    np.testing.assert_allclose(ts.reward, [-0.1, 0.0])
    assert not ts.last


@pytest.mark.parametrize("env", [Switch(2), Switch(4)], ids=lambda env: env.spec.name)
def test_it_conforms(env: Env) -> None:
    assert check_env(env) == []
