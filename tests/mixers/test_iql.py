"""Independent Q-learners."""

import jax.numpy as jnp
import numpy as np

from comarl.envs.base import make_timestep
from comarl.mixers.base import Joint
from comarl.mixers.iql import IQL


def test_values_are_the_agents_own() -> None:
    ts = make_timestep(jnp.zeros((3, 1)), jnp.zeros(1), num_actions=2)
    q = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_array_equal(IQL()(Joint(q, jnp.array([0, 1, 1]), jnp.zeros((3, 1)), ts)), [1, 4, 6])
