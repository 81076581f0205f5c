"""docs/cli.md says what the command line does."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comarl.cli import COMMANDS
from comarl.experiments.presets import PRESETS, Preset
from tests.cli.conftest import RunCli, Trained

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SOMETIMES = {"win_rate.mean", "win_rate.per_seed[]", "return.mean", "return.per_seed[]", "heuristic", "optimal"}
SOMETIMES |= {"sampled.mean", "sampled.per_seed[]"}
"""Keys that depend on the environment or the method, which the documents say."""


def documented(command: str) -> set[str]:
    """The keys in the table under a command's heading."""
    section = DOCS.split(f"### comarl {command} --json\n")[1].split("\n#")[0]
    return set(re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE))


FREE = {"presets[].settings", "groups[].settings", "runs[].settings", "rows[].tables", "exact", "outcomes"}
"""Objects whose keys are names of settings, states, methods or outcomes."""


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The keys of an object."""
    if isinstance(value, dict) and path not in FREE:
        for key, inner in value.items():
            yield from keys(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield from {key for inner in value for key in keys(inner, f"{path}[]")} or {f"{path}[]"}
    else:
        yield path


def check(command: str, result: dict[str, Any]) -> None:
    """What is printed is what is documented."""
    printed = set(keys(result))
    assert printed <= documented(command)
    assert documented(command) - printed <= SOMETIMES


def test_train(trained: Trained) -> None:
    check("train", trained.result)


def test_evaluate(run_cli: RunCli, trained: Trained) -> None:
    check("evaluate", json.loads(run_cli("evaluate", trained.folder, "--episodes", 2, "--json")[1]))


def test_list(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PRESETS, ("vdn", "two-step", "replay"), Preset({"lr": 0.25}, source="Nobody 1999", measured="7")
    )
    check("list", json.loads(run_cli("list", "--json")[1]))


def test_check_env(run_cli: RunCli) -> None:
    check("check-env", json.loads(run_cli("check-env", "tests.cli.faulty:NoAction", "--json")[1]))


@pytest.fixture(name="quick_tables")
def _quick_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["vdn", "two-step", "replay"]
    few = {"steps": 96, "eval_every": 96, "num_envs": 16, "learning_starts": 0}
    monkeypatch.setitem(PRESETS, ("vdn", "two-step", "replay"), replace(preset, settings=preset.settings | few))


@pytest.mark.usefixtures("quick_tables")
def test_tables(run_cli: RunCli) -> None:
    status, out, err = run_cli("tables", "two-step", "--methods", "vdn", "--seeds", 1, "--json")
    assert status == 0
    result = json.loads(out)
    check("tables", result)
    assert set(result["exact"]["vdn"]["global"]) == {"mse", "returns", "tables"}
    assert "exact A" in err


def test_every_command_is_documented() -> None:
    table = re.findall(r"^\| `comarl ([\w-]+)", DOCS, re.MULTILINE)
    assert table == list(COMMANDS)


@pytest.mark.parametrize(
    "name", ["config.json", "provenance.json", "metrics.jsonl", "summary.json", "learning_curve.png"]
)
def test_every_file_is_documented(name: str) -> None:
    assert f"| `{name}` |" in DOCS
