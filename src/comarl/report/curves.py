"""Learning curves: the score of the greedy policy over training, with a confidence band over seeds."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config
from comarl.experiments.scores import episode_scores, score_name
from comarl.report.figures import COLOURS, new_figure, save_figure
from comarl.training.logging import read_metrics

CONFIDENCE = 0.95
RESAMPLES = 2000
SEEDS_FOR_IQM = 4
"""With fewer seeds a quarter of them is less than one: the interquartile mean would be the mean."""

LARGEST = float(np.finfo(np.float32).max)
"""What a run writes is no larger, nor smaller than its opposite."""

SCALES = ((1_000_000, 1_000_000, " (millions)"), (10_000, 1_000, " (thousands)"), (0, 1, ""))
"""From how many steps on the axis counts in what, and its name."""
DASHES = {"random": ":"}
"""Line style of a fixed policy; a heuristic's is dashed, as in the QMIX paper."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """The evaluations of a run.

    Attributes:
        folder: the run folder.
        config: what was run.
        score: what a score is, in words.
        steps: environment steps per seed at each evaluation ``[E]``.
        scores: each seed's mean score ``[K, E]`` (K seeds).
        fixed: mean scores of the fixed policies by name; empty if the run was broken off.
    """

    folder: Path
    config: RunConfig
    score: str
    steps: Int[np.ndarray, " E"]
    scores: Float[np.ndarray, "K E"]
    fixed: dict[str, float]


def read_curve(folder: Path) -> Curve:
    """The learning curve of a run folder, up to the last evaluation that every seed has reached.

    Raises:
        ComarlError: if there is no such evaluation, or a row is none that a run writes.
    """
    config, rows = load_config(folder), read_metrics(folder)
    try:
        return _curve(folder, config, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ComarlError(f"{folder / 'metrics.jsonl'} holds a row that nobody has written: {error}") from error


def _curve(folder: Path, config: RunConfig, rows: list[dict[str, Any]]) -> Curve:
    seeds: dict[int, dict[int, float]] = {}
    for row in rows:
        if row["kind"] == "evaluation":
            seeds.setdefault(row["seed"], {})[row["env_steps"]] = _mean_score(config, row)
    steps = sorted(set.intersection(*(set(s) for s in seeds.values()))) if len(seeds) == config.seeds else []
    if not steps:
        raise ComarlError(f"{folder} has no evaluation of every seed yet: nothing to draw")
    return Curve(
        folder=folder,
        config=config,
        score=score_name(config, next(row for row in rows if row["kind"] == "evaluation")),
        steps=np.array(steps),
        scores=np.array([[scores[s] for s in steps] for scores in seeds.values()], np.float64),
        fixed={row["policy"]: _mean_score(config, row) for row in rows if row["kind"] == "baseline"},
    )


def _mean_score(config: RunConfig, row: dict[str, Any]) -> float:
    numbers = {k: np.array(v, np.float64) for k, v in row.items() if isinstance(v, list)}  # null becomes NaN
    returns = numbers.pop("returns")
    if returns.ndim != 2 or not returns.size or numbers.get("won", returns[:, 0]).shape != returns.shape[:1]:
        raise ValueError(f"{row['kind']} of {returns.shape} returns")
    if any((np.abs(x) > LARGEST).any() for x in (returns, numbers.get("won", returns))):
        raise ValueError(f"{row['kind']} with a number beyond 32 bits")
    return float(episode_scores(config, returns, numbers).mean())


def summarise(
    scores: Float[np.ndarray, "K E"],
) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " E"], Float[np.ndarray, " E"], str]:
    """The middle of several seeds and its 95% bootstrap confidence interval over seeds.

    The middle is the interquartile mean (Agarwal et al. 2021), or the mean of fewer than four seeds. Seeds are
    resampled whole curves at a time, and the interval is between percentiles. One seed has no interval: both ends
    are its own scores.

    Args:
        scores: of each seed at each evaluation ``[K, E]``.

    Returns:
        The middle, the lower and the upper end, each ``[E]``, and what the middle is, in words.
    """
    from scipy.stats import bootstrap, trim_mean

    seeds = len(scores)
    if seeds == 1:
        return scores[0], scores[0], scores[0], "1 seed"
    iqm = seeds >= SEEDS_FOR_IQM

    def middle(x: np.ndarray, axis: int = 0) -> np.ndarray:
        return np.asarray(trim_mean(x, 0.25, axis=axis) if iqm else np.mean(x, axis=axis))

    interval = bootstrap(
        (scores,),
        middle,
        axis=0,
        n_resamples=RESAMPLES,
        batch=200,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=0,
    ).confidence_interval
    return middle(scores), interval.low, interval.high, f"{'interquartile mean' if iqm else 'mean'} of {seeds} seeds"


def draw(curves: list[Curve], out: Path) -> None:
    """Draw curves into one picture; the file's ending says the format.

    Raises:
        ComarlError: if they are scored differently, matplotlib is missing, or the file cannot be written.
    """
    save_figure(figure_of(curves), out)


def figure_of(curves: list[Curve]) -> Any:
    """The matplotlib figure: a colour per run, and fixed policies as horizontal lines.

    Raises:
        ComarlError: if the runs are scored differently, or matplotlib is missing.
    """
    if len({curve.score for curve in curves}) > 1:
        kinds = ", ".join(f"{c.folder}: {c.score}" for c in curves)
        raise ComarlError(f"these runs are scored differently, plot them apart ({kinds})")
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(curves))]
    for line in zip(curves, colours, _labels(curves), strict=True):
        _draw_curve(axes, *line)
    _draw_fixed(axes, curves, colours)
    _label_axes(axes, curves)
    axes.set_title(_caption(curves), loc="left", fontsize=8, color="0.35")
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9)
    return figure


def _draw_curve(axes: Any, curve: Curve, colour: str, label: str) -> None:
    """A line with its band, and each seed's own line where they are few."""
    middle, low, high, words = summarise(curve.scores)
    axes.plot(curve.steps, middle, color=colour, linewidth=2, label=f"{label}: {words}")
    if len(curve.scores) > 1:
        axes.fill_between(curve.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    if _few(curve):
        axes.plot(curve.steps, curve.scores.T, color=colour, linewidth=0.7, alpha=0.5)


def _few(curve: Curve) -> bool:
    return 1 < len(curve.scores) < SEEDS_FOR_IQM


def _caption(curves: list[Curve]) -> str:
    """What the numbers and the bands are."""
    episodes = " or ".join(map(str, sorted({c.config.eval_episodes for c in curves})))
    lines = [f"greedy policy, {episodes} episodes per evaluation"]
    if any(len(c.scores) > 1 for c in curves):
        lines.append(f"bands: {CONFIDENCE:.0%} bootstrap intervals over seeds")
    if any(map(_few, curves)):
        lines[-1] += "; thin lines: single seeds"
    return "\n".join(lines)


def _draw_fixed(axes: Any, curves: list[Curve], colours: list[str]) -> None:
    """The fixed policies of each environment, once; grey where there is one environment."""
    envs: dict[str, tuple[Curve, str]] = {}
    for curve, colour in zip(curves, colours, strict=True):
        if curve.fixed:
            envs.setdefault(curve.config.env, (curve, colour))
    for env, (curve, colour) in envs.items():
        for policy, score in curve.fixed.items():
            style = DASHES.get(policy, "--")
            label, shade = (policy, "0.35") if len(envs) == 1 else (f"{policy}, {env}", colour)
            axes.axhline(score, color=shade, linestyle=style, linewidth=1.3, label=label)


def _labels(curves: list[Curve]) -> list[str]:
    """Method and environment of each run, and its folder where these do not tell runs apart."""
    plain = [f"{c.config.method}, {c.config.env}" for c in curves]
    return [f"{p} ({c.folder})" if plain.count(p) > 1 else p for p, c in zip(plain, curves, strict=True)]


def _label_axes(axes: Any, curves: list[Curve]) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    most = max(c.steps[-1] for c in curves)
    _, size, name = next(scale for scale in SCALES if most >= scale[0])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / size:g}"))
    axes.set_xlabel(f"environment steps per seed{name}")
    axes.set_xlim(0, most)
    axes.set_ylabel(curves[0].score.replace(" (", "\n("))
    if curves[0].score == "win rate":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(-0.02, 1.02)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
