"""Walking one after another, against a loop in Python."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from comarl.envs.grids.moves import MOVES, walk

WALK = jax.jit(walk)


def naive_walk(places: np.ndarray, steps: np.ndarray, order: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The rules, one agent at a time."""
    places = places.copy()
    for agent in order:
        row, column = places[agent] + steps[agent]
        inside = 0 <= row < free.shape[0] and 0 <= column < free.shape[1]
        if inside and free[row, column] and [row, column] not in places.tolist():
            places[agent] = row, column
    return places


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    free = rng.random((3, 4)) < 0.8
    cells = rng.choice(12, 5, replace=False)
    places = np.stack([cells // 4, cells % 4], axis=-1).astype(np.int32)
    steps, order = MOVES[rng.integers(0, 5, 5)].astype(np.int32), rng.permutation(5)
    moved = WALK(jnp.asarray(places), jnp.asarray(steps), jnp.asarray(order), jnp.asarray(free))
    np.testing.assert_array_equal(moved, naive_walk(places, steps, order, free))


def test_the_order_decides_who_follows_whom() -> None:
    row = jnp.array([[0, 0], [0, 1]])
    right = jnp.array([[0, 1], [0, 1]])
    free = jnp.ones((1, 3), bool)
    assert WALK(row, right, jnp.array([0, 1]), free).tolist() == [[0, 0], [0, 2]]
    assert WALK(row, right, jnp.array([1, 0]), free).tolist() == [[0, 1], [0, 2]]


def test_who_is_far_outside_never_comes_in() -> None:
    free = jnp.ones((2, 2), bool)
    for step in MOVES:
        moved = WALK(jnp.array([[4, 4]]), jnp.array(step)[None], jnp.array([0]), free)
        assert moved.tolist() == [[4, 4]]
