"""VDN and VDN-S by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from comarl.envs.base import make_timestep
from comarl.mixers.base import Joint
from comarl.mixers.vdn import VDN, VDNS

STATE = jnp.array([1.0, -2.0])
TS = make_timestep(jnp.zeros((3, 1)), STATE, num_actions=2)
JOINT = Joint(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([0, 1, 1]), jnp.zeros((3, 1)), TS)


def test_vdn_is_the_sum() -> None:
    assert VDN()(JOINT) == 1 + 4 + 6
    assert jax.tree.leaves(VDN()) == []


def test_vdn_s_adds_a_value_of_the_state() -> None:
    mixer = VDNS(2, embed=5, key=jax.random.key(0))
    first, second = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in mixer.value.layers)
    assert first[0].shape == (2, 5)
    v = np.maximum(np.asarray(STATE) @ first[0] + first[1], 0) @ second[0] + second[1]
    np.testing.assert_allclose(mixer(JOINT), 11 + v[0], rtol=1e-5)


def test_vdn_s_value_does_not_depend_on_the_utilities() -> None:
    mixer = VDNS(2, key=jax.random.key(0))
    gradient = jax.grad(lambda q: mixer(JOINT._replace(q=q)))(JOINT.q)
    np.testing.assert_array_equal(gradient, [[1, 0], [0, 1], [0, 1]])
