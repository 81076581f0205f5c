"""What a picture of a state shows, for environments on a grid (NumPy and Python only; drawn by ``comarl render``)."""

import dataclasses

import numpy as np
from jaxtyping import Array, Int

Place = tuple[int, int]
"""Row and column; the first row is at the top."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """An agent.

    Attributes:
        place: where it stands; None if it is gone.
        heading: where it looks, as a step of rows and columns, if that matters.
        note: a word beside its number, such as its level.
        carrying: whether it carries something.
    """

    place: Place | None
    heading: Place | None = None
    note: str = ""
    carrying: bool = False


@dataclasses.dataclass(frozen=True)
class Item:
    """A thing.

    Attributes:
        kind: what it is; the picture's legend says so.
        place: where it is.
        note: a word on it, such as its level.
    """

    kind: str
    place: Place
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A state as a picture.

    Attributes:
        size: rows and columns of the grid.
        agents: every agent, in the order of their indices.
        walls: places that nobody can enter.
        goals: places to go to, each with the index of the agent it belongs to; None: anybody's.
        items: things, the lowest first.
        actions: names of the actions, for the caption.
        caption: what else should be said, such as how much was caught.
    """

    size: tuple[int, int]
    agents: tuple[Figure, ...]
    walls: tuple[Place, ...] = ()
    goals: tuple[tuple[Place, int | None], ...] = ()
    items: tuple[Item, ...] = ()
    actions: tuple[str, ...] = ()
    caption: str = ""


def places(array: Int[Array, "K 2"] | Int[np.ndarray, "K 2"]) -> list[Place]:
    """Rows and columns as Python numbers."""
    return [(int(row), int(column)) for row, column in np.asarray(array)]
