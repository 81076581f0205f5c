"""Regret on random games: the cases whose answer is known, and what is printed."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from comarl.errors import ComarlError
from comarl.experiments.progress import Silent
from comarl.report import regret
from comarl.report.regret import (
    best_fit_optimal,
    described,
    draw_payoffs,
    figure_of,
    print_regret,
    regrets_of,
    run_regret,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regret, "STEPS", 1500)
    monkeypatch.setattr(regret, "RESTARTS", 1)


def test_the_joint_value_has_no_regret() -> None:
    np.testing.assert_array_equal(regrets_of("joint", draw_payoffs("uniform", 20, 2, 3, seed=1), 0), 0)


def test_vdn_has_no_regret_on_additive_payoffs() -> None:
    each = np.random.default_rng(2).uniform(size=(20, 2, 3)).astype(np.float32)
    payoffs = each[:, 0, :, None] + each[:, 1, None]
    np.testing.assert_array_equal(regrets_of("vdn", payoffs, 0), 0)


@pytest.mark.parametrize(
    "method", ["iql", "vdn", "qmix", *(pytest.param(name, marks=pytest.mark.paper) for name in ("qplex", "qtran-base"))]
)
def test_one_agent_alone_has_no_regret(method: str) -> None:
    """Gaps of at least .1: how exact a fit is in so few steps is not the question."""
    payoffs = np.stack([np.random.default_rng(i).permutation([0.0, 0.3, 0.6, 0.9]) for i in range(4)])
    np.testing.assert_array_equal(regrets_of(method, payoffs.astype(np.float32), 0), 0)


def test_vdns_regret_is_that_of_the_least_squares_fit() -> None:
    payoffs = draw_payoffs("normal", 20, 2, 3, seed=4)
    expected: list[float] = []
    for payoff in payoffs:
        greedy = payoff.mean(1).argmax(), payoff.mean(0).argmax()
        expected.append(payoff.max() - payoff[greedy])
    assert any(expected)
    np.testing.assert_allclose(regrets_of("vdn", payoffs, 0), expected)


def test_share_of_the_best_fits() -> None:
    payoffs = draw_payoffs("normal", 12, 2, 3, seed=4)
    expected = np.mean([p[p.mean(1).argmax(), p.mean(0).argmax()] == p.max() for p in payoffs])
    assert 0 < expected < 1
    for method in ("iql", "vdn", "qatten"):
        assert best_fit_optimal(method, payoffs) == pytest.approx(expected, abs=1e-6)
    assert best_fit_optimal("joint", payoffs) == best_fit_optimal("qplex", payoffs) == 1
    assert best_fit_optimal("ow-qmix", payoffs) is None
    assert best_fit_optimal("vdn", draw_payoffs("normal", 2, 3, 3, seed=0)) is None
    assert best_fit_optimal("vdn", draw_payoffs("normal", 2, 2, 4, seed=0)) is None


def test_tied_greedy_joint_actions_count_by_their_share() -> None:
    """In the second game B and C tie for both agents under VDN."""
    payoffs = np.array([[[0, 0, 0], [0, 2, 1], [0, 1, 1.0]], [[0, 0, 0], [0, 3, 1], [0, 1, 3.0]]], np.float32)
    assert best_fit_optimal("vdn", payoffs[1:]) == 0.5  # BB and CC are both the best, BC and CB are not
    assert best_fit_optimal("vdn", payoffs) == 0.75


def test_payoffs_are_drawn_as_they_are_called() -> None:
    uniform, normal = (draw_payoffs(kind, 2000, 2, 2, seed=0) for kind in ("uniform", "normal"))
    assert uniform.shape == normal.shape == (2000, 2, 2)
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() <= 1
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    np.testing.assert_array_equal(uniform, draw_payoffs("uniform", 2000, 2, 2, seed=0))
    assert (uniform != draw_payoffs("uniform", 2000, 2, 2, seed=1)).any()


def test_interval_of_the_mean() -> None:
    regrets = np.random.default_rng(0).exponential(size=400)
    found = described(regrets)
    low, high = found["regret_interval"]
    half = 1.96 * regrets.std() / 20  # the normal approximation, which suits 400 values
    np.testing.assert_allclose([low, high], [regrets.mean() - half, regrets.mean() + half], atol=0.02)
    assert found["mean_regret"] == pytest.approx(regrets.mean(), abs=1e-6)
    assert described(np.array([0.0, 0.0, 0.5, 0.0]))["optimal"] == 0.75
    assert described(np.zeros(5))["regret_interval"] == [0, 0]
    assert described(np.array([0.25]))["regret_interval"] == [0.25, 0.25]


@pytest.fixture(scope="module", name="result")
def _result() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regret, "STEPS", 1500)
        patch.setattr(regret, "RESTARTS", 1)
        return run_regret(("vdn", "joint", "vdn"), Silent(), games=6, seed=3)


def test_result(result: dict[str, Any]) -> None:
    assert [row["method"] for row in result["rows"]] == ["vdn", "joint"]
    assert result["rows"][1]["optimal"] == 1
    assert len(result["rows"][0]["regrets"]) == 6
    payoffs = draw_payoffs("uniform", 6, 2, 3, seed=3)
    random = np.mean([game.max() - game.mean() for game in payoffs])
    assert result["random"]["mean_regret"] == pytest.approx(random, abs=1e-6)
    assert result["random"]["optimal"] == pytest.approx(1 / 9, abs=1e-6)


def test_table(result: dict[str, Any]) -> None:
    out = io.StringIO()
    print_regret(result, Console(file=out, width=100))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert "payoffs uniform in [0, 1], seed 3" in out.getvalue()
    assert ["joint", "100%", "100%", "0.000", "[0.000,", "0.000]"] in lines
    assert any(line[:2] == ["random", "play"] for line in lines)


def test_picture_has_a_bar_per_method(result: dict[str, Any]) -> None:
    left, right = figure_of(result).axes
    assert [bar.get_width() for bar in left.patches] == [row["optimal"] for row in result["rows"]]
    assert [bar.get_width() for bar in right.patches] == [row["mean_regret"] for row in result["rows"]]


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"games": 0}, "games=0: must be positive"),
        ({"games": 10**11}, "games=100000000000: at most 10000"),
        ({"agents": 0}, "agents=0: must be positive"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"actions": 11, "agents": 3}, "1331 joint actions"),
    ],
)
def test_mistakes(sizes: dict[str, Any], line: str) -> None:
    with pytest.raises(ComarlError, match=line):
        run_regret(("vdn",), Silent(), **sizes)
