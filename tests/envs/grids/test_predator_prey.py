"""Punished predator-prey: against the rules as a loop in Python, and what single situations come to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.grids.predator_prey import NOWHERE, HuntState, PredatorPrey
from comarl.envs.registry import make_env
from comarl.training.baselines import RandomPolicy
from comarl.training.evaluate import evaluation_keys, play

KEY = jax.random.key(0)
RIGHT, DOWN, LEFT, UP, STAY, CATCH = range(6)
MOVES = [(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (0, 0)]
ENV = PredatorPrey("predator-prey/p-2", -2.0)
STEP = jax.jit(ENV.step)
OBSERVE = jax.jit(ENV.observe)

Place = tuple[int, int]
GONE = (NOWHERE, NOWHERE)


def hunt(predators: list[Place], prey: list[Place], time: int = 0) -> HuntState:
    """A state with these; all others are gone."""
    filled = [places + [GONE] * (8 - len(places)) for places in (predators, prey)]
    there, hunted = (jnp.array(places, jnp.int32) for places in filled)
    return HuntState(there, hunted, jnp.array(time, jnp.int32), jnp.zeros(()))


def act(*actions: int) -> jax.Array:
    """The joint action; the others stay."""
    return jnp.array([*actions, *[STAY] * (8 - len(actions))], jnp.int32)


def there(places: jax.Array) -> list[Place]:
    """Those who are not gone."""
    return [(int(row), int(column)) for row, column in places if row < 10]


def inside(place: Place) -> bool:
    return 0 <= place[0] < 10 and 0 <= place[1] < 10


def beside(place: Place) -> list[Place]:
    return [(place[0] + down, place[1] + right) for down, right in MOVES[:4]]


def naive_step(
    predators: list[Place], prey: list[Place], action: list[int], key: jax.Array
) -> tuple[list[Place], list[Place], float]:
    """The rules, one after another, with the environment's own draws."""
    predators_key, prey_key = jax.random.split(key)
    order_key, move_key = jax.random.split(prey_key)
    predators, prey, reward = list(predators), list(prey), 0.0
    for i in jax.random.permutation(predators_key, 8).tolist():
        target = beside(predators[i])[action[i]] if action[i] < STAY else predators[i]
        if predators[i] != GONE and inside(target) and target not in predators + prey:
            predators[i] = target
    preferences = np.asarray(jax.random.uniform(move_key, (8, 4)))
    for j in jax.random.permutation(order_key, 8).tolist():
        if prey[j] == GONE:
            continue
        catchers = [i for i in range(8) if action[i] == CATCH and predators[i] in beside(prey[j])]
        free = [u for u in range(4) if inside(beside(prey[j])[u]) and beside(prey[j])[u] not in predators + prey]
        if len(catchers) >= 2:
            reward += 10
            prey[j] = GONE
            for i in catchers:
                predators[i] = GONE
            continue
        reward += -2 * len(catchers)
        if free:
            prey[j] = beside(prey[j])[max(free, key=lambda u: preferences[j, u])]
    return predators, prey, reward


def naive_obs(predators: list[Place], prey: list[Place], agent: int) -> list[bool]:
    """An agent's observation."""
    row, column = predators[agent]
    window = [(r, c) for r in range(row - 2, row + 3) for c in range(column - 2, column + 3)]
    gone = predators[agent] == GONE
    return [place in who and not gone for place in window for who in (predators, prey)]


def naive_avail(predators: list[Place], prey: list[Place], agent: int) -> list[bool]:
    """What an agent may do."""
    if predators[agent] == GONE:
        return [False] * 4 + [True, False]
    places = beside(predators[agent])
    return [*map(inside, places), True, any(place in prey for place in places)]


def test_it_plays_like_the_loop() -> None:
    caught = 0.0
    script = jax.jit(lambda ts, key: ENV.heuristics()["heuristic"].act((), ts, key, False)[1])
    rng = np.random.default_rng(0)
    for seed in range(3):
        state, ts = ENV.reset(jax.random.key(seed))
        predators, prey = ([(r, c) for r, c in places.tolist()] for places in (state.predators, state.prey))
        assert len({*predators, *prey}) == 16
        for time in range(1, 41):
            key = jax.random.fold_in(jax.random.key(seed), time)
            # The script's actions, half of them replaced by random available ones: single catches, too.
            rank = np.where(ts.avail, rng.random((8, 6)), -1)
            action = np.where(rng.random(8) < 0.5, rank.argmax(-1), script(ts, key))
            state, ts = STEP(state, jnp.asarray(action, jnp.int32), key)
            predators, prey, reward = naive_step(predators, prey, action.tolist(), key)
            assert state.predators.tolist() == [list(place) for place in predators]
            assert state.prey.tolist() == [list(place) for place in prey]
            assert ts.reward.tolist() == [reward] * 8
            np.testing.assert_array_equal(ts.obs, [naive_obs(predators, prey, i) for i in range(8)])
            np.testing.assert_array_equal(ts.avail, [naive_avail(predators, prey, i) for i in range(8)])
            cells = [(r, c) for r in range(10) for c in range(10)]
            np.testing.assert_array_equal(ts.state, [cell in who for cell in cells for who in (predators, prey)])
            if ts.last:
                break
        caught += float(ENV.outcome(state)["caught"])
    assert caught >= 3


