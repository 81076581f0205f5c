"""Actions that are done, and what a gradient goes through in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from comarl.algos.relaxed import GumbelDraw, Relaxed, SoftDraw, Tanh
from comarl.nets.distributions import gumbel_softmax, log_probabilities

OUTPUTS = jnp.array([[0.3, -0.2, 1.0], [0.5, -2.0, 40.0]])
AVAIL = jnp.array([[True, True, True], [True, True, False]])
KEY = jax.random.key(2)
MANY = jax.random.split(jax.random.key(1), 2000)
EVERY = pytest.mark.parametrize("actions", [GumbelDraw(0.7), Tanh(0.1), SoftDraw(0.7)], ids=lambda x: type(x).__name__)


@EVERY
def test_all_keep_the_protocol_and_padding_is_never_used(actions: Relaxed) -> None:
    assert isinstance(actions, Relaxed)
    other = OUTPUTS.at[1, 2].set(-7.0)
    for one, two in ((f(OUTPUTS, AVAIL, KEY), f(other, AVAIL, KEY)) for f in (actions.target, actions.soft)):
        np.testing.assert_array_equal(one, two)
        assert one[1, 2] == 0
    np.testing.assert_array_equal(actions.greedy(OUTPUTS, AVAIL), actions.greedy(other, AVAIL))
    np.testing.assert_array_equal(actions.draw(OUTPUTS, AVAIL, KEY), actions.draw(other, AVAIL, KEY))
    jax.tree.map(np.testing.assert_array_equal, actions.report(OUTPUTS, AVAIL), actions.report(other, AVAIL))


def test_vectors_are_a_tanh_with_noise_only_where_they_explore() -> None:
    actions, plain = Tanh(0.1), np.where(AVAIL, np.tanh(OUTPUTS), 0)
    for calm in (
        actions.greedy(OUTPUTS, AVAIL),
        actions.target(OUTPUTS, AVAIL, KEY),
        actions.soft(OUTPUTS, AVAIL, KEY),
    ):
        np.testing.assert_allclose(calm, plain, rtol=1e-6)
    drawn = np.asarray(jax.vmap(lambda key: actions.draw(OUTPUTS, AVAIL, key))(MANY))
    assert kstest(drawn[:, 0, 0], norm(plain[0, 0], 0.1).cdf).pvalue > 0.01
    # tanh(-2) is -.964: a share Φ(-.36) of the noise leads beyond -1, and is clipped.
    np.testing.assert_allclose((drawn[:, 1, 1] == -1).mean(), norm.cdf((-1 - plain[1, 1]) / 0.1), atol=0.05)
    assert (np.abs(drawn) <= 1).all()
    np.testing.assert_array_equal(drawn[:, 1, 2], 0)
    np.testing.assert_allclose(actions.report(OUTPUTS, AVAIL)["saturation"], np.abs(plain).sum(-1) / [3, 2], rtol=1e-6)
    np.testing.assert_array_equal(actions.undecided(jnp.array([[True, False], [False, False]])), [True, False])


def test_soft_draws_are_done_as_they_are_and_greedy_is_a_corner() -> None:
    actions = SoftDraw(0.7)
    y = np.asarray(gumbel_softmax(log_probabilities(OUTPUTS, AVAIL), KEY, 0.7))
    done = np.where(AVAIL, 2 * y - 1, 0)
    for one in (actions.draw, actions.target, actions.soft):
        np.testing.assert_allclose(one(OUTPUTS, AVAIL, KEY), done, rtol=1e-6)
    np.testing.assert_array_equal(actions.greedy(OUTPUTS, AVAIL), [[-1, -1, 1], [1, -1, 0]])
    np.testing.assert_array_equal(actions.undecided(jnp.array([[True, True], [True, False]])), [True, False])
    gradient = np.asarray(jax.grad(lambda x: actions.soft(x, AVAIL, KEY)[:, 0].sum())(OUTPUTS))
    assert (np.abs(gradient[np.asarray(AVAIL)]) > 1e-3).all()
    assert gradient[1, 2] == 0
