"""One step of an optimiser."""

from typing import Any

import jax
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float


def gradient_step(
    optimiser: optax.GradientTransformation, gradient: Any, state: optax.OptState, params: Any
) -> tuple[Any, optax.OptState]:
    """The parameters and the optimiser's state after a step along ``gradient``, which is of their structure."""
    change, state = optimiser.update(gradient, state, params)
    return optax.apply_updates(params, change), state


def gradient_norm(gradient: Any) -> Float[Array, ""]:
    """The global norm of all parameters, summed as clipping in an :func:`as_vector` sums it: it is made once."""
    return optax.tree.norm(ravel_pytree(gradient)[0])


def as_vector(optimiser: optax.GradientTransformation) -> optax.GradientTransformation:
    """That optimiser, to which all parameters are one vector.

    On a CPU a few large kernels run, and compile, faster than many small ones. Of no parameters at all, which a part of
    a partition may have, there is no state: ``optax.flatten`` takes none, and no file an array of no numbers.
    """

    def init(params: Any) -> optax.OptState:
        return optimiser.init(ravel_pytree(params)[0]) if jax.tree.leaves(params) else optax.EmptyState()

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        if not jax.tree.leaves(updates):
            return updates, state
        vector, tree = ravel_pytree(updates)
        change: Any
        change, state = optimiser.update(vector, state, None if params is None else ravel_pytree(params)[0])
        return tree(change), state

    return optax.GradientTransformation(init, update)
