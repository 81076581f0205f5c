"""Sizes of an environment, and the form of its actions."""

import jax.numpy as jnp
import numpy as np

from comarl.types import EnvSpec, action_features


def test_an_environment_without_types_has_agents_of_one_type() -> None:
    assert EnvSpec("x", 3, 1, 1, 2, 10).types == (0, 0, 0)
    assert EnvSpec("x", 3, 1, 1, 2, 10, agent_types=(1, 0, 1)).types == (1, 0, 1)


def test_actions_are_indices_or_vectors() -> None:
    form = EnvSpec("x", 3, 1, 1, 2, 10).action_form
    assert (form.shape, form.dtype) == ((3,), jnp.int32)
    form = EnvSpec("x", 3, 1, 1, 2, 10, continuous=True).action_form
    assert (form.shape, form.dtype) == ((3, 2), jnp.float32)


def test_networks_see_an_index_one_hot_and_a_vector_as_it_is() -> None:
    index = jnp.array([[1, 0], [2, 2]])
    np.testing.assert_array_equal(action_features(index, 3), np.eye(3)[np.asarray(index)])
    vector = jnp.array([[0.5, -1.5]])
    np.testing.assert_array_equal(action_features(vector, 2), vector)
