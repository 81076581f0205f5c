"""Distributions over available actions, and over vectors."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chisquare, kstest, norm
from scipy.stats import entropy as entropy_of

from comarl.nets.distributions import (
    Categorical,
    Distribution,
    Gaussian,
    chosen,
    entropy,
    gumbel_softmax,
    log_probabilities,
    mode,
    sample,
    with_floor,
)

LOGITS = jnp.array([[0.3, -1.0, 2.0, 50.0], [0.0, 0.0, 1.0, 0.0]])
AVAIL = jnp.array([[True, True, True, False], [False, True, False, False]])
P = np.zeros((2, 4))
P[0, :3] = np.exp([0.3, -1.0, 2.0]) / np.exp([0.3, -1.0, 2.0]).sum()
P[1, 1] = 1


def test_probabilities_entropy_mode() -> None:
    log_p = log_probabilities(LOGITS, AVAIL)
    np.testing.assert_allclose(np.exp(log_p), P, rtol=1e-5)
    np.testing.assert_allclose(entropy(log_p), [entropy_of(P[0]), 0], atol=1e-6)
    np.testing.assert_array_equal(mode(log_p), [2, 1])
    np.testing.assert_allclose(chosen(log_p, jnp.array([0, 1])), np.log(P[[0, 1], [0, 1]]), rtol=1e-5, atol=1e-6)


def test_a_floor_is_mixed_in_over_the_available_actions() -> None:
    share = np.where(AVAIL, 1 / np.asarray(AVAIL).sum(-1, keepdims=True), 0)
    for epsilon in (0.0, 0.25, 1.0):
        floored = with_floor(log_probabilities(LOGITS, AVAIL), AVAIL, jnp.full(2, epsilon))
        np.testing.assert_allclose(np.exp(floored), (1 - epsilon) * P + epsilon * share, rtol=1e-5, atol=1e-7)
        assert np.isfinite(floored).all()
    # Nothing is lost where the softmax is all but sure: what is rare then has the floor, and stays in order.
    sure = with_floor(log_probabilities(200 * LOGITS[:1], AVAIL[:1]), AVAIL[:1], jnp.full(1, 0.3))
    np.testing.assert_allclose(np.exp(sure), [[0.1, 0.1, 0.8, 0]], rtol=1e-5)


def test_the_gradient_of_a_floored_probability_is_scaled_by_what_the_floor_leaves() -> None:
    """∂/∂θ_b of log((1 - ε) p_a + ε/n) is (1 - ε) p_a ([a = b] - p_b) over that probability; 0 under ε = 1."""
    log_of_first = lambda x, e: with_floor(log_probabilities(x, AVAIL), AVAIL, jnp.full(2, e))[0, 0]  # noqa: E731
    for epsilon in (0.0, 0.25, 1.0):
        gradient = jax.grad(log_of_first)(LOGITS, epsilon)
        p = (1 - epsilon) * P[0, 0] + epsilon / 3
        by_hand = (1 - epsilon) * P[0, 0] * (np.array([1, 0, 0, 0]) - P[0]) / p
        np.testing.assert_allclose(gradient[0], by_hand, rtol=1e-4, atol=1e-6)


def test_draws_have_these_probabilities() -> None:
    log_p = jnp.broadcast_to(log_probabilities(LOGITS, AVAIL), (3000, 2, 4))
    drawn = np.asarray(sample(log_p, jax.random.key(0)))
    assert (drawn[:, 1] == 1).all()
    counts = np.bincount(drawn[:, 0], minlength=4)
    assert counts[3] == 0
    assert chisquare(counts[:3], 3000 * P[0, :3]).pvalue > 0.01


def test_gradients_are_finite_and_leave_unavailable_actions_alone() -> None:
    def both(logits: jax.Array) -> jax.Array:
        log_p = log_probabilities(logits, AVAIL)
        return entropy(log_p).sum() + chosen(log_p, jnp.array([0, 1])).sum()

    gradient = np.asarray(jax.grad(both)(LOGITS))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~np.asarray(AVAIL)], 0)
    assert np.abs(gradient[0, :3]).min() > 0
    # -Σ p log p falls by p (log p + H) where a logit rises; the chosen one's log p rises by 1 - p.
    h = entropy_of(P[0])
    by_hand = -P[0, :3] * (np.log(P[0, :3]) + h) - P[0, :3] + [1, 0, 0]
    np.testing.assert_allclose(gradient[0, :3], by_hand, atol=1e-5)


def test_soft_draws_are_their_equation_and_lean_towards_a_hard_one() -> None:
    log_p, key = log_probabilities(LOGITS, AVAIL), jax.random.key(2)
    noisy = np.asarray(log_p) + np.asarray(jax.random.gumbel(key, log_p.shape))
    for temperature in (1.0, 0.5):
        y = np.exp(noisy / temperature)
        np.testing.assert_allclose(
            gumbel_softmax(log_p, key, temperature), y / y.sum(-1, keepdims=True), rtol=1e-4, atol=1e-7
        )
    np.testing.assert_array_equal(np.asarray(gumbel_softmax(log_p, key, 1.0))[~np.asarray(AVAIL)], 0)
    many = jnp.broadcast_to(log_p[0], (3000, 4))
    counts = np.bincount(np.asarray(gumbel_softmax(many, key, 1.0).argmax(-1)), minlength=4)
    assert counts[3] == 0
    assert chisquare(counts[:3], 3000 * P[0, :3]).pvalue > 0.01


def test_straight_through_shows_the_hard_draw_and_has_the_soft_ones_gradient() -> None:
    log_p, key, worth = log_probabilities(LOGITS, AVAIL), jax.random.key(2), jnp.array([1.0, -2.0, 0.5, 3.0])
    soft = gumbel_softmax(log_p, key, 0.7)
    hard = gumbel_softmax(log_p, key, 0.7, straight_through=True)
    np.testing.assert_allclose(hard, jax.nn.one_hot(soft.argmax(-1), 4), atol=1e-6)
    slopes = [
        jax.grad(lambda x, through=through: (gumbel_softmax(x, key, 0.7, through) @ worth).sum())(log_p)
        for through in (False, True)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-5)
    assert np.abs(slopes[0][0]).max() > 0.01


def test_a_categorical_is_its_parts() -> None:
    pi, action, key = Categorical.of(LOGITS, AVAIL), jnp.array([2, 1]), jax.random.key(0)
    assert isinstance(pi, Distribution)
    log_p = log_probabilities(LOGITS, AVAIL)
    np.testing.assert_array_equal(pi.log_prob(action), chosen(log_p, action))
    np.testing.assert_array_equal(pi.entropy(), entropy(log_p))
    np.testing.assert_array_equal(pi.mode(), [2, 1])
    np.testing.assert_array_equal(pi.sample(key), sample(log_p, key))
    np.testing.assert_array_equal(pi.undecided, [True, False])


# Three agents with three, two and no components.
MEAN = np.array([[0.3, -1.7, 0.0], [0.5, 2.0, 9.0], [1.0, 1.0, 1.0]], np.float32)
SPREAD = np.array([[0.0, 0.8, -1.5], [-0.4, 1.2, 3.0], [0.0, 0.0, 0.0]], np.float32)
OWN = np.array([[True, True, True], [True, True, False], [False, False, False]])
STD = np.exp(-1 + 2 * np.tanh(SPREAD / 2))
NORMAL = Gaussian.of(jnp.concatenate([MEAN, SPREAD], axis=-1), jnp.asarray(OWN))


def test_a_gaussian_is_scipys_over_the_components_that_there_are() -> None:
    assert isinstance(NORMAL, Distribution)
    action = np.array([[0.1, -3.0, 0.2], [0.4, 0.0, 5.0], [0.0, 0.0, 0.0]], np.float32)
    density = np.where(OWN, norm.logpdf(action, MEAN, STD), 0).sum(-1)
    np.testing.assert_allclose(NORMAL.log_prob(jnp.asarray(action)), density, rtol=1e-5)
    np.testing.assert_allclose(NORMAL.entropy(), np.where(OWN, norm.entropy(MEAN, STD), 0).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(NORMAL.mode(), np.where(OWN, np.clip(MEAN, -1, 1), 0))
    np.testing.assert_array_equal(NORMAL.undecided, [True, True, False])


def test_gaussian_draws_have_this_distribution_and_are_not_clipped() -> None:
    drawn = np.asarray(jax.vmap(NORMAL.sample)(jax.random.split(jax.random.key(3), 3000)))
    np.testing.assert_array_equal(drawn[:, ~OWN], 0)
    for i, a in np.argwhere(OWN):
        assert kstest(drawn[:, i, a], norm(MEAN[i, a], STD[i, a]).cdf).pvalue > 0.01
    assert drawn.min() < -1.5


def test_gaussian_gradients_are_their_formulas_and_leave_padding_alone() -> None:
    """∂/∂μ of the log-density is (u - μ) / σ², ∂/∂log σ is ((u - μ) / σ)² - 1, and ∂/∂log σ of the entropy is 1."""
    action = MEAN + 0.5

    def density(outputs: jax.Array) -> jax.Array:
        return Gaussian.of(outputs, jnp.asarray(OWN)).log_prob(jnp.asarray(action)).sum()

    def spread(outputs: jax.Array) -> jax.Array:
        return Gaussian.of(outputs, jnp.asarray(OWN)).entropy().sum()

    outputs = jnp.concatenate([MEAN, SPREAD], axis=-1)
    slope = 1 / np.cosh(SPREAD / 2) ** 2  # of log σ in what the network gives
    by_hand = np.concatenate([0.5 / STD**2, ((0.5 / STD) ** 2 - 1) * slope], axis=-1)
    np.testing.assert_allclose(jax.grad(density)(outputs), np.where(np.tile(OWN, 2), by_hand, 0), rtol=1e-4, atol=1e-6)
    by_hand = np.concatenate([0 * slope, slope], axis=-1)
    np.testing.assert_allclose(jax.grad(spread)(outputs), np.where(np.tile(OWN, 2), by_hand, 0), rtol=1e-4, atol=1e-6)


def test_what_the_network_gives_bounds_the_spread_on_both_sides() -> None:
    ends = Gaussian.of(jnp.array([[0.0, 0.0, -100.0, 100.0]]), jnp.ones((1, 2), bool))
    np.testing.assert_allclose(ends.log_std, [[-3, 1]], rtol=1e-6)
