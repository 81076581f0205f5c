"""Which agents have which parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.nets.layers import Linear
from comarl.nets.sharing import Shared, Sharing

TYPES = (4, 7, 4, 9)  # any numbers will do
X = jax.random.normal(jax.random.key(1), (5, 4, 3))  # [T, N, inputs]


def make(sharing: Sharing) -> Shared[Linear]:
    return Shared(lambda key: Linear(3, 2, key=key), sharing, TYPES, key=jax.random.key(0))


def call(shared: Shared[Linear], x: jax.Array) -> jax.Array:
    return shared.map(lambda module, y: module(y), in_axes=(1,), out_axes=1)(x)


@pytest.mark.parametrize(
    ("sharing", "owner", "modules"),
    [("shared", None, None), ("agent", (0, 1, 2, 3), 4), ("type", (0, 1, 0, 2), 3)],
)
def test_number_of_modules(sharing: Sharing, owner: tuple[int, ...] | None, modules: int | None) -> None:
    shared = make(sharing)
    assert shared.owner == owner
    assert shared.module.weight.shape == ((3, 2) if modules is None else (modules, 3, 2))


@pytest.mark.parametrize("sharing", ["shared", "agent", "type"])
def test_each_agent_is_mapped_by_its_own_module(sharing: Sharing) -> None:
    shared = make(sharing)
    got = call(shared, X)
    for i in range(4):
        k = None if shared.owner is None else shared.owner[i]
        module = shared.module if k is None else jax.tree.map(lambda w, k=k: w[k], shared.module)
        np.testing.assert_allclose(got[:, i], module(X[:, i]), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(shared.of(i).weight, module.weight)


def test_agents_have_different_parameters_unless_they_share() -> None:
    same = jnp.broadcast_to(X[:, :1], X.shape)
    alike = {s: np.allclose(call(make(s), same), call(make(s), same)[:, :1]) for s in ("shared", "agent", "type")}
    assert alike == {"shared": True, "agent": False, "type": False}
    by_type = call(make("type"), same)
    np.testing.assert_array_equal(by_type[:, 0], by_type[:, 2])  # both are of type 4
    assert not np.allclose(by_type[:, 0], by_type[:, 1])


@pytest.mark.parametrize("sharing", ["agent", "type"])
def test_the_gradient_of_an_agent_reaches_its_own_module_alone(sharing: Sharing) -> None:
    shared = make(sharing)
    gradient = jax.grad(lambda s: call(s, X)[:, 0].sum())(shared).module.weight
    assert gradient[0].any()
    assert not gradient[1:].any()
