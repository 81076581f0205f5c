"""Learning curves: what is read, what the line and the band are, what the picture holds."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig, to_json, with_settings
from comarl.experiments.folder import write_json
from comarl.report.curves import Curve, draw, figure_of, read_curve, summarise
from comarl.training.logging import MetricsWriter


def write_run(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Path:
    """A run folder with these rows of metrics."""
    folder.mkdir()
    write_json(folder / "config.json", to_json(with_settings(RunConfig(), settings)))
    writer = MetricsWriter(folder)
    for row in rows:
        writer.write(**row)
    writer.close()
    return folder


def evaluation(seed: int, steps: int, returns: list[list[float]], **outcome: list[float]) -> dict[str, Any]:
    """A row of metrics."""
    return {"kind": "evaluation", "seed": seed, "env_steps": steps, "returns": returns, "length": [3, 3], **outcome}


def test_curve_of_wins(tmp_path: Path) -> None:
    returns = [[7.0, 7.0], [7.0, 7.0]]
    rows = [
        {"kind": "train", "seed": 0, "env_steps": 10, "loss": 1.0},
        evaluation(0, 10, returns, won=[0.0, 1.0]),
        evaluation(1, 10, returns, won=[0.0, 0.0]),
        evaluation(0, 20, returns, won=[1.0, 1.0]),
        evaluation(1, 20, returns, won=[0.0, 1.0]),
        {"kind": "baseline", "policy": "random", "returns": returns, "length": [1, 1], "won": [0.0, 0.0]},
        {"kind": "baseline", "policy": "heuristic", "returns": returns, "length": [1, 1], "won": [1.0, 0.0]},
    ]
    curve = read_curve(write_run(tmp_path / "run", rows, seeds=2))
    assert curve.score == "win rate"
    assert curve.steps.tolist() == [10, 20]
    assert curve.scores.tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert curve.fixed == {"random": 0.0, "heuristic": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"returns": None},
        {"returns": []},
        {"returns": [1.0]},
        {"won": ["?", "?"]},
        {"won": [1.0, 1.0, 1.0]},
        {"returns": [[1e39, 0.0]] * 2},
    ],
)
def test_an_evaluation_that_no_run_writes_is_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    row = {**evaluation(0, 10, [[1.0, 2.0], [1.0, 2.0]]), **changes}
    with pytest.raises(ComarlError, match=r"metrics\.jsonl holds a row that nobody has written") as error:
        read_curve(write_run(tmp_path / "run", [row]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("team_reward", "score"),
    # Two episodes of two agents: returns (1, 3) and (5, 7). Means 2 and 6; sums 4 and 12.
    [("mean", 4.0), ("individual", 4.0), ("sum", 8.0)],
)
def test_curve_of_returns(tmp_path: Path, team_reward: str, score: float) -> None:
    rows = [evaluation(0, 10, [[1.0, 3.0], [5.0, 7.0]])]
    curve = read_curve(write_run(tmp_path / "run", rows, method="iql", team_reward=team_reward))
    assert curve.scores.tolist() == [[score]]
    assert curve.score.startswith(f"return ({'sum' if team_reward == 'sum' else 'mean'} over the agents")


def test_a_broken_off_run_is_drawn_as_far_as_all_seeds_came(tmp_path: Path) -> None:
    one = [[1.0]]
    rows = [evaluation(0, 10, one), evaluation(1, 10, one), evaluation(0, 20, one)]
    curve = read_curve(write_run(tmp_path / "run", rows, seeds=2))
    assert curve.steps.tolist() == [10]
    assert curve.fixed == {}


def test_a_cut_off_line_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [evaluation(0, 10, [[1.0]]), evaluation(0, 20, [[1.0]])])
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert read_curve(folder).steps.tolist() == [10]


def test_a_run_without_evaluations_of_all_seeds_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [evaluation(0, 10, [[1.0]])], seeds=2)
    with pytest.raises(ComarlError, match="no evaluation of every seed"):
        read_curve(folder)


def test_middle_is_the_mean_of_few_seeds() -> None:
    # Resampling (0, 0, 3) with replacement gives a mean of 0 with probability 8/27 and of 3 with 1/27: both are more
    # than the 2.5% beyond the ends of a 95% interval, so the interval is [0, 3].
    middle, low, high, words = summarise(np.array([[0.0], [0.0], [3.0]]))
    assert (middle.tolist(), low.tolist(), high.tolist(), words) == ([1.0], [0.0], [3.0], "mean of 3 seeds")


def test_middle_is_the_interquartile_mean_of_many_seeds() -> None:
    # A quarter of five is one: 0 and 100 go, and 1, 2, 6 are left. With all samples equal there is no spread.
    scores = np.array([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0], [6.0, 4.0], [100.0, 4.0]])
    middle, low, high, words = summarise(scores)
    assert middle.tolist() == [3.0, 4.0]
    assert low[0] < 3.0 < high[0]
    assert (low[1], high[1]) == (4.0, 4.0)
    assert words == "interquartile mean of 5 seeds"


def test_interval_is_the_bootstraps() -> None:
    # The mean of 400 resampled values of a fair coin is normal with deviation .5 / 20: ± 1.96 × .025 = ± .049.
    scores = np.tile([[0.0], [1.0]], (200, 1))
    middle, low, high, _ = summarise(np.concatenate([scores, 1 - scores], axis=1))
    # The interquartile mean of a coin is that of its middle half: as even as the coin, with twice the deviation.
    np.testing.assert_allclose(middle, 0.5)
    np.testing.assert_allclose(high - low, 2 * 2 * 1.96 * 0.025, rtol=0.06)


def test_one_seed_has_no_interval() -> None:
    scores = np.array([[1.0, 2.0]])
    middle, low, high, words = summarise(scores)
    assert middle.tolist() == low.tolist() == high.tolist() == [1.0, 2.0]
    assert words == "1 seed"


def test_same_seeds_same_band() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_array_equal(summarise(scores)[1], summarise(scores)[1])


def make_curve(method: str = "qmix", env: str = "smax/3m", seeds: int = 3, **more: Any) -> Curve:
    """A curve of two evaluations."""
    scores = np.linspace(0.0, 0.6, seeds)[:, None] + np.array([[0.1, 0.3]])
    settings: dict[str, Any] = {
        "folder": Path("runs") / method,
        "config": with_settings(RunConfig(), {"method": method, "env": env, "seeds": seeds}),
        "score": "win rate",
        "steps": np.array([500_000, 1_000_000]),
        "scores": scores,
        "fixed": {"random": 0.0, "heuristic": 0.76},
    }
    return Curve(**settings | more)


def legend(curves: list[Curve]) -> list[str]:
    """What the legend says."""
    return [text.get_text() for text in figure_of(curves).axes[0].get_legend().get_texts()]


def test_picture_of_one_run() -> None:
    (axes,) = figure_of([make_curve()]).axes
    assert axes.get_xlabel() == "environment steps per seed (millions)"
    assert axes.get_ylabel() == "win rate"
    middle = next(line for line in axes.lines if line.get_label() == "qmix, smax/3m: mean of 3 seeds")
    np.testing.assert_allclose(middle.get_ydata(), [0.4, 0.6])  # the mean of 0, .3, .6 and .1 or .3
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(0.9)  # the best seed's end, as likely as 1/27
    dashes = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert (dashes["random"], dashes["heuristic"]) == (":", "--")
    assert "thin lines: single seeds" in axes.get_title(loc="left")


def test_each_run_has_its_colour_and_each_environment_its_fixed_policies_once() -> None:
    curves = [make_curve(), make_curve("vdn", seeds=4)]
    assert legend(curves) == [
        "qmix, smax/3m: mean of 3 seeds",
        "vdn, smax/3m: interquartile mean of 4 seeds",
        "random",
        "heuristic",
    ]
    lines = figure_of(curves).axes[0].lines
    shown = [line.get_color() for line in lines if not line.get_label().startswith("_")]
    assert len(set(shown)) == 3  # two runs, and one grey for both fixed policies


def test_fixed_policies_of_two_environments_are_told_apart() -> None:
    labels = legend([make_curve(), make_curve(env="smax/8m", seeds=1)])
    assert labels[1:] == [
        "qmix, smax/8m: 1 seed",
        "random, smax/3m",
        "heuristic, smax/3m",
        "random, smax/8m",
        "heuristic, smax/8m",
    ]


def test_same_method_and_environment_are_told_apart_by_folder() -> None:
    labels = legend([make_curve(folder=Path("a")), make_curve(folder=Path("b"))])
    assert labels[:2] == ["qmix, smax/3m (a): mean of 3 seeds", "qmix, smax/3m (b): mean of 3 seeds"]


def test_one_seed_has_no_band() -> None:
    (axes,) = figure_of([make_curve(seeds=1)]).axes
    assert not axes.collections
    assert "band" not in axes.get_title(loc="left")


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_picture_is_written(tmp_path: Path, ending: str) -> None:
    out = tmp_path / "new" / f"curve{ending}"
    draw([make_curve()], out)
    begin = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[ending]
    assert out.read_bytes().startswith(begin)


def test_runs_that_are_scored_differently_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match=r"plot them apart \(runs/qmix: win rate, runs/vdn: return\)"):
        draw([make_curve(), make_curve("vdn", score="return")], tmp_path / "x.png")


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match=r"ends with \.png, \.pdf or \.svg"):
        draw([make_curve()], tmp_path / "x.foo")


def test_unwritable_picture_is_refused() -> None:
    with pytest.raises(ComarlError, match=r"cannot write /dev/null/x\.png"):
        draw([make_curve()], Path("/dev/null/x.png"))


def test_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ComarlError, match=r"pip install 'comarl\[plot\]'"):
        draw([make_curve()], tmp_path / "x.png")
