"""A team that plays an episode by heart."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.types import TimeStep

LETTERS = "dlur."
"""How a plan is written: the actions of :data:`comarl.envs.grids.moves.MOVES`."""


class Plan:
    """Takes the same joint actions in every episode (:class:`comarl.algos.base.Policy`), whatever it observes.

    Args:
        lines: for each agent the actions of an episode, in :data:`LETTERS`; all of one length.

    Attributes:
        actions: the joint actions ``[T, N]``.
    """

    def __init__(self, lines: tuple[str, ...]):
        self.actions = np.array([[LETTERS.index(letter) for letter in line] for line in lines], np.int32).T

    def initial_carry(self) -> Int[Array, ""]:
        """The number of joint actions taken, none yet."""
        return jnp.zeros((), jnp.int32)

    def act(
        self, carry: Int[Array, ""], ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[Int[Array, ""], Int[Array, " N"]]:
        """The next joint action ``[N]``; the last one again, should the episode go on."""
        del key, explore
        time = jnp.where(ts.first, 0, carry)
        return time + 1, jnp.asarray(self.actions)[jnp.minimum(time, len(self.actions) - 1)]
