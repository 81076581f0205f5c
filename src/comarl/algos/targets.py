"""Target networks: a slower copy of what is learned, for the values that targets are made of."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

TargetUpdate = Literal["hard", "soft", "none"]


def follow(online: Any, target: Any, updates: Int[Array, ""], how: TargetUpdate, interval: int, tau: float) -> Any:
    """The target network after an update.

    Args:
        online: the network after that update.
        target: the target network before it; None stays None.
        updates: made so far, this one included.
        how: ``hard`` copies every ``interval`` updates (Mnih et al. 2015), ``soft`` moves by ``tau`` each time
            (Lillicrap et al. 2016).
        interval: counted in updates.
        tau: the share of the online network.
    """
    if target is None:
        return None
    if how == "soft":
        return optax.incremental_update(online, target, tau)
    due = updates % interval == 0
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), online, target)
