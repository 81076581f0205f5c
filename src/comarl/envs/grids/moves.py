"""Walking over a grid, one after another."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

MOVES = np.array([[1, 0], [0, -1], [-1, 0], [0, 1], [0, 0]])
"""The actions of ma-gym's grids, rows and columns: down, left, up, right, stay."""

NAMES = ("down", "left", "up", "right", "stay")
"""What they are called."""


def walk(
    places: Int[Array, "N 2"], steps: Int[Array, "N 2"], order: Int[Array, " N"], free: Bool[Array, "R C"]
) -> Int[Array, "N 2"]:
    """Where agents are after each has taken its step, if it can: one after another, so that the order matters.

    An agent that would leave the grid, or enter a place that is not free or that another agent stands on at that
    moment, stays where it is. Those who stand far outside the grid are in nobody's way.

    Args:
        places: row and column of each agent ``[N, 2]``.
        steps: how far each wants to go ``[N, 2]``.
        order: the agents' indices in the order in which they move ``[N]``.
        free: which places may be entered ``[R, C]``, agents aside.

    Returns:
        The new places ``[N, 2]``.
    """
    enterable = jnp.pad(free, 1)  # indices beyond the rim are clamped to it

    def move(places: Int[Array, "N 2"], agent: Int[Array, ""]) -> tuple[Int[Array, "N 2"], None]:
        target = places[agent] + steps[agent]
        taken = (places == target[None]).all(-1).any()
        may = enterable[jnp.maximum(target[0] + 1, 0), jnp.maximum(target[1] + 1, 0)] & ~taken
        return places.at[agent].set(jnp.where(may, target, places[agent])), None

    return jax.lax.scan(move, places, order)[0]
