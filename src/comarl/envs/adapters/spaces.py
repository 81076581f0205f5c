"""Gymnasium's spaces as arrays: observations as vectors, actions as indices or vectors in [-1, 1]. Without JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from comarl.errors import ComarlError

MASK = "action_mask"
"""Where an observation's dictionary or an info says which actions are available."""

MAX_COMBINATIONS = 4096
"""An action of several discrete parts becomes one index into all of their combinations, if these are not more."""


@runtime_checkable
class Actions(Protocol):
    """How the indices or numbers of an agent become what its environment takes.

    Attributes:
        size: actions, or components of a vector.
        continuous: which of the two.
    """

    @property
    def size(self) -> int: ...

    @property
    def continuous(self) -> bool: ...

    def native(self, action: Any) -> Any:
        """What the environment takes: of an index, or of ``[A]`` numbers of which the first ``size`` count."""
        ...


@dataclasses.dataclass(frozen=True)
class Indexed:
    """One of ``size`` actions, counted from ``start``."""

    size: int
    start: int = 0
    continuous: bool = False

    def native(self, action: Any) -> int:
        return int(action) + self.start


@dataclasses.dataclass(frozen=True)
class Combined:
    """Several choices at once; the first part varies slowest."""

    parts: tuple[int, ...]
    continuous: bool = False

    @property
    def size(self) -> int:
        """The number of combinations."""
        return int(np.prod(self.parts))

    def native(self, action: Any) -> np.ndarray:
        return np.array(np.unravel_index(int(action), self.parts))


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A vector between ``low`` and ``high``, to which [-1, 1] is stretched."""

    low: np.ndarray
    high: np.ndarray
    dtype: Any
    continuous: bool = True

    @property
    def size(self) -> int:
        """The number of components."""
        return self.low.size

    def native(self, action: Any) -> np.ndarray:
        share = (np.clip(np.asarray(action)[: self.size], -1.0, 1.0) + 1.0) / 2.0
        return (self.low.ravel() + share * (self.high - self.low).ravel()).reshape(self.low.shape).astype(self.dtype)


def read_actions(space: Any, where: str) -> Actions:
    """How an agent acts.

    Raises:
        ComarlError: naming a space that cannot be served.
    """
    from gymnasium import spaces

    match space:
        case spaces.Discrete():
            return Indexed(int(space.n), int(space.start))
        case spaces.MultiDiscrete() if np.prod(space.nvec) <= MAX_COMBINATIONS and not np.any(space.start):
            return Combined(tuple(int(n) for n in space.nvec.ravel()))
        case spaces.Box() if space.is_bounded() and np.issubdtype(space.dtype, np.floating):
            return Scaled(space.low, space.high, space.dtype)
        case _:
            raise ComarlError(
                f"{where}: the action space {space} cannot be served (Discrete, MultiDiscrete of at most "
                f"{MAX_COMBINATIONS} combinations counted from 0, or a Box of floats with bounds can)"
            )


def observed_size(space: Any, where: str) -> int:
    """How many numbers an observation is; an action mask in a dictionary is not counted.

    Raises:
        ComarlError: naming a space that cannot be served.
    """
    from gymnasium import spaces

    match space:
        case spaces.Dict():
            return sum(observed_size(part, where) for name, part in space.spaces.items() if name != MASK)
        case spaces.Tuple():
            return sum(observed_size(part, where) for part in space.spaces)
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return int(spaces.flatdim(space))
        case _:
            raise ComarlError(
                f"{where}: the observation space {space} cannot be served (Box, Discrete, MultiDiscrete, MultiBinary, "
                "and Dict or Tuple of these can)"
            )


def flatten(space: Any, seen: Any) -> np.ndarray:
    """An observation as a vector: numbers as they are, choices one-hot, the parts of a dictionary in its order."""
    from gymnasium import spaces

    match space:
        case spaces.Box():  # nearly all of them
            return np.asarray(seen, np.float32).ravel()
        case spaces.Dict():
            return _joined([flatten(part, seen[name]) for name, part in space.spaces.items() if name != MASK])
        case spaces.Tuple():
            return _joined([flatten(part, x) for part, x in zip(space.spaces, seen, strict=True)])
        case _:
            return np.asarray(spaces.flatten(space, seen), np.float32)


def read_mask(seen: Any, info: Mapping[str, Any] | None) -> np.ndarray | None:
    """The action mask of an agent, from its observation's dictionary or else from its info; None if there is none."""
    for source in (seen, info):
        if isinstance(source, Mapping) and MASK in source:
            return np.asarray(source[MASK], bool)
    return None


def write_row(row: np.ndarray, values: np.ndarray) -> None:
    """Write ``values`` at the beginning of ``row``, whose zeros stay behind them.

    Raises:
        ValueError: if there are more of them.
    """
    if values.size > row.size:
        raise ValueError(f"an observation has {values.size} numbers, by its space at most {row.size}")
    row[: values.size] = values


def agent_types(kinds: Sequence[object]) -> tuple[int, ...]:
    """A number per agent, equal where the kinds are; empty if all are."""
    known = list(dict.fromkeys(kinds))
    return tuple(known.index(kind) for kind in kinds) if len(known) > 1 else ()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
