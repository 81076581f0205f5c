"""One step of an optimiser."""

from typing import Any

import optax


def gradient_step(
    optimiser: optax.GradientTransformation, gradient: Any, state: optax.OptState, params: Any
) -> tuple[Any, optax.OptState]:
    """The parameters and the optimiser's state after a step along ``gradient``, which is of their structure."""
    change, state = optimiser.update(gradient, state, params)
    return optax.apply_updates(params, change), state
