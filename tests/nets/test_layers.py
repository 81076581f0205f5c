"""Linear layers, layer normalisation and small networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.nets.layers import MLP, LayerNorm, Linear
from tests.by_hand import layer_norm
from tests.probes import random_parameters

KEY = jax.random.key(0)


def test_linear_is_the_product_and_the_bias_on_any_leading_axes() -> None:
    layer = Linear(3, 2, key=KEY)
    x = jax.random.normal(KEY, (4, 5, 3))
    by_hand = np.asarray(x) @ np.asarray(layer.weight) + np.asarray(layer.bias)
    np.testing.assert_allclose(layer(x), by_hand, rtol=1e-5, atol=1e-6)
    assert layer(x[0, 0]).shape == (2,)


def in_two_parts(layer: Linear, x: Array) -> Array:
    return jnp.concatenate(layer.split(x, 2), axis=-1)


def mapped(f: Any) -> Any:
    return jax.vmap(f, in_axes=(None, 0))


@pytest.mark.parametrize("call", [Linear.__call__, in_two_parts])
@pytest.mark.parametrize("outputs", [2, 4])
def test_linears_gradients_are_sums_over_the_rows_of_any_leading_axes(call: Any, outputs: int) -> None:
    """By hand: dL/dw = Σ x dL/dyᵀ and dL/dx = w dL/dy, row by row; mapped calls have the same."""
    layer = Linear(3, outputs, key=KEY)
    x, dy = jax.random.normal(KEY, (4, 5, 3)), jax.random.normal(jax.random.key(1), (4, 5, outputs))
    rows = list(zip(np.asarray(x).reshape(-1, 3), np.asarray(dy).reshape(-1, outputs), strict=True))
    weight, bias = sum(np.outer(*row) for row in rows), sum(d for _, d in rows)
    for each in (call, mapped(call), mapped(mapped(call))):
        np.testing.assert_allclose(each(layer, x), layer(x), rtol=1e-5, atol=1e-6)
        by_layer, by_x = jax.vjp(each, layer, x)[1](dy)
        np.testing.assert_allclose(by_layer.weight, weight, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(by_layer.bias, bias, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(by_x, np.asarray(dy) @ np.asarray(layer.weight).T, rtol=1e-5, atol=1e-6)


def test_linear_without_bias_maps_zero_to_zero() -> None:
    layer = Linear(3, 2, key=KEY, use_bias=False)
    assert layer.bias is None
    assert not layer(jnp.zeros(3)).any()


def test_initialisation_is_uniform_within_one_over_the_root_of_the_inputs() -> None:
    layer = Linear(400, 300, key=KEY)
    bound = 400**-0.5
    for w in (layer.weight, layer.bias):
        assert w is not None
        assert 0.9 * bound < jnp.abs(w).max() <= bound
    # The standard deviation of a uniform variable on ±b is b / √3.
    np.testing.assert_allclose(layer.weight.std(), bound / 3**0.5, rtol=0.01)


def test_layer_norm_is_its_formula_on_any_leading_axes() -> None:
    norm = random_parameters(lambda: LayerNorm(5))
    x = np.array(3 + 2 * jax.random.normal(KEY, (2, 3, 5)))
    x[0, 0] = 1e-3 * np.arange(5)  # of variance 2e-6: what is added under the root counts
    x[0, 1] = 7.0  # no variance at all
    got = jax.jit(lambda norm, x: norm(x))(norm, jnp.asarray(x))
    for row in np.ndindex(2, 3):
        np.testing.assert_allclose(got[row], layer_norm(norm, x[row]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[0, 1], norm.shift)
    np.testing.assert_allclose(norm(jnp.asarray(x[1, 2])), got[1, 2], rtol=1e-5, atol=1e-6)


def test_layer_norm_begins_with_no_scale_and_no_shift() -> None:
    y = LayerNorm(7)(10 * jax.random.normal(KEY, (4, 7)) - 3)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-4)


def test_mlp_has_relu_between_its_layers_and_not_after_them() -> None:
    net = MLP((3, 5, 4, 2), key=KEY)
    x = np.asarray(jax.random.normal(KEY, (6, 3)))
    first, second, third = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in net.layers)
    x = np.maximum(x @ first[0] + first[1], 0)
    x = np.maximum(x @ second[0] + second[1], 0)
    x = x @ third[0] + third[1]
    got = net(jax.random.normal(KEY, (6, 3)))
    np.testing.assert_allclose(got, x, rtol=1e-5, atol=1e-6)
    assert (got < 0).any()


def test_layers_of_a_network_start_different() -> None:
    net = MLP((3, 3, 3), key=KEY)
    assert not jnp.allclose(net.layers[0].weight, net.layers[1].weight)
