"""Environments in an actor of Ray's, on any machine. Without JAX, and Ray itself is only needed to start one."""

import contextlib
import os
import sys
import traceback
from typing import Any

import numpy as np

from comarl.envs.board import Board, Failure, Row, board_on, board_size, move
from comarl.envs.registry import make_python
from comarl.spec import EnvSpec

ASKED = ("action", "seeds", "active", "last")
"""What an actor is sent for a step, of a board's arrays."""

SEEN = ("obs", "state", "avail", "reward", "discount", "first", "last", "outcome")
"""What it sends back."""

Answer = tuple[list[Failure], tuple[np.ndarray, ...]] | str
"""Failures with all that is :data:`SEEN`; or why it cannot go on, a traceback."""


class Actor:
    """Steps environments on a board of its own.

    Args:
        name: their name in the registry.
        spec: what the driver knows of them.
        count: how many.
        cwd: the driver's current folder, where there is such a folder.
        path: where modules of the user's own are looked for.
    """

    def __init__(self, name: str, spec: EnvSpec, count: int, cwd: str, path: list[str]):
        with contextlib.suppress(OSError):
            os.chdir(cwd)
        sys.path[:] = list(dict.fromkeys([*sys.path, *path]))
        self._name, self._spec, self._count = name, spec, count
        self._board = board_on(bytearray(board_size(spec, count)), spec, count)
        self._rows: list[Row] = []

    def begin(self) -> Answer:
        """Make the environments."""
        try:
            make = lambda: make_python(self._name)  # noqa: E731
            self._rows += (Row(make, self._spec, self._board, row) for row in range(self._count))
        except Exception:  # an environment may raise anything
            return traceback.format_exc()
        return [], copied(self._board, SEEN)

    def move(self, reset: bool, asked: tuple[np.ndarray, ...]) -> Answer:
        """Reset or step those that are active."""
        for name, array in zip(ASKED, asked, strict=True):
            getattr(self._board, name)[:] = array
        try:
            failures = move(self._rows, self._board, reset=reset)
        except Exception:  # one that has just been made fails again
            return traceback.format_exc()
        return failures, copied(self._board, SEEN)

    def close(self) -> None:
        """Free what the environments hold."""
        for row in self._rows:
            row.close()


def copied(board: Board, names: tuple[str, ...], rows: Any = slice(None)) -> tuple[np.ndarray, ...]:
    """Some arrays of a board, of all rows or some."""
    return tuple(np.copy(getattr(board, name)[rows]) for name in names)
