"""The papers' exact results over ten seeds, learned by the library as a user would run it (``make test-paper``)."""

from typing import Any

import pytest
from rich.console import Console

from comarl.experiments.runner import Silent
from comarl.report.tables import print_tables, run_tables

pytestmark = pytest.mark.paper

SEEDS = 10
TOLERANCE = 0.1
# QMIX paper, §5: what is additive in each state cannot value the risky branch above 6.5 and takes the safe one.
TWO_STEP_RETURNS = {"qmix": 8, "qmix-ns": 8, "joint": 8, "vdn": 7, "vdn-s": 7, "qmix-lin": 7, "iql": 7}


def learned(game: str, method: str) -> list[dict[str, Any]]:
    """The rows of all seeds, after printing the table beside the exact values."""
    result = run_tables(game, [method], SEEDS, Silent())
    print_tables(result, Console(width=100))
    assert len(result["rows"]) == SEEDS
    return result["rows"]


@pytest.mark.parametrize("method", TWO_STEP_RETURNS)
def test_two_step_game(method: str) -> None:
    rows = learned("two-step", method)
    assert [row["greedy_return"] for row in rows] == [TWO_STEP_RETURNS[method]] * SEEDS
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE


@pytest.mark.parametrize("method", ["vdn", "iql"])
def test_qtran_game_least_squares(method: str) -> None:
    rows = learned("qtran", method)
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE
    assert [row["greedy_return"] for row in rows] == [0] * SEEDS
