"""Running moments of the values' targets."""

import jax
import jax.numpy as jnp
import numpy as np

from comarl.algos.value_scale import MEMORY, ValueScale


def draws(seed: int, mean: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (mean + random.normal(size=(6, 4, 2)) * [1.0, 5.0]).astype(np.float32), random.random((6, 4)) < 0.7


def test_moments_are_those_of_the_weighted_mixture() -> None:
    update = jax.jit(ValueScale.update)
    scale = ValueScale.fresh(2)
    mean, square, weight = np.zeros(2), np.zeros(2), 0.0
    for seed in range(5):
        target, real = draws(seed, 3.0 * seed)
        scale = update(scale, jnp.asarray(target), jnp.asarray(real))
        kept = target[real].astype(float)
        mean = MEMORY * mean + (1 - MEMORY) * kept.mean(0)
        square = MEMORY * square + (1 - MEMORY) * (kept**2).mean(0)
        weight = MEMORY * weight + (1 - MEMORY)
        np.testing.assert_allclose(scale.mean, mean / weight, rtol=1e-4)
        np.testing.assert_allclose(scale.variance, square / weight - (mean / weight) ** 2, rtol=1e-3)


def test_a_large_mean_does_not_drown_the_variance() -> None:
    target, real = draws(0, 1e4)
    scale = ValueScale.fresh(2).update(jnp.asarray(target), jnp.asarray(real))
    np.testing.assert_allclose(scale.variance, target[real].astype(float).var(0), rtol=1e-2)


def test_there_and_back() -> None:
    scale = ValueScale(jnp.array([3.0, -1.0]), jnp.array([4.0, 0.09]), jnp.ones(()))
    np.testing.assert_allclose(scale.normalise(jnp.array([[5.0, -0.7]])), [[1, 1]], rtol=1e-5)
    x = jnp.array([[0.5, 2.0]])
    np.testing.assert_allclose(scale.restore(scale.normalise(x)), x, rtol=1e-5)


def test_nothing_seen_changes_nothing_and_a_constant_is_not_blown_up() -> None:
    x = jnp.array([[0.5, 2.0]])
    np.testing.assert_array_equal(ValueScale.fresh(2).normalise(x), x)
    same = ValueScale.fresh(2).update(jnp.ones((3, 2, 2)), jnp.ones((3, 2), bool))
    assert np.abs(same.normalise(jnp.full((1, 2), 1.01))).max() < 0.11
