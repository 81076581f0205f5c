"""``comarl sweep``, with a place for tasks in this process."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from comarl.cli import sweep as command
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import claim_folder, write_json
from comarl.experiments.sweep import Ended
from tests.cli.conftest import RunCli, error_line
from tests.cli.test_docs import check

SUMMARY = {"score": "win rate", "win_rate": {"mean": 0.5}, "random": 0.125}


class Here:
    """Trains nothing, and fails with a learning rate of 1."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, RunConfig]] = []

    def submit(self, number: int, config: RunConfig) -> None:
        self.waiting.append((number, config))

    def wait(self) -> Ended:
        number, config = self.waiting.pop(0)
        if config.learner.lr == 1:
            return Ended(number, "the loss is not a finite number any more")
        write_json(claim_folder(config) / "summary.json", SUMMARY | {"win_rate": {"mean": 0.25 * config.seed}})
        return Ended(number)


@contextlib.contextmanager
def here(*_: object) -> Iterator[Here]:
    yield Here()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a sweep goes that is run here."""
    monkeypatch.setattr(command, "_ray", here)
    return tmp_path / "sweep"


def test_a_sweep(run_cli: RunCli, folder: Path) -> None:
    words = ["sweep", "vdn", "--env", "switch/2", "--folder", folder, "--set", "hidden=8", "--set", "lr=0.01,1"]
    status, out, err = run_cli(*words, "--json")
    assert status == 1
    result = json.loads(out)
    check("sweep", result)
    assert json.loads((folder / "sweep.json").read_text()) == result
    assert (result["planned"], result["failed"]) == (6, 3)
    told = [[group[key] for key in ("mean", "lowest", "highest", "seeds", "failed")] for group in result["groups"]]
    assert told == [[0.25, 0.0, 0.5, 3, 0], [None, None, None, 0, 3]]
    assert [run["failed"] is None for run in result["runs"]] == [True] * 3 + [False] * 3
    assert "3 of 6: vdn on switch/2, lr=0.01, seed 2: win rate 50.0%\n" in err
    assert "6 of 6: vdn on switch/2, lr=1, seed 2: failed: the loss is not a finite number any more\n" in err
    # For people; what is finished is not run again.
    status, out, err = run_cli(*words[:-1], "lr=0.01")
    assert status == 0
    assert err.count("finished before") == 3
    assert not [line for line in err.splitlines() if line.endswith("…")]
    (row,) = [line.split() for line in out.splitlines() if "switch/2" in line]
    assert row == ["vdn", "switch/2", "win", "rate", "25.0%", "0.0%", "50.0%", "12.5%", "3"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "which METHOD...? Any of iql"),
        (["qmxi"], "unknown method 'qmxi': did you mean 'qmix'"),
        (["vdn", "--env", "switch/3"], "unknown environment 'switch/3': did you mean 'switch/"),
        (["vdn", "--set", "lr"], "--set lr: write NAME=VALUE"),
        (["vdn", "--set", "lr=1", "--set", "lr=2"], "--set names a setting twice"),
        (["vdn", "--seeds", "0"], "seeds=0: must be positive"),
        (["vdn", "--retries", "-1"], "retries=-1: must not be negative"),
    ],
)
def test_mistakes_are_one_line(run_cli: RunCli, words: list[str], text: str, folder: Path) -> None:
    assert text in error_line(run_cli("sweep", *words, "--folder", folder))
    assert not folder.exists()