@pytest.mark.parametrize(
    ("predators", "prey", "actions", "reward", "left"),
    [
        ([(4, 3), (4, 5)], [(4, 4)], (CATCH, CATCH), 10, (0, 0)),  # both, and both are gone with it
        ([(4, 3), (4, 5)], [(4, 4)], (CATCH, STAY), -2, (2, 1)),  # one alone
        ([(4, 3), (4, 5), (5, 4)], [(4, 4)], (CATCH, CATCH, CATCH), 10, (0, 0)),  # three are gone with one prey
        ([(4, 3)], [(4, 2), (4, 4)], (CATCH,), -4, (1, 2)),  # alone between two
        ([(4, 3), (5, 5)], [(4, 4)], (CATCH, CATCH), -2, (2, 1)),  # the other is not beside it, only at a corner
        ([(4, 3), (4, 7)], [(4, 4), (4, 6)], (CATCH, CATCH), -4, (2, 2)),  # each another one
    ],
)
def test_catching(
    predators: list[Place], prey: list[Place], actions: tuple[int, ...], reward: float, left: tuple[int, int]
) -> None:
    state, ts = STEP(hunt(predators, prey), act(*actions), KEY)
    assert ts.reward.tolist() == [reward] * 8
    assert (len(there(state.predators)), len(there(state.prey))) == left


@pytest.mark.parametrize("punishment", [0.0, 1.0, 1.5, 2.0])
def test_the_name_says_what_catching_alone_costs(punishment: float) -> None:
    env = make_env(f"predator-prey/p-{punishment:g}")
    _, ts = env.step(hunt([(4, 3)], [(4, 4)]), act(CATCH), KEY)
    assert ts.reward.tolist() == [-punishment] * 8


def test_four_captures_are_the_most_and_pay_40() -> None:
    pairs = [(row, column) for row in (0, 3, 6, 9) for column in (0, 2)]
    prey = [(row, 1) for row in (0, 3, 6, 9)] + [(row, 9) for row in (0, 3, 6, 9)]
    state, ts = STEP(hunt(pairs, prey), act(*[CATCH] * 8), KEY)
    assert float(ts.reward[0]) == 40
    assert (bool(ts.last), float(ts.discount)) == (True, 0.0)
    assert float(ENV.outcome(state)["caught"]) == 4
    assert ts.avail.tolist() == [[False] * 4 + [True, False]] * 8
    assert not ts.obs.any()


def test_prey_takes_each_free_place_equally_often() -> None:
    # Above the prey is the rim, to its left a predator: half right, half down.
    state = hunt([(0, 4)], [(0, 5)])
    keys = jax.random.split(KEY, 2000)
    after, _ = jax.jit(jax.vmap(ENV.step, in_axes=(None, None, 0)))(state, act(STAY), keys)
    places, counts = np.unique(after.prey[:, 0], axis=0, return_counts=True)
    assert places.tolist() == [[0, 6], [1, 5]]
    assert abs(counts[0] - 1000) < 4 * np.sqrt(2000 / 4)


def test_prey_that_is_shut_in_stays() -> None:
    state, ts = STEP(hunt([(0, 1), (1, 0)], [(0, 0)]), act(STAY, STAY), KEY)
    assert there(state.prey) == [(0, 0)]
    assert ts.reward.tolist() == [0.0] * 8


def test_the_end() -> None:
    apart = hunt([(0, 0), (0, 9)], [(9, 9)], time=199)
    _, ts = STEP(apart, act(), KEY)
    assert (bool(ts.last), float(ts.discount)) == (True, 1.0)
    _, ts = STEP(apart._replace(time=jnp.array(198, jnp.int32)), act(), KEY)
    assert not ts.last
    for over in (hunt([], [(4, 4)]), hunt([(4, 4)], [])):
        ts = OBSERVE(over)
        assert (bool(ts.last), float(ts.discount)) == (True, 0.0)


def test_the_script_hunts_and_random_play_does_not() -> None:
    keys = evaluation_keys(16)
    script = play(ENV, ENV.heuristics()["heuristic"], keys)
    chance = play(ENV, RandomPolicy(), keys)
    assert float(script.returns.mean()) > 30
    assert float(script.returns.max()) <= 40
    assert float(chance.returns.mean()) < -20
    assert float(script.outcome["caught"].max()) <= 4


def test_it_conforms() -> None:
    assert check_env(ENV) == []
