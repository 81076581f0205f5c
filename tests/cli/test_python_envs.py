"""The commands with an environment that Python steps."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, RunCli, error_line

DIARY = "tests.envs.python_envs:Diary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of the first test stays."""
    return tmp_path_factory.mktemp("runs") / "run"


def test_train_and_evaluate(run_cli: RunCli, folder: Path) -> None:
    words = [
        "train",
        "vdn",
        "--env",
        DIARY,
        "--workers",
        1,
        "--seeds",
        2,
        "--run",
        folder,
        "--json",
        *TINY,
        "--cell",
        "mlp",
    ]
    status, out, err = run_cli(*words)
    assert status == 0, err
    result = json.loads(out)
    assert result["env_steps"] == 32
    assert len(result["return"]["per_seed"]) == 2
    assert 2 <= result["outcomes"]["steps"]["random"] <= 6
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["dropped_episodes"] for row in rows if row["kind"] == "train"] == [0] * 4
    assert all(len(row["returns"]) == 4 for row in rows if row["kind"] == "evaluation")
    # The episodes of an evaluation are always the same, and so are the seeds' last greedy policies.
    again = json.loads(run_cli("evaluate", folder, "--episodes", 4, "--json")[1])
    assert again["return"] == result["return"]
    assert again["random"] == result["random"]


def test_check_env(run_cli: RunCli) -> None:
    assert run_cli("check-env", DIARY)[:2] == (0, f"{DIARY}: nothing is wrong\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["render", DIARY], "diary has no pictures: its environment draws no 'rgb_array'"),
        (["train", "vdn", "--env", DIARY, "--workers", "-1"], "workers=-1: must not be negative"),
        (["train", "vdn", "--env", "tests.envs.python_envs:Stuck"], "RuntimeError: the door is stuck"),
    ],
)
def test_mistakes_are_one_line(run_cli: RunCli, words: list[str], text: str, tmp_path: Path) -> None:
    extra = ["--run", str(tmp_path / "run"), *TINY] if words[0] == "train" else []
    assert text in error_line(run_cli(*words, *extra))


def test_listed(run_cli: RunCli) -> None:
    environments = json.loads(run_cli("list", "--json")[1])["environments"]
    known = {name for family in environments for name in family["names"]}
    assert {"mpe2/simple_spread_v3", "lbforaging/Foraging-8x8-2p-2f-coop-v3"} <= known


def test_actors_need_a_worker(run_cli: RunCli, tmp_path: Path) -> None:
    words = ["train", "vdn", "--env", DIARY, "--actors", "local", "--workers", 0, "--run", tmp_path / "run", *TINY]
    assert "actors='local' with workers=0" in error_line(run_cli(*words))
