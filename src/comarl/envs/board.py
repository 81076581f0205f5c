"""Arrays that processes share, and the environments that stand behind their rows. Without JAX."""

import dataclasses
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from comarl.envs.python import Percept, PythonEnv, require_formed, require_sound, seed_of, sound_outcome
from comarl.spec import EnvSpec

ALIGNMENT = 64
"""Bytes of a cache line: two arrays on one would be written by two processes in turn."""


@dataclasses.dataclass(frozen=True)
class Board:
    """Everything that passes between a driver and ``B`` environments, each with a row of its own.

    Attributes:
        obs, state, avail, reward, discount, first, last: as in :class:`comarl.types.TimeStep`, with ``B`` in front.
        outcome: of the episode that ends here, zeros elsewhere; in the order of ``spec.outcomes``: ``[B, outcomes]``.
        action: what to do, ``[B, N]`` or ``[B, N, A]``.
        seeds: two words for each environment ``[B, 2]``; an episode that begins now begins with them.
        active: which environments take the step ``[B]``.
    """

    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    first: np.ndarray
    last: np.ndarray
    outcome: np.ndarray
    action: np.ndarray
    seeds: np.ndarray
    active: np.ndarray


def board_size(spec: EnvSpec, count: int) -> int:
    """The bytes of a board for ``count`` environments."""
    return sum(_padded(shape, dtype) for shape, dtype in _forms(spec, count).values())


def board_on(buffer: memoryview | bytearray, spec: EnvSpec, count: int) -> Board:
    """The board that lies in ``buffer``, which has :func:`board_size` bytes."""
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for name, (shape, dtype) in _forms(spec, count).items():
        arrays[name] = np.ndarray(shape, dtype, buffer, offset)
        offset += _padded(shape, dtype)
    return Board(**arrays)


def _forms(spec: EnvSpec, count: int) -> dict[str, tuple[tuple[int, ...], type]]:
    n, a = spec.num_agents, spec.num_actions
    return {
        "obs": ((count, n, spec.obs_dim), np.float32),
        "state": ((count, spec.state_dim), np.float32),
        "avail": ((count, n, a), np.bool_),
        "reward": ((count, n), np.float32),
        "discount": ((count,), np.float32),
        "first": ((count,), np.bool_),
        "last": ((count,), np.bool_),
        "outcome": ((count, len(spec.outcomes)), np.float32),
        "action": ((count, n, a), np.float32) if spec.continuous else ((count, n), np.int32),
        "seeds": ((count, 2), np.uint32),
        "active": ((count,), np.bool_),
    }


def _padded(shape: tuple[int, ...], dtype: type) -> int:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT


class Failure(NamedTuple):
    """An environment that raised an error, by its row, and what there is to say about it."""

    row: int
    trace: str


class Row:
    """One environment, started anew when its episode is over, behind its row of a board.

    Args:
        make: makes the environment; called again when it has failed.
        spec: what the driver knows of it.
        board: where it reads what to do and writes what is perceived.
        row: its number.
    """

    def __init__(self, make: Callable[[], PythonEnv], spec: EnvSpec, board: Board, row: int):
        self._make, self._spec, self._board, self.row = make, spec, board, row
        self._env = make()
        self._length = 0

    @property
    def active(self) -> bool:
        """Whether it takes this step."""
        return bool(self._board.active[self.row])

    def reset(self) -> None:
        """Begin the episode of this row's seed."""
        self._length = 0
        self._write(begins=True)

    def step(self) -> None:
        """The next step of the episode, or the first one of the next."""
        if self._board.last[self.row]:
            self.reset()
        else:
            self._length += 1
            self._write(begins=False)

    def renew(self) -> None:
        """Give up what has failed, and begin the episode of this row's seed with another environment."""
        self.close()
        self._env = self._make()
        self.reset()
        self.require_sound()

    def require_sound(self) -> None:
        """Raises a ValueError if what is written must not reach a learner (:func:`require_sound`)."""
        board, row = self._board, self.row
        require_sound(Percept(board.obs[row], board.state[row], board.avail[row], board.reward[row]), self._spec)

    def picture(self) -> Any:
        """What the environment shows (:meth:`PythonEnv.picture`)."""
        return self._env.picture()

    def close(self) -> None:
        """Close the environment, even one that cannot be closed."""
        try:
            self._env.close()
        except Exception:  # it has failed already, or is not wanted any more
            return

    def _write(self, *, begins: bool) -> None:
        board, row = self._board, self.row
        percept = self._env.reset(seed_of(board.seeds[row])) if begins else self._env.step(board.action[row])
        require_formed(percept, self._spec)
        cut = not begins and self._length >= self._spec.max_episode_steps
        _put(board.obs, row, percept.obs)
        _put(board.state, row, percept.state)
        _put(board.reward, row, 0.0 if begins else percept.reward)
        board.avail[row] = percept.avail
        board.discount[row] = 0.0 if percept.terminated else 1.0
        board.first[row] = begins
        board.last[row] = percept.terminated or percept.truncated or cut
        board.outcome[row] = sound_outcome(self._env.outcome(), self._spec) if board.last[row] else 0.0


def _put(board: np.ndarray, row: int, numbers: Any) -> None:
    """Write numbers of any width into a row; one that is too large for 32 bits becomes an infinity."""
    if getattr(numbers, "dtype", None) == np.float32:
        board[row] = numbers
        return
    with np.errstate(over="ignore"):
        board[row] = numbers


def move(rows: Sequence[Row], board: Board, *, reset: bool) -> list[Failure]:
    """Reset or step some environments; those that raise an error are made anew and begin an episode.

    Args:
        rows: the environments, which stand one below the other.
        board: where they stand.
        reset: which of the two.

    Raises:
        Exception: whatever an environment raises that has only just been made.
    """
    failures: list[Failure] = []

    def attempt(row: Row, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception:  # the environment may raise anything
            failures.append(Failure(row.row, traceback.format_exc()))
            row.renew()

    moving = [row for row in rows if row.active]
    for row in moving:
        attempt(row, row.reset if reset else row.step)
    if moving and not _sound(board, slice(rows[0].row, rows[-1].row + 1)):
        for row in moving:
            attempt(row, row.require_sound)
    return failures


def _sound(board: Board, rows: slice) -> bool:
    """Whether everything in ``rows`` may reach a learner: one look at all takes little longer than at one of them."""
    finite = all(np.isfinite(numbers[rows]).all() for numbers in (board.obs, board.state, board.reward))
    return finite and bool(board.avail[rows].any(-1).all())
