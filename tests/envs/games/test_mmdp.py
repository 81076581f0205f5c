"""The two-state game: its dynamics, its best return, its time limit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.conformance import check_env
from comarl.envs.games.mmdp import MMDP
from comarl.types import TimeStep

KEY = jax.random.key(0)
ENV = MMDP()


def play(joint_actions: Array) -> TimeStep:
    state, _ = ENV.reset(KEY)
    return jax.lax.scan(lambda s, a: ENV.step(s, a, KEY), state, joint_actions)[1]


@pytest.mark.parametrize("action", list(itertools.product([0, 1], repeat=2)))
def test_one_step_from_each_state(action: tuple[int, int]) -> None:
    state, ts = ENV.reset(KEY)
    np.testing.assert_array_equal(ts.state, [0, 1])
    state, ts = ENV.step(state, jnp.array(action), KEY)
    np.testing.assert_array_equal(ts.reward, [1.0 if action == (0, 0) else 0.0] * 2)
    np.testing.assert_array_equal(ts.state, [1, 0] if action == (1, 1) else [0, 1])

    absorbing = state._replace(place=jnp.zeros_like(state.place))
    _, ts = ENV.step(absorbing, jnp.array(action), KEY)
    np.testing.assert_array_equal(ts.reward, [0.0, 0.0])
    np.testing.assert_array_equal(ts.state, [1, 0])


def test_the_best_return_is_100_and_the_time_limit_is_no_termination() -> None:
    ts = play(jnp.zeros((100, 2), jnp.int32))
    assert float(ts.reward[:, 0].sum()) == 100.0
    np.testing.assert_array_equal(ts.last, np.arange(100) == 99)
    assert (ts.discount == 1.0).all()


def test_it_conforms() -> None:
    assert check_env(ENV, episodes=2) == []
