"""The two-step game, step by step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.games.two_step import TwoStep

KEY = jax.random.key(0)
ENV = TwoStep()


def test_it_begins_in_the_first_state_and_both_agents_see_it() -> None:
    _, ts = ENV.reset(KEY)
    np.testing.assert_array_equal(ts.state, [1, 0, 0])
    np.testing.assert_array_equal(ts.obs, [[1, 0, 0], [1, 0, 0]])
    assert ts.avail.all()


@pytest.mark.parametrize(("first", "second"), list(itertools.product([0, 1], repeat=2)))
def test_the_first_agent_alone_chooses_the_second_state(first: int, second: int) -> None:
    state, _ = ENV.reset(KEY)
    _, ts = ENV.step(state, jnp.array([first, second]), KEY)
    np.testing.assert_array_equal(ts.state, [[0, 1, 0], [0, 0, 1]][first])
    np.testing.assert_array_equal(ts.reward, [0, 0])
    assert not bool(ts.last)
    assert float(ts.discount) == 1.0


@pytest.mark.parametrize(
    ("first", "payoff"), [(0, [[7, 7], [7, 7]]), (1, [[0, 1], [1, 8]])]
)  # Rashid et al. 2018, table 1
def test_the_second_step_pays_and_terminates(first: int, payoff: list[list[int]]) -> None:
    state, _ = ENV.reset(KEY)
    state, _ = ENV.step(state, jnp.array([first, 0]), KEY)
    for a, b in itertools.product([0, 1], repeat=2):
        _, ts = ENV.step(state, jnp.array([a, b]), KEY)
        np.testing.assert_array_equal(ts.reward, [payoff[a][b]] * 2)
        assert bool(ts.last)
        assert float(ts.discount) == 0.0
        np.testing.assert_array_equal(ts.state, [[0, 1, 0], [0, 0, 1]][first])
    np.testing.assert_array_equal(ENV.payoff[first], payoff)


def test_it_conforms() -> None:
    assert check_env(ENV) == []
