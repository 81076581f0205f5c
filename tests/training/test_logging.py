"""Rows of metrics on disk."""

import json
import os
import sys
import types
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from comarl.errors import ComarlError
from comarl.training.logging import MetricsWriter, cut_metrics, read_metrics, require_tensorboard


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write("train", seed=0, env_steps=np.int64(10), loss=0.5, done=True, name="x")
    writer.write("evaluation", returns=jnp.array([[1.0, 2.0]]), won=np.array([True]), nested={"a": np.float32(1.5)})
    writer.close()
    assert read_metrics(tmp_path) == [
        {"kind": "train", "seed": 0, "env_steps": 10, "loss": 0.5, "done": True, "name": "x"},
        {"kind": "evaluation", "returns": [[1.0, 2.0]], "won": [True], "nested": {"a": 1.5}},
    ]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write(
        "train", a=float("nan"), b=np.float32("inf"), c=np.array([1.0, np.nan, -np.inf]), d=jnp.asarray(jnp.nan)
    )
    writer.close()
    assert read_metrics(tmp_path) == [{"kind": "train", "a": None, "b": None, "c": [1.0, None, None], "d": None}]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_every_row_is_on_disk_when_it_is_written(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for count in (1, 2, 3):
        writer.write("train", count=count)
        assert len(read_metrics(tmp_path)) == count
    writer.close()


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "a": 1}\n{"kind": "trai')
    assert read_metrics(tmp_path) == [{"kind": "train", "a": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", "line 1: not a row of metrics"),
        ('{"kind": "x"}\nloss\n', "line 2: not JSON"),
        ("[1]\n", "not a row"),
        ('{"kind": "\udcff"}\n', "line 1: not JSON"),
    ],
)
def test_a_spoilt_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ComarlError, match=message) as error:
        read_metrics(tmp_path)
    assert "\n" not in str(error.value)


def test_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match=r"no metrics\.jsonl in"):
        read_metrics(tmp_path)


class Board:
    """In place of TensorBoard's writer: remembers what it was given."""

    scalars: ClassVar[dict[str, list[tuple[str, float, int]]]] = {}

    def __init__(self, folder: str):
        self.given = self.scalars.setdefault(Path(folder).name, [])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.given.append((name, value, step))

    def close(self) -> None:
        self.given.append(("closed", 0, 0))


def test_tensorboard_gets_the_means_of_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Board))
    writer = MetricsWriter(tmp_path, tensorboard=True)
    writer.write("train", seed=0, env_steps=10, loss=0.5, epsilon=float("nan"))
    writer.write("episodes", seed=1, env_steps=10, returns=np.zeros((0, 2)), length=np.zeros(0))
    writer.write("evaluation", seed=1, env_steps=20, returns=np.array([[1.0, 2.0]]), won=np.ones(3))
    writer.write("baseline", policy="random", returns=np.ones((3, 2)))
    writer.close()
    assert Board.scalars == {
        "seed_0": [("train/loss", 0.5, 10), ("closed", 0, 0)],
        "seed_1": [("evaluation/returns", 1.5, 20), ("evaluation/won", 1.0, 20), ("closed", 0, 0)],
    }


def test_tensorboard_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ComarlError, match=r"pip install 'comarl\[tensorboard\]'"):
        require_tensorboard()


# Going on with a file.


def write_four(folder: Path) -> list[str]:
    """Two evaluations each of two seeds and a row of no seed, as lines."""
    writer = MetricsWriter(folder)
    for steps in (10, 20):
        for seed in (0, 1):
            writer.write("evaluation", seed=seed, env_steps=steps, score=seed + steps / 3)
            writer.write("train", seed=seed, env_steps=steps, loss=0.1)
    writer.write("baseline", policy="random")
    writer.close()
    return (folder / "metrics.jsonl").read_text().splitlines(keepends=True)


def test_what_will_be_written_again_is_cut_and_the_rest_stays_to_the_letter(tmp_path: Path) -> None:
    lines = write_four(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    kept = cut_metrics(tmp_path, {0: 10, 1: 20}, dict)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:4] + lines[6:8])
    assert {seed: [row["env_steps"] for row in rows] for seed, rows in kept.items()} == {0: [10], 1: [10, 20]}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    writer = MetricsWriter(tmp_path, reached={0: 10, 1: 20})
    writer.write("train", seed=0, env_steps=20)
    writer.close()
    assert len(read_metrics(tmp_path)) == 7


def test_without_checkpoints_or_a_file_nothing_is_kept(tmp_path: Path) -> None:
    assert cut_metrics(tmp_path, {0: 0}, dict) == {0: []}
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    write_four(tmp_path)
    assert cut_metrics(tmp_path, {0: 0, 1: 0}, dict) == {0: [], 1: []}
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_spoilt_file_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("loss\n")
    with pytest.raises(ComarlError, match="line 1: not JSON"):
        cut_metrics(tmp_path, {0: 10}, dict)
    assert (tmp_path / "metrics.jsonl").read_text() == "loss\n"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_file_that_does_not_suffice_is_not_cut(tmp_path: Path) -> None:
    """Found by fuzzing: a file that was missing had been begun anew before the run was refused."""

    def refuse(evaluations: object) -> None:
        raise ComarlError(f"only {evaluations}")

    with pytest.raises(ComarlError, match=r"only \{0: \[\]\}"):
        cut_metrics(tmp_path, {0: 10}, refuse)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", ['{"kind": []}', '{"kind": "train", "seed": "0"}', '{"kind": "x", "env_steps": -1}'])
def test_a_row_that_counts_nothing_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(row + "\n")
    with pytest.raises(ComarlError, match="line 1: not a row of metrics"):
        read_metrics(tmp_path)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """It would have no end."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ComarlError, match=r"metrics\.jsonl is no plain file"):
        cut_metrics(tmp_path, {0: 10}, dict)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer._file.close()
    writer._file = open("/dev/full", "w")  # noqa: SIM115 -- the writer closes it
    with pytest.raises(ComarlError, match=rf"^cannot write {tmp_path}/metrics\.jsonl: No space left on device$"):
        writer.write("train", a=1)
    writer.close()
