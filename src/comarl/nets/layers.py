"""Linear maps and small networks on arrays with any leading axes."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Linear(eqx.Module):
    """``x @ weight + bias``, initialised uniformly in ±1/sqrt(inputs) like PyTorch's.

    The weight is stored ``[inputs, outputs]`` and stands on the right, so that batch axes stay in front and a
    mapped call is one matrix product without a transpose.
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"] | None

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray, use_bias: bool = True):
        bound = 1 / math.sqrt(inputs)
        w_key, b_key = jax.random.split(key)
        self.weight = jax.random.uniform(w_key, (inputs, outputs), minval=-bound, maxval=bound)
        self.bias = jax.random.uniform(b_key, (outputs,), minval=-bound, maxval=bound) if use_bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        weight = self.weight
        if weight.shape[-1] < weight.shape[-2]:
            # Its gradient is then dL/dyᵀ x and turned afterwards, in place of xᵀ dL/dy: of a product XLA's CPU backend
            # packs the matrix that is transposed, and so it is the narrower one.
            weight = jax.lax.optimization_barrier(weight.T).T
        # As rows of one matrix: with several leading axes XLA's CPU backend makes the weight's gradient from a
        # transposed copy of dL/dy.
        rows = x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x
        y = (rows @ weight).reshape(*x.shape[:-1], -1)
        return y if self.bias is None else _plus(y, self.bias)

    def split(self, x: Float[Array, "*batch inputs"], parts: int) -> tuple[Float[Array, "*batch part"], ...]:
        """The same in so many equal parts, as products of their own: nothing has to be cut out of a wider array."""
        ys = products(x, tuple(jnp.split(self.weight, parts, axis=-1)))
        return ys if self.bias is None else tuple(map(_plus, ys, jnp.split(self.bias, parts)))


class LayerNorm(eqx.Module):
    """Layer normalisation (Ba et al. 2016): zero mean and unit variance over the features, then scaled and shifted.

    The variance is the biased one, with 1e-5 added under the root, as in PyTorch.
    """

    scale: Float[Array, " features"]
    shift: Float[Array, " features"]

    def __init__(self, features: int):
        self.scale, self.shift = jnp.ones(features), jnp.zeros(features)

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        centred = x - x.mean(-1, keepdims=True)
        normal = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normal * _rank_like(self.scale, x) + _rank_like(self.shift, x)


class MLP(eqx.Module):
    """Linear layers with ReLU between them; ``sizes`` are the widths from input to output."""

    layers: tuple[Linear, ...]

    def __init__(self, sizes: tuple[int, ...], *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(Linear(i, o, key=k) for i, o, k in zip(sizes[:-1], sizes[1:], keys, strict=True))

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


def hypernet(state_dim: int, outputs: int, *, layers: int, hidden: int, key: PRNGKeyArray) -> MLP:
    """From the state to weights of a mixer: so many linear layers with ReLU between them."""
    return MLP((state_dim, *(hidden,) * (layers - 1), outputs), key=key)


def products(
    x: Float[Array, "*batch inputs"], weights: tuple[Float[Array, "inputs _"], ...]
) -> tuple[Float[Array, "*batch _"], ...]:
    """``x @ weight`` for each of the weights, whose gradients are made by :func:`weight_gradients`."""
    rows = x.reshape(-1, x.shape[-1])
    return tuple(y.reshape(*x.shape[:-1], -1) for y in _products(rows, weights))


@jax.custom_vjp
def _products(x: Float[Array, "rows inputs"], weights: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(x @ weight for weight in weights)


def _products_forward(
    x: Array, weights: tuple[Array, ...]
) -> tuple[tuple[Array, ...], tuple[Array, tuple[Array, ...]]]:
    return _products(x, weights), (x, weights)


def _products_backward(
    saved: tuple[Array, tuple[Array, ...]], d_y: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...]]:
    x, weights = saved
    d_x = functools.reduce(jnp.add, (d @ weight.T for d, weight in zip(d_y, weights, strict=True)))
    return d_x, weight_gradients(x, d_y)


_products.defvjp(_products_forward, _products_backward)


def weight_gradients(
    x: Float[Array, "*batch inputs"], d_y: tuple[Float[Array, "*batch _"], ...]
) -> tuple[Float[Array, "inputs _"], ...]:
    """dL/dW of each y = x W, from its dL/dy.

    ``x`` is transposed once and kept so: XLA's CPU backend would pack it anew for each of the products.
    """
    columns = jax.lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    return tuple(columns @ d.reshape(-1, d.shape[-1]) for d in d_y)


def _plus(y: Array, bias: Array) -> Array:
    return y + _rank_like(bias, y)


def _rank_like(vector: Array, like: Array) -> Array:
    """``vector`` with leading axes of one, as broadcasting without rank promotion asks for."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)
