"""A step of an optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from comarl.algos.optimise import as_vector, gradient_norm, gradient_step


def test_steps_are_those_of_momentum() -> None:
    """By hand, m ← .5 m + g and w ← w - .1 m: the state after one step is where the next begins."""
    optimiser = optax.sgd(0.1, momentum=0.5)
    params = {"w": jnp.array([1.0, -2.0])}
    state, w, m = optimiser.init(params), np.array([1.0, -2.0]), np.zeros(2)
    for gradient in ([1.0, 3.0], [-2.0, 0.5]):
        params, state = gradient_step(optimiser, {"w": jnp.array(gradient)}, state, params)
        m = 0.5 * m + np.array(gradient)
        w = w - 0.1 * m
        np.testing.assert_allclose(params["w"], w, rtol=1e-6)


def test_the_norm_is_that_of_all_parameters_together() -> None:
    """By hand: √(3² + 4² + 12²) = 13."""
    np.testing.assert_allclose(gradient_norm({"w": jnp.array([[3.0], [-4.0]]), "b": jnp.array(12.0)}), 13.0, rtol=1e-6)


def test_as_vector_is_the_optimiser_of_each_parameter() -> None:
    """Clipping by the norm of them all and momentum, over two steps; a part without parameters stays one."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.5))
    vector = as_vector(optimiser)
    params = {"w": jnp.array([[1.0], [-2.0]]), "b": jnp.array(0.5), "none": {}}
    state, flat = optimiser.init(params), vector.init(params)
    for scale in (1.0, -3.0):
        gradient = {"w": scale * jnp.array([[3.0], [4.0]]), "b": jnp.array(12.0), "none": {}}
        want, state = optimiser.update(gradient, state, params)
        got, flat = vector.update(gradient, flat, params)
        assert got["none"] == {}
        for name in ("w", "b"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-6)


def test_of_no_parameters_there_is_no_state() -> None:
    """A checkpoint cannot hold an array of no numbers; MADDPG's actors have no guesses."""
    vector = as_vector(optax.adam(0.1))
    state = vector.init({})
    assert not jax.tree.leaves(state)
    assert vector.update({}, state, {}) == ({}, state)
