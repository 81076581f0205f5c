"""Results on disk: one JSON object per line, written as they come."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from comarl.errors import ComarlError, missing_extra


class MetricsWriter:
    """Appends rows to ``metrics.jsonl`` of a run folder, and scalars to TensorBoard if asked."""

    def __init__(self, folder: Path, *, tensorboard: bool = False):
        self._file = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        self._boards: dict[int, Any] = {}
        self._board_folder = folder / "tensorboard" if tensorboard else None

    def write(self, kind: str, **row: Any) -> None:
        """One row; arrays become lists, and numbers that are not finite become null."""
        self._file.write(json.dumps({"kind": kind, **{k: _plain(v) for k, v in row.items()}}, allow_nan=False) + "\n")
        self._file.flush()
        if self._board_folder and "seed" in row:
            self._to_board(kind, row)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        for board in self._boards.values():
            board.close()

    def _to_board(self, kind: str, row: dict[str, Any]) -> None:
        assert self._board_folder is not None
        seed = row["seed"]
        if seed not in self._boards:
            self._boards[seed] = require_tensorboard()(str(self._board_folder / f"seed_{seed}"))
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
    rows: list[dict[str, Any]] = []
    whole, newline, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    for number, line in enumerate((whole + newline).splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ComarlError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict) or "kind" not in row:
            raise ComarlError(f"{path}, line {number}: not a row of metrics")
        rows.append(row)
    return rows


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
