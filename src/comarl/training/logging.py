"""Results on disk: one JSON object per line, written as they come."""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from comarl.errors import ComarlError, missing_extra


class MetricsWriter:
    """Appends rows to ``metrics.jsonl`` of a run folder, and scalars to TensorBoard if asked."""

    def __init__(self, folder: Path, *, tensorboard: bool = False, reached: Mapping[int, int] | None = None):
        """Begin anew, or go on after the rows that :func:`cut_metrics` has left.

        Args:
            folder: the run folder.
            tensorboard: whether TensorBoard's files are written too.
            reached: environment steps of each seed from which it goes on; None begins anew.

        Raises:
            ComarlError: if the file cannot be written.
        """
        self._path = folder / "metrics.jsonl"
        self._reached = reached or {}
        with self._writing():
            self._file = self._path.open("w" if reached is None else "a", encoding="utf-8")
        self._boards: dict[int, Any] = {}
        self._board_folder = folder / "tensorboard" if tensorboard else None

    def write(self, kind: str, **row: Any) -> None:
        """One row; arrays become lists, and numbers that are not finite become null.

        Raises:
            ComarlError: if it cannot be written.
        """
        line = json.dumps({"kind": kind, **{k: _plain(v) for k, v in row.items()}}, allow_nan=False) + "\n"
        with self._writing():
            self._file.write(line)
            self._file.flush()
        if self._board_folder and "seed" in row:
            self._to_board(kind, row)

    def sync(self) -> None:
        """Have every row on the disk, and not in the operating system's memory alone.

        Raises:
            ComarlError: if they cannot be written.
        """
        with self._writing():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the files."""
        with contextlib.suppress(OSError):  # what could not be written was said when it was tried
            self._file.close()
        for board in self._boards.values():
            board.close()

    @contextlib.contextmanager
    def _writing(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise ComarlError(f"cannot write {self._path}: {error.strerror}") from error

    def _to_board(self, kind: str, row: dict[str, Any]) -> None:
        assert self._board_folder is not None
        seed = row["seed"]
        if seed not in self._boards:
            # TensorBoard does not show what a run that was broken off wrote after the step from which it goes on.
            purge = {"purge_step": self._reached[seed] + 1} if self._reached.get(seed) else {}
            self._boards[seed] = require_tensorboard()(str(self._board_folder / f"seed_{seed}"), **purge)
        for name, value in row.items():
            if name not in ("seed", "env_steps") and np.size(value):
                mean = float(np.mean(value)) if not isinstance(value, dict) else None
                if mean is not None and np.isfinite(mean):
                    self._boards[seed].add_scalar(f"{kind}/{name}", mean, row["env_steps"])


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of a run folder; a line cut off at the end, as a killed run leaves it, is left out.

    Raises:
        ComarlError: if there are none, or a line is not a JSON object.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise ComarlError(f"no metrics.jsonl in {folder}: is it a run folder? ('comarl train' writes one)")
    return [row for _, row in _rows(path)]


Evaluations = dict[int, list[dict[str, Any]]]
"""The rows of each seed's evaluations."""

Read = TypeVar("Read")


def cut_metrics(folder: Path, reached: Mapping[int, int], read: Callable[[Evaluations], Read]) -> Read:
    """Take out the rows that a run will write again, going on from its checkpoints.

    They are those of a seed after the environment steps that it has ``reached``, and those of no seed, which come at
    the end. The others stay as they are, to the letter; the file changes at once or not at all.

    Args:
        folder: of the run.
        reached: of each seed.
        read: is given the evaluations that stay, before the file changes; it may raise.

    Returns:
        What ``read`` makes of them.

    Raises:
        ComarlError: if there is no such file, it cannot be written, or a line is not a JSON object.
    """
    path, part = folder / "metrics.jsonl", folder / ".metrics.jsonl.part"
    evaluations: Evaluations = {seed: [] for seed in reached}
    try:
        with part.open("wb") as kept:
            for line, row in _rows(path) if path.exists() else ():
                seed, steps = row.get("seed"), row.get("env_steps")
                if not (isinstance(seed, int) and isinstance(steps, int) and steps <= reached.get(seed, 0)):
                    continue
                kept.write(line)
                if row["kind"] == "evaluation":
                    evaluations[seed].append(row)
            kept.flush()
            os.fsync(kept.fileno())
        made = read(evaluations)
        part.replace(path)
    except OSError as error:
        raise ComarlError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # of a file that was refused
    return made


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line, and what it says."""
    if not path.is_file():
        raise ComarlError(f"{path} is no plain file")  # a pipe could be read for ever
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # a killed run leaves it
            try:
                row = json.loads(line.decode())
            except (ValueError, RecursionError) as error:
                raise ComarlError(f"{path}, line {number}: not JSON ({error})") from error
            if not (
                isinstance(row, dict) and isinstance(row.get("kind"), str) and _are_counts(row, "seed", "env_steps")
            ):
                raise ComarlError(f"{path}, line {number}: not a row of metrics")
            yield line, row


def _are_counts(row: dict[str, Any], *names: str) -> bool:
    """Whether those of the names that a row has are whole numbers, none of them negative or beyond 64 bits."""
    return all(type(row[name]) is int and 0 <= row[name] < 2**63 for name in names if name in row)


def require_tensorboard() -> Any:
    """TensorBoard's writer.

    Raises:
        ComarlError: if its package is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise missing_extra("tensorboardX", "tensorboard") from error
    return SummaryWriter


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    array = np.asarray(value)
    if array.dtype.kind == "f":
        numbers = array.astype(object)
        numbers[~np.isfinite(array)] = None
        return numbers.tolist()
    return array.tolist()
