"""λ-returns against a loop, and how a team's reward is formed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from comarl.returns import form_team_reward, n_step, td_lambda

T = 7
numbers = hnp.arrays(np.float32, T, elements=st.floats(-10, 10, width=32))
flags = hnp.arrays(bool, T)


def naive(r: np.ndarray, d: np.ndarray, v: np.ndarray, last: np.ndarray, lambda_: float) -> list[float]:
    """G_{t-1} from its definition: the mixture of n-step returns, each summed forwards.

    (1 - λ) Σ_{n≥1} λ^{n-1} G^(n), where the longest n ends at the episode's or the sequence's end and takes what is
    left of the weights (Sutton and Barto 2018, eq. 12.3).
    """
    out = []
    for start in range(len(r)):
        end = next((t for t in range(start, len(r)) if last[t]), len(r) - 1)
        n_step, discount, total = [], 1.0, 0.0
        for t in range(start, end + 1):
            total += discount * float(r[t])
            discount *= float(d[t])
            n_step.append(total + discount * float(v[t]))
        weights = [(1 - lambda_) * lambda_**n for n in range(len(n_step))]
        weights[-1] = lambda_ ** (len(n_step) - 1)
        out.append(sum(w * g for w, g in zip(weights, n_step, strict=True)))
    return out


@given(numbers, flags, numbers, flags, st.floats(0, 1))
def test_equals_the_mixture_of_n_step_returns(
    r: np.ndarray, ended: np.ndarray, v: np.ndarray, last: np.ndarray, lambda_: float
) -> None:
    # Where an episode terminates it also ends; it may end without terminating.
    d = np.where(ended & last, 0.0, 0.9).astype(np.float32)
    got = td_lambda(jnp.asarray(r), jnp.asarray(d), jnp.asarray(v), jnp.asarray(last), lambda_)
    np.testing.assert_allclose(got, naive(r, d, v, last, lambda_), rtol=1e-4, atol=1e-3)


def test_lambda_zero_is_one_step() -> None:
    r, d, v = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5]), jnp.array([10.0, 20.0])
    got = td_lambda(r, d, v, jnp.zeros(2, bool), 0.0)
    np.testing.assert_allclose(got, [1 + 5, 2 + 10])


@pytest.mark.parametrize("lambda_", [1e-7, 0.0])
def test_the_shortcut_for_lambda_zero_is_the_limit(lambda_: float) -> None:
    r, d, v = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.9, 0.0, 0.9]), jnp.array([5.0, 6.0, 7.0])
    got = td_lambda(r, d, v, jnp.array([False, True, False]), lambda_)
    np.testing.assert_allclose(got, [1 + 4.5, 2, 3 + 6.3], rtol=1e-5)


def test_lambda_one_is_the_discounted_sum_with_the_last_value() -> None:
    r, d, v = jnp.ones(3), jnp.full(3, 0.5), jnp.array([100.0, 100.0, 8.0])
    # 1 + .5 + .25 + .125 · 8 = 2.75; then 1 + .5 + .25 · 8 = 3.5; then 1 + .5 · 8 = 5.
    np.testing.assert_allclose(td_lambda(r, d, v, jnp.zeros(3, bool), 1.0), [2.75, 3.5, 5.0])


def test_truncation_bootstraps_where_termination_does_not() -> None:
    r, v, last = jnp.ones(3), jnp.full(3, 4.0), jnp.array([False, True, False])
    cut = td_lambda(r, jnp.full(3, 0.5), v, last, 1.0)
    terminated = td_lambda(r, jnp.array([0.5, 0.0, 0.5]), v, last, 1.0)
    # Last step of the episode: 1 + .5 · 4 = 3 if cut, 1 if terminated; before it: 1 + .5 · that.
    np.testing.assert_allclose(cut[:2], [2.5, 3.0])
    np.testing.assert_allclose(terminated[:2], [1.5, 1.0])


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_nothing_flows_back_over_the_end_of_an_episode(lambda_: float) -> None:
    r, d, v = jnp.arange(4.0), jnp.full(4, 0.9), jnp.arange(4.0)
    last = jnp.array([False, True, False, False])

    def first_two(tail: jax.Array) -> jax.Array:
        return td_lambda(r.at[2:].set(tail), d, v.at[2:].set(tail), last, lambda_)[:2]

    assert not jax.jacobian(first_two)(jnp.array([5.0, 6.0])).any()


def naive_n_step(r: np.ndarray, d: np.ndarray, v: np.ndarray, last: np.ndarray, n: int) -> list[float]:
    """Each return summed forwards over its n rewards, or as many as there are."""
    out = []
    for start in range(len(r)):
        discount, total = 1.0, 0.0
        for t in range(start, min(start + n, len(r))):
            total += discount * float(r[t])
            discount *= float(d[t])
            value = float(v[t])
            if last[t]:
                break
        out.append(total + discount * value)
    return out


@given(numbers, flags, numbers, flags, st.integers(1, T + 2))
def test_n_step_equals_the_loop(r: np.ndarray, ended: np.ndarray, v: np.ndarray, last: np.ndarray, n: int) -> None:
    d = np.where(ended & last, 0.0, 0.9).astype(np.float32)
    got = n_step(jnp.asarray(r), jnp.asarray(d), jnp.asarray(v), jnp.asarray(last), n)
    np.testing.assert_allclose(got, naive_n_step(r, d, v, last, n), rtol=1e-4, atol=1e-3)


def test_n_step_bootstraps_at_truncation_and_not_at_termination() -> None:
    r, v, last = jnp.ones(4), jnp.full(4, 4.0), jnp.array([False, True, False, False])
    cut = n_step(r, jnp.full(4, 0.5), v, last, 3)
    terminated = n_step(r, jnp.array([0.5, 0.0, 0.5, 0.5]), v, last, 3)
    # The episode's last step: 1 + .5 · 4; before it 1 + .5 · that. Then 1 + .5 (1 + .5 · 4) up to the sequence's end.
    np.testing.assert_allclose(cut, [2.5, 3, 2.5, 3])
    np.testing.assert_allclose(terminated, [1.5, 1, 2.5, 3])


def test_one_step_of_either_kind_is_the_same() -> None:
    r, d, v, last = jnp.arange(4.0), jnp.full(4, 0.9), jnp.arange(4.0) ** 2, jnp.array([False, True, False, False])
    np.testing.assert_array_equal(n_step(r, d, v, last, 1), td_lambda(r, d, v, last, 0.0))


def test_n_step_needs_a_reward() -> None:
    with pytest.raises(ValueError, match="at least 1 reward, got n=0"):
        n_step(jnp.ones(2), jnp.ones(2), jnp.ones(2), jnp.zeros(2, bool), 0)


@pytest.mark.parametrize(("returns", "argument"), [(td_lambda, 0.0), (td_lambda, 0.5), (n_step, 2)])
def test_refuses_a_batch(returns: Any, argument: float) -> None:
    # As for a user without the type-checking hook: __wrapped__ is the function itself.
    batch = jnp.zeros((3, 2))
    with pytest.raises(ValueError, match="one trajectory"):
        getattr(returns, "__wrapped__", returns)(batch, batch, batch, batch, argument)


def test_team_reward() -> None:
    reward = jnp.array([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(form_team_reward(reward, "mean"), [2, 2])
    np.testing.assert_allclose(form_team_reward(reward, "sum"), [4, 4])
    np.testing.assert_allclose(form_team_reward(reward, "individual"), reward)


def test_the_mean_of_a_shared_reward_is_that_reward() -> None:
    shared = jnp.full((5, 3), 0.7)
    np.testing.assert_allclose(form_team_reward(shared, "mean"), np.full(5, 0.7), rtol=1e-6)
