"""The table at the end of a run."""

from typing import Any

from rich.console import Console

from comarl.report.summary import costs, score_table

SUMMARY: dict[str, Any] = {
    "method": "qmix",
    "env": "smax/3m",
    "seeds": [4, 5],
    "score": "win rate",
    "win_rate": {"mean": 0.75, "per_seed": [0.5, 1.0]},
    "random": 0.0,
    "heuristic": 0.7617,
    "env_steps": 1_000_000,
    "compile_seconds": 12.34,
    "train_seconds": 50.0,
}


def lines(summary: dict[str, Any]) -> list[str]:
    """The table as text."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(score_table(summary))
    return [" ".join(line.split()) for line in capture.get().splitlines() if line.strip(" ─")]


def test_table_has_each_seed_the_mean_and_the_fixed_policies() -> None:
    assert lines(SUMMARY) == [
        "qmix on smax/3m: win rate",
        "policy win rate",
        "learned, seed 4 50.0%",
        "learned, seed 5 100.0%",
        "learned, mean 75.0%",
        "random 0.0%",
        "heuristic 76.2%",
    ]


def test_sampled_actions_stand_beside_greedy_ones() -> None:
    shown = lines(SUMMARY | {"sampled": {"mean": 0.25, "per_seed": [0.0, 0.5]}})
    assert shown[4:7] == ["learned, mean 75.0%", "the same, sampling actions 25.0%", "random 0.0%"]


def test_further_outcomes_have_columns() -> None:
    outcomes = {"reached": {"per_seed": [0.5, 0.75], "random": 0.0625, "heuristic": 1.0}}
    assert lines(SUMMARY | {"outcomes": outcomes})[1:] == [
        "policy win rate reached",
        "learned, seed 4 50.0% 0.500",
        "learned, seed 5 100.0% 0.750",
        "learned, mean 75.0% 0.625",
        "random 0.0% 0.062",
        "heuristic 76.2% 1.000",
    ]


def test_returns() -> None:
    summary = SUMMARY | {"score": "return (sum over the agents)", "return": {"mean": -2.0, "per_seed": [-3.0, -1.0]}}
    del summary["win_rate"]
    summary["episodes"] = 512
    shown = lines(summary)
    assert shown[0] == "qmix on smax/3m: return (sum over the agents), 512 episodes"
    assert shown[1:5] == ["policy return", "learned, seed 4 -3.00", "learned, seed 5 -1.00", "learned, mean -2.00"]


def test_compiling_is_apart_from_training() -> None:
    # Two seeds of a million steps in 50 s.
    assert costs(SUMMARY) == ("compiled in 12.3 s, trained 2 × 1,000,000 environment steps in 50.0 s (40,000 steps/s)")
