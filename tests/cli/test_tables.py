"""``comarl tables``: what it hands on, and its mistakes. What is learned is tested with the tables themselves."""

from typing import Any

import pytest

from comarl.report.tables import DEFAULT_METHODS, GAMES
from tests.cli.conftest import RunCli, error_line

RESULT: dict[str, Any] = {"game": "qtran", "gamma": 0.99, "rows": [], "exact": {}}


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []
    monkeypatch.setattr("comarl.cli.tables.run_tables", lambda *args: asked.extend(args[:3]) or RESULT)
    return asked


def test_all_methods_and_ten_seeds_unless_told_otherwise(run_cli: RunCli, asked: list[Any]) -> None:
    assert run_cli("tables", "qtran")[0] == 0
    assert asked == ["qtran", DEFAULT_METHODS, 10]


@pytest.mark.parametrize(
    "words",
    [
        "two-step --methods vdn iql --seeds 3",
        "--methods vdn iql --seeds 3 two-step",
    ],
)
def test_methods_and_seeds(run_cli: RunCli, asked: list[Any], words: str) -> None:
    assert run_cli("tables", *words.split())[0] == 0
    assert asked == ["two-step", ["vdn", "iql"], 3]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], f"comarl tables: which GAME? One of {', '.join(GAMES)}"),
        (["two-stp"], "unknown game 'two-stp': did you mean 'two-step'?"),
        (["two-step", "--methods", "vdn", "qmx"], "unknown method 'qmx': did you mean 'qmix'?"),
        (["two-step", "--sedes", "3"], "comarl tables: unknown option '--sedes': did you mean '--seeds'?"),
        (["two-step", "--seeds", "0"], "seeds=0: must be positive"),
    ],
)
def test_mistake_is_one_line(run_cli: RunCli, words: list[str], line: str) -> None:
    assert error_line(run_cli("tables", *words)).startswith(line)
