"""A step of an optimiser."""

import jax.numpy as jnp
import numpy as np
import optax

from comarl.algos.optimise import gradient_step


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
