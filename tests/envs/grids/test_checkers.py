"""Checkers: against the rules as a loop in Python, and the highest return by search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.grids.checkers import OPTIMAL, Checkers
from comarl.envs.grids.plan import Plan
from comarl.training.evaluate import evaluation_keys, play
from tests.envs.grids.play import disturbed, play_actions
from tests.envs.grids.search import search

KEY = jax.random.key(0)
DOWN, LEFT, UP, RIGHT, STAY = range(5)
ENV = Checkers()

Place = tuple[int, int]
State = tuple[tuple[Place, ...], frozenset[Place]]
"""Where the agents are and where food is left."""

START: State = (((0, 6), (2, 6)), frozenset((row, column) for row in range(3) for column in range(6)))


def is_apple(place: Place) -> bool:
    return sum(place) % 2 == 0


def turn(state: State, agent: int, action: int) -> tuple[State, int]:
    """One agent's move; the reward in hundredths."""
    places, food = state
    row, column = places[agent]
    down, right = {DOWN: (1, 0), LEFT: (0, -1), UP: (-1, 0), RIGHT: (0, 1), STAY: (0, 0)}[action]
    target = (row + down, column + right)
    if not (0 <= target[0] < 3 and 0 <= target[1] < 8) or target in places:
        return state, -1
    places = (*places[:agent], target, *places[agent + 1 :])
    if target not in food:
        return (places, food), -1
    worth = (1000, 100)[agent] * (1 if is_apple(target) else -1)
    return (places, food - {target}), worth - 1


def apples(state: State) -> int:
    return sum(map(is_apple, state[1]))


def test_the_plan_has_the_highest_return_that_there_is() -> None:
    # 9 apples for the first agent, 3 lemons for the second one, and 37 steps: 90 - 3 - 37 * .02.
    found = search(START, 2, turn, lambda state: 1000 * apples(state), lambda state: apples(state) == 0)
    assert found == (8626, 37)
    played = play_actions(ENV, Plan(OPTIMAL).actions)
    assert played.rewards.shape == (37, 2)
    np.testing.assert_allclose(played.rewards.sum(0), [90 - 0.37, -3 - 0.37], rtol=1e-5)
    assert played.outcome == {"eaten": 1.0}
    assert float(played.last.discount) == 0.0


def test_the_plan_is_the_environments_own_policy() -> None:
    episodes = play(ENV, ENV.heuristics()["optimal"], evaluation_keys(2))
    np.testing.assert_allclose(episodes.returns.sum(-1), 86.26, rtol=1e-5)


def test_it_plays_like_the_loop() -> None:
    step = jax.jit(ENV.step)
    eaten: list[float] = []
    for seed in range(6):
        now = START
        state, ts = ENV.reset(KEY)
        for time, action in enumerate(disturbed(Plan(OPTIMAL).actions, 100, seed), 1):
            reward = np.zeros(2)
            for agent in range(2):
                now, reward[agent] = turn(now, agent, int(action[agent]))
            state, ts = step(state, jnp.asarray(action, jnp.int32), KEY)
            np.testing.assert_allclose(ts.reward, reward / 100, rtol=1e-5)
            np.testing.assert_allclose(ts.obs, [seen(now, agent) for agent in range(2)], rtol=1e-6)
            food = [place in now[1] for place in sorted(START[1])]
            own = [x for row, column in now[0] for x in (row / 2, column / 7)]
            np.testing.assert_allclose(ts.state, [*own, *food], rtol=1e-6)
            over = apples(now) == 0
            assert (bool(ts.last), float(ts.discount)) == (over or time == 100, 0.0 if over else 1.0)
            if ts.last:
                break
        eaten.append(float(ENV.outcome(state)["eaten"]))
    assert 0 < min(eaten) < max(eaten)


def seen(state: State, agent: int) -> list[float]:
    """An agent's observation: its place, and lemon, apple, first and second agent on nine places."""
    places, food = state
    row, column = places[agent]
    features = [row / 3, column / 7]
    for place in ((r, c) for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)):
        there = place in food
        features += [there and not is_apple(place), there and is_apple(place), place == places[0], place == places[1]]
    return features


def test_without_food_it_is_cut_after_100_steps() -> None:
    played = play_actions(ENV, np.full((100, 2), STAY))
    np.testing.assert_allclose(played.rewards, -0.01)
    assert float(played.last.discount) == 1.0
    assert played.outcome == {"eaten": 0.0}


@pytest.mark.parametrize(("agent", "pays"), [(0, [-10.01, -0.01]), (1, [-0.01, -1.01])])
def test_a_lemon_costs_the_one_who_eats_it(agent: int, pays: list[float]) -> None:
    state, _ = ENV.reset(KEY)
    action = [STAY, STAY]
    action[agent] = LEFT
    np.testing.assert_allclose(ENV.step(state, jnp.array(action), KEY)[1].reward, pays, rtol=1e-6)


def test_it_conforms() -> None:
    assert check_env(ENV) == []
