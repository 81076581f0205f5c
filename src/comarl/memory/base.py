"""What a learner asks of a memory: a frozen bundle of pure functions over one state pytree."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Int, PRNGKeyArray

from comarl.types import Trajectory


class Memory(NamedTuple):
    """Stores trajectories and gives back batches.

    Attributes:
        init: from one example trajectory to an empty memory.
        add: stores the trajectory collected in that iteration.
        sample: draws a batch from what was stored up to and including that iteration.
    """

    init: Callable[[Trajectory], Any]
    add: Callable[[Any, Trajectory, Int[Array, ""]], Any]
    sample: Callable[[Any, Int[Array, ""], PRNGKeyArray], Trajectory]
