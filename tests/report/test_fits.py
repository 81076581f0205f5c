"""Fitting mixers to payoffs, where least squares or the whole table is the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from comarl.report.fits import Fitted, fit_best, fit_settings, only

DRAW = np.random.default_rng(3)
GAMES = DRAW.uniform(size=(8, 3, 3)).astype(np.float32)
STEPS = 1500


def fitted(method: str, payoffs: np.ndarray, restarts: int = 1) -> Fitted:
    return fit_best(fit_settings(method), jnp.asarray(payoffs), steps=STEPS, restarts=restarts)


@pytest.fixture(scope="module", name="vdn")
def _vdn() -> Fitted:
    return fitted("vdn", GAMES)


def additive(payoff: np.ndarray) -> np.ndarray:
    """The least-squares sum of a row's and a column's utility: their means less the overall mean."""
    return payoff.mean(1, keepdims=True) + payoff.mean(0, keepdims=True) - payoff.mean()


def test_vdn_is_least_squares(vdn: Fitted) -> None:
    for table, payoff in zip(vdn.table, GAMES, strict=True):
        np.testing.assert_allclose(table, additive(payoff), atol=1e-3)
    errors = [((additive(payoff) - payoff) ** 2).mean() for payoff in GAMES]
    np.testing.assert_allclose(vdn.loss, errors, rtol=1e-3)


def test_greedy_is_each_agents_own_best_action_and_pays_what_the_game_says(vdn: Fitted) -> None:
    for i, payoff in enumerate(GAMES):
        expected = np.unravel_index(np.argmax(additive(payoff)), payoff.shape)
        assert tuple(vdn.joint.action[i].tolist()) == expected
        assert vdn.greedy_payoff[i] == payoff[expected]


def test_the_joint_value_is_the_table() -> None:
    result = fitted("joint", GAMES)
    assert result.table.shape == GAMES.shape
    np.testing.assert_allclose(result.table, GAMES, atol=1e-3)
    np.testing.assert_array_equal(result.greedy_payoff, GAMES.max((1, 2)))


def test_independent_learners_have_means_over_the_other_agent() -> None:
    result = fitted("iql", GAMES[:2])
    assert result.table.shape == (2, 3, 3, 2)
    np.testing.assert_allclose(result.joint.q[:, 0], GAMES[:2].mean(2), atol=1e-3)
    np.testing.assert_allclose(result.joint.q[:, 1], GAMES[:2].mean(1), atol=1e-3)


def test_agents_of_different_numbers_of_actions() -> None:
    payoff = np.add.outer([0.0, 1.0], [3.0, 1.0, 2.0]).astype(np.float32)
    result = only(fitted("vdn", payoff[None]))
    np.testing.assert_allclose(result.table, payoff, atol=1e-3)
    assert result.joint.action.tolist() == [1, 0]  # not the third action, which the first agent has not


def test_restarts_keep_the_least_loss() -> None:
    """QMIX-NS on the QTRAN game: with one restart as many fits as there are initial parameters."""
    config = fit_settings("qmix-ns")
    payoff = jnp.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])
    few = {"steps": 30, "optimiser": optax.adam(1e-2)}
    best = fit_best(config, payoff[None], restarts=4, seed=5, **few)
    # The same keys, one by one: a game's keys are drawn as [games, restarts].
    alone = fit_best(config, jnp.stack([payoff] * 4), restarts=1, seed=5, **few)
    assert len(set(alone.loss.tolist())) == 4
    np.testing.assert_allclose(best.loss[0], alone.loss.min(), rtol=1e-5)
    chosen = int(jnp.argmin(alone.loss))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[0], y[chosen], atol=1e-5), best.joint.q, alone.joint.q)


@pytest.mark.paper
def test_qplex_fits_what_no_monotone_mixer_can() -> None:
    payoff = np.array([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]], np.float32)
    result = only(fit_best(fit_settings("qplex"), jnp.asarray(payoff)[None], steps=10_000, restarts=16))
    np.testing.assert_allclose(result.table, payoff, atol=0.1)
    assert result.greedy_payoff == 8
