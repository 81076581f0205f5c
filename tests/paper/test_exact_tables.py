"""The papers' exact results over ten seeds, learned by the library as a user would run it (``make test-paper``)."""

from typing import Any

import numpy as np
import pytest
from rich.console import Console

from comarl.experiments.progress import Silent
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


LEAST_SQUARES = ["vdn", "qatten", "iql"]
BEST = 8  # of both one-step games


@pytest.mark.parametrize("method", LEAST_SQUARES)
def test_qtran_game_least_squares(method: str) -> None:
    rows = learned("qtran", method)
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE
    assert [row["greedy_payoff"] for row in rows] == [0] * SEEDS


@pytest.mark.parametrize("method", LEAST_SQUARES)
def test_qplex_3_least_squares(method: str) -> None:
    """B and C tie exactly, so that each agent picks either: together they earn 6 or 0."""
    rows = learned("qplex-3", method)
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE
    assert {row["greedy_payoff"] for row in rows} <= {6, 0}


@pytest.mark.parametrize(("game", "lost", "safe"), [("qtran", 0, 0), ("qplex-3", 2, 6)])
def test_qplex_learns_the_whole_table(game: str, lost: int, safe: int) -> None:
    """On QPLEX-3 two of fifty seeds stay where utilities tie (docs/methods/qplex.md).

    More than two of ten would be lost by chance once in 150 times.
    """
    rows = learned(game, "qplex")
    best = [row for row in rows if row["greedy_payoff"] == BEST]
    assert len(best) >= SEEDS - lost
    assert max(row["max_abs_error"] for row in best) <= 0.3
    assert {row["greedy_payoff"] for row in rows} <= {BEST, safe}


@pytest.mark.parametrize("game", ["qtran", "qplex-3"])
@pytest.mark.parametrize("method", ["qtran-base", "qtran-alt"])
def test_qtran_is_best_and_keeps_its_conditions(method: str, game: str) -> None:
    """Q_jt is the payoff; Σ Q_i is Q_jt at the greedy joint action and no less anywhere (theorem 1)."""
    rows = learned(game, method)
    assert [row["greedy_payoff"] for row in rows] == [BEST] * SEEDS
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE
    for row in rows:
        q_tot, q_jt = np.array(row["tables"]["1"]), np.array(row["central"]["1"])
        assert (q_tot - q_jt).min() >= -TOLERANCE
        greedy = np.unravel_index(np.argmax(q_tot), q_tot.shape)
        assert abs(q_tot[greedy] - q_jt[greedy]) <= TOLERANCE


@pytest.mark.parametrize("game", ["qtran", "qplex-3"])
@pytest.mark.parametrize("method", ["cw-qmix", "ow-qmix"])
def test_weighted_qmix_is_best(method: str, game: str) -> None:
    rows = learned(game, method)
    assert [row["greedy_payoff"] for row in rows] == [BEST] * SEEDS
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE


@pytest.mark.parametrize("method", ["qplex", "joint"])
def test_mmdp_is_solved_by_what_represents_it(method: str) -> None:
    """100 is the best return; Q(0, 0) = 1 / (1 - γ) = 10."""
    rows = learned("mmdp", method)
    assert [row["greedy_return"] for row in rows] == [100] * SEEDS
    assert max(row["max_abs_error"] for row in rows) <= TOLERANCE


@pytest.mark.parametrize("method", ["vdn", "qmix", "qatten"])
def test_mmdp_makes_additive_values_diverge(method: str) -> None:
    """They have no fixed point: values pass 10, the largest that any policy has, and go on."""
    rows = learned("mmdp", method)
    assert min(row["tables"]["1"][0][0] for row in rows) > 100
