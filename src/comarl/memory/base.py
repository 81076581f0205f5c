"""What a learner asks of a memory: a frozen bundle of pure functions over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.types import Trajectory


class Stored(NamedTuple):
    """The state of a memory.

    Attributes:
        data: what was collected; written by ``add`` alone, so that the updates of an iteration only read it and no
            loop over them ever copies it.
        priority: what ``reprioritise`` changes between two draws; small.
    """

    data: Any
    priority: Any


class Batch(NamedTuple):
    """Sequences to learn from.

    Attributes:
        trajectory: ``B`` sequences of ``T`` transitions.
        weight: importance weight of each sequence's loss ``[B]``; ones if all were drawn alike.
        where: what the memory needs to find the sequences again.
    """

    trajectory: Trajectory
    weight: Float[Array, " B"]
    where: Any


class Drawn(NamedTuple):
    """A batch that has not been read yet; all as in :class:`Batch`."""

    where: Any
    weight: Float[Array, " B"]


class Memory(NamedTuple):
    """Stores trajectories and gives back batches.

    Attributes:
        init: from one example trajectory to an empty memory.
        add: ``(stored, trajectory, iteration, key)``: stores the trajectory collected in that iteration.
        draw: ``(stored, iteration, number, key)``: which sequences make the batch of update ``number`` (counted from 0
            within the iteration), of what was stored up to and including that iteration; and their weights.
        read: ``(data, where)``: the sequences that were drawn.
        reprioritise: ``(priority, where, error)``: the priorities after the sequences of a batch turned out to have
            those errors ``[B]``.
        ahead: whether the batches of all updates of an iteration may be drawn before the first of them: ``draw``
            does not look at priorities, and the copies have room in memory.
        by_environment: whether a batch goes through the environments in their order, equally many sequences of each.
            Then each of several equal parts of it is in the same part of the data, and ``read`` finds it there alone.
    """

    init: Callable[[Trajectory], Stored]
    add: Callable[[Stored, Trajectory, Int[Array, ""], PRNGKeyArray], Stored]
    draw: Callable[[Stored, Int[Array, ""], Int[Array, ""], PRNGKeyArray], Drawn]
    read: Callable[[Any, Any], Trajectory]
    reprioritise: Callable[[Any, Any, Float[Array, " B"]], Any]
    ahead: bool = False
    by_environment: bool = False

    def sample(self, stored: Stored, iteration: Int[Array, ""], number: Int[Array, ""], key: PRNGKeyArray) -> Batch:
        """Draw and read."""
        drawn = self.draw(stored, iteration, number, key)
        return Batch(self.read(stored.data, drawn.where), drawn.weight, drawn.where)


def keep_priority(priority: Any, where: Any, error: Float[Array, " B"]) -> Any:
    """The ``reprioritise`` of a memory to which all sequences are alike."""
    del where, error
    return priority
