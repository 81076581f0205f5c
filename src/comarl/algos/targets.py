"""Target networks: slow copies that bootstrap values come from."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

TargetUpdate = Literal["hard", "soft", "none"]


def next_target(online: Any, target: Any, updates: Int[Array, ""], how: TargetUpdate, interval: int, tau: float) -> Any:
    """The target network after so many ``updates`` of the online one.

    Args:
        online: the network after its update.
        target: the target network so far; None without one, and so it stays.
        updates: how many updates there were, this one included.
        how: ``hard`` copies every ``interval`` updates, ``soft`` moves by ``tau`` in each.
        interval: counted in updates.
        tau: the share of the online network in a soft update.
    """
    if target is None:
        return None
    if how == "soft":
        return optax.incremental_update(online, target, tau)
    due = updates % interval == 0
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), online, target)
