"""What ``comarl tables`` returns and prints."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from comarl.envs.games.matrix import PAYOFFS
from comarl.errors import ComarlError
from comarl.experiments.presets import PRESETS
from comarl.experiments.progress import Silent
from comarl.report import tables
from comarl.report.tables import DEFAULT_METHODS, GAMES, print_tables, run_tables

ADDITIVE_2B = [[-1.5, 2.5], [2.5, 6.5]]


def printed(result: dict[str, Any]) -> str:
    out = io.StringIO()
    print_tables(result, Console(file=out, width=100))
    return out.getvalue()


@pytest.fixture(scope="module")
def vdn() -> dict[str, Any]:
    """One seed of VDN on the two-step game, a third of the preset's data: a few seconds."""
    preset = PRESETS["vdn", "two-step", "replay"]
    smaller = preset.settings | {"num_envs": 64, "batch_size": 64, "steps": 64 * 6 * 2000, "eval_every": 64 * 6 * 500}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, ("vdn", "two-step", "replay"), dataclasses.replace(preset, settings=smaller))
        return run_tables("two-step", ["vdn"], 1, Silent())


def test_vdn_learns_its_exact_table_and_returns_7(vdn: dict[str, Any]) -> None:
    (row,) = vdn["rows"]
    assert (row["method"], row["seed"], row["greedy_return"], row["optimum"]) == ("vdn", 0, 7, "global")
    learned = {state: np.array(table) for state, table in row["tables"].items()}
    assert list(learned) == ["1", "2A", "2B"]
    np.testing.assert_allclose(learned["1"], [[6.93, 6.93], [6.435, 6.435]], atol=0.1)
    np.testing.assert_allclose(learned["2A"], 7, atol=0.1)
    np.testing.assert_allclose(learned["2B"], ADDITIVE_2B, atol=0.1)
    exact = vdn["exact"]["vdn"]["global"]
    assert exact["tables"]["2B"] == ADDITIVE_2B
    assert exact["returns"] == [7]
    errors = [np.abs(learned[state] - exact["tables"][state]).max() for state in learned]
    assert row["max_abs_error"] == pytest.approx(max(errors), abs=1e-5)


def test_result_is_plain_data(vdn: dict[str, Any]) -> None:
    assert json.loads(json.dumps(vdn, allow_nan=False)) == vdn
    assert vdn["game"] == "two-step"
    assert vdn["gamma"] == 0.99


def test_learned_stands_beside_exact(vdn: dict[str, Any]) -> None:
    text = printed(vdn)
    assert max(map(len, text.splitlines())) <= 100
    assert "vdn: 1 of 1 seeds nearest to the global fit (mean squared error 0.750)" in text
    (row,) = (line.split() for line in text.splitlines() if line.split()[:2] == ["2B", "A"])
    assert row[2:4] == ["-1.50", "2.50"]
    assert abs(float(row[4]) + 1.5) < 0.1
    assert row[5] == "±0.00"  # a single seed is its own mean


def made_up(tables: list[list[list[float]]], optima: list[str | None], returns: list[float]) -> dict[str, Any]:
    """A result of QMIX on a one-step game."""
    fits = {"global": (0.0, [8.0]), "local": (1.5, [0.0])}
    return {
        "game": "qtran",
        "gamma": 0.99,
        "rows": [
            {
                "method": "qmix",
                "seed": seed,
                "greedy_return": greedy,
                "greedy_payoff": greedy,
                "max_abs_error": None if optimum is None else 0.25,
                "optimum": optimum,
                "tables": {"1": table},
                "central": None,
            }
            for seed, (table, optimum, greedy) in enumerate(zip(tables, optima, returns, strict=True))
        ],
        "exact": {
            "qmix": {
                name: {"mse": mse, "returns": best, "tables": {"1": [[1.0, 2.0, 3.0]] * 3}}
                for name, (mse, best) in fits.items()
                if name in optima
            }
        },
    }


def test_seeds_at_different_fits_are_not_averaged() -> None:
    table = [[1.0, 2.0, 3.0]] * 3
    other = [[-8.25, 2.0, 3.0], *table[1:]]
    text = printed(made_up([table, other, table], ["global", "local", "global"], [8.0, 0.0, 8.0]))
    assert "2 of 3 seeds nearest to the global fit" in text
    assert "1 of 3 seeds nearest to the local fit (mean squared error 1.500); largest difference 0.250" in text
    assert "-8.25 ±0.00" in text
    summary = text.split("nearest fit")[-1]
    assert "8 ×2, 0 ×1" in summary
    assert "2 of 3" in summary
    assert "global ×2, local ×1" in summary
    assert max(map(len, text.splitlines())) <= 100


def test_mean_and_largest_deviation_over_the_seeds() -> None:
    result = made_up([[[v, 0.0, 0.0]] * 3 for v in (1.0, 2.0, 6.0)], ["global"] * 3, [8.0] * 3)  # mean 3, farthest 6
    assert "3.00 ±3.00" in printed(result)


def test_a_method_without_an_exact_table() -> None:
    text = printed(made_up([[[1.0, 2.0, 3.0]] * 3] * 2, [None, None], [8.0, 0.0]))
    assert "2 seeds, no exact table" in text
    assert "exact A" not in text


def test_a_method_without_a_rule_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = tables.Learned(3, 7.0, {"1": np.zeros((2, 2))})
    monkeypatch.setattr(tables, "_learn", lambda *_: ([], [seed]))
    result = run_tables("two-step", ["vdn"], 1, Silent())
    assert result["rows"] == [
        {
            "method": "vdn",
            "seed": 3,
            "greedy_return": 7,
            "greedy_payoff": None,
            "max_abs_error": None,
            "optimum": None,
            "tables": {"1": [[0, 0], [0, 0]]},
            "central": None,
        }
    ]
    assert result["exact"] == {"vdn": {}}


def test_in_a_game_of_one_step_the_return_is_the_payoff_of_the_greedy_joint_action(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preset = PRESETS["vdn", "matrix/qtran", "replay"]
    few = {"num_envs": 64, "batch_size": 64, "steps": 64 * 6 * 200, "eval_every": 64 * 6 * 200, "buffer_steps": 7680}
    short = dataclasses.replace(preset, settings=preset.settings | few)
    monkeypatch.setitem(PRESETS, ("vdn", "matrix/qtran", "replay"), short)
    (row,) = run_tables("qtran", ["vdn"], 1, Silent())["rows"]
    row_action, column_action = np.unravel_index(np.argmax(row["tables"]["1"]), (3, 3))
    assert row["greedy_payoff"] == PAYOFFS["qtran"][row_action][column_action] == row["greedy_return"]


def test_every_default_method_has_a_preset_and_an_exact_table_on_every_game() -> None:
    for method in DEFAULT_METHODS:
        assert method in tables.RULES
        for game in GAMES.values():
            settings = PRESETS[method, game.env, "replay"].settings
            assert settings["epsilon_end"] == 1  # data are uniform
            assert settings["td_lambda"] == 0  # values are the method's own, not those of random play


def test_user_mistakes() -> None:
    with pytest.raises(ComarlError, match="unknown game 'two-stp': did you mean 'two-step'"):
        run_tables("two-stp", ["vdn"], 1, Silent())
    with pytest.raises(ComarlError, match="unknown method 'qmx': did you mean 'qmix'"):
        run_tables("two-step", ["qmx"], 1, Silent())
    with pytest.raises(ComarlError, match="seeds=0: must be positive"):
        run_tables("two-step", ["vdn"], 0, Silent())
