"""What cross-play came to: means, tables and a picture. Nothing is imported here that imports JAX."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from comarl.experiments.scores import short, show_score
from comarl.report.curves import summarise
from comarl.report.figures import COLOURS, new_figure, save_figure


def with_means(result: dict[str, Any]) -> dict[str, Any]:
    """What :func:`comarl.experiments.crossplay.cross_play` returned, with means of it.

    Returns:
        It, with ``means``: of each run and each side that its agents play, the scores with those that they were
        trained with (``together``) and with all others (``apart``); and ``by_run``: for each run in the rows and each
        in the columns the mean scores of the sides over the pairs of teams that were not trained together, null where
        there is none.
    """
    runs = list(dict.fromkeys(team["run"] for team in result["teams"]))
    of = {run: np.array([team["run"] == run for team in result["teams"]]) for run in runs}
    means = [
        {"run": run, "side": side["name"], **_meetings(result, side["name"], of[run])}
        for run, side in itertools.product(runs, result["sides"])
    ]
    by_run = [
        {"rows": row, "columns": column, "scores": _apart(result, np.outer(of[row], of[column]))}
        for row, column in itertools.product(runs, runs)
    ]
    return result | {"means": means, "by_run": by_run}


def _scores(side: dict[str, Any]) -> Float[np.ndarray, "teams teams"]:
    return np.array(side["scores"], np.float64)


def _meetings(result: dict[str, Any], side: str, teams: Bool[np.ndarray, " teams"]) -> dict[str, Any]:
    """The scores of some teams' agents on a side, by whom they play with. Who plays both parts is scored in both."""
    names = [known["name"] for known in result["sides"]]
    scores = _scores(result["sides"][names.index(side)])
    both = len(names) == 1
    met = [x for x, plays in ((scores, both or side == names[0]), (scores.T, both or side == names[1])) if plays]
    apart = ~np.eye(len(scores), dtype=bool)
    others = [float(np.mean([x[i][apart[i]] for x in met])) for i in np.flatnonzero(teams)]
    return {"together": _over_seeds(np.diag(scores)[teams].tolist()), "apart": _over_seeds(others)}


def _over_seeds(per_seed: list[float]) -> dict[str, Any]:
    """The middle and its interval, as of learning curves; one seed has no interval."""
    middle, low, high, _ = summarise(np.array(per_seed)[:, None])
    interval = [round(float(low[0]), 4), round(float(high[0]), 4)] if len(per_seed) > 1 else None
    return {"middle": round(float(middle[0]), 4), "interval": interval, "per_seed": [round(x, 4) for x in per_seed]}


def _apart(result: dict[str, Any], pairs: Bool[np.ndarray, "teams teams"]) -> list[float] | None:
    """Each side's mean over these pairs without those of a team with itself."""
    apart = pairs & ~np.eye(len(pairs), dtype=bool)
    return [round(float(_scores(side)[apart].mean()), 4) for side in result["sides"]] if apart.any() else None


def headline(result: dict[str, Any]) -> str:
    """What was played, and what a score is."""
    how = "sampling actions" if result["sampled"] else "greedy"
    return f"{result['env']}: {result['score']}, {result['episodes']} episodes, {how}"


def print_cross_play(result: dict[str, Any], console: Console) -> None:
    """Each side's score with every pair of teams, then means by run, of what :func:`with_means` returned."""
    score, rows, columns = short(result["score"]), result["rows"], result["columns"]
    console.print(headline(result), style="italic")
    pairs = {side["name"]: _pairs(result, side) for side in result["sides"]}
    if all(_fits(table, console) for table in pairs.values()):
        for name, table in pairs.items():
            console.print(f"{score} of {name}: {rows} of the row's team with {columns} of the column's")
            console.print(table)
    else:
        console.print(
            f"{len(result['teams'])} teams are too many for a table of this width: the picture shows each pair, and "
            "--json has its numbers"
        )
    console.print(_by_side(result))
    if len(result["by_run"]) > 1:
        sides = " / ".join(side["name"] for side in result["sides"])
        console.print(f"{score} of {sides}, teams that were not trained together: {rows} of the row's run")
        console.print(_by_run(result))


def _fits(table: Table, console: Console) -> bool:
    """Whether it can be printed without cutting words short."""
    unbounded = console.options.update(max_width=10_000)
    return Measurement.get(console, unbounded, table).maximum <= console.width


def _shown(result: dict[str, Any], values: list[float] | None) -> str:
    return " / ".join(show_score(result["score"], x) for x in values) if values else "–"


def _pairs(result: dict[str, Any], side: dict[str, Any]) -> Table:
    table = Table("team", box=SIMPLE_HEAD)
    for column in range(len(result["teams"])):
        table.add_column(str(column + 1), justify="right")
    for label, row in zip(_team_labels(result), _scores(side).tolist(), strict=True):
        table.add_row(label, *(show_score(result["score"], x) for x in row))
    return table


def _by_side(result: dict[str, Any]) -> Table:
    table = Table("run", "plays", box=SIMPLE_HEAD)
    table.add_column("with those trained with", justify="right")
    table.add_column("with all others", justify="right")
    for row in result["means"]:
        table.add_row(row["run"], row["side"], *(show_middle(result, row[kind]) for kind in ("together", "apart")))
    return table


def show_middle(result: dict[str, Any], middle: dict[str, Any]) -> str:
    """The middle over seeds with its interval, as people read it."""
    ends = [show_score(result["score"], x) for x in middle["interval"] or ()]
    return show_score(result["score"], middle["middle"]) + (f" [{', '.join(ends)}]" if ends else "")


def _by_run(result: dict[str, Any]) -> Table:
    runs = list(dict.fromkeys(pair["rows"] for pair in result["by_run"]))
    table = Table("run", box=SIMPLE_HEAD)
    for run in runs:
        table.add_column(run, justify="right")
    for run in runs:
        table.add_row(run, *(_shown(result, pair["scores"]) for pair in result["by_run"] if pair["rows"] == run))
    return table


def _team_labels(result: dict[str, Any]) -> list[str]:
    """Number, run and seed; of runs the folder's name where it tells them apart."""
    runs = {team["run"] for team in result["teams"]}
    names = {run: Path(run).name for run in runs}
    if len(set(names.values())) < len(runs):
        names = {run: run for run in runs}
    return [f"{i}  {names[team['run']]}, seed {team['seed']}" for i, team in enumerate(result["teams"], start=1)]


CELL, LEAST = 0.62, 2.4
"""Inches: of a cell, and of a small matrix."""
FRAME = COLOURS[1]
MOST_LABELS = 14
"""Teams up to which each score is written into its cell."""


def draw_cross_play(result: dict[str, Any], out: Path) -> None:
    """Draw what :func:`with_means` returned.

    Raises:
        ComarlError: if matplotlib is missing or the file cannot be written.
    """
    save_figure(figure_of(result), out)


def figure_of(result: dict[str, Any]) -> Any:
    """The matplotlib figure: a matrix for each side, with teams that were trained together on its diagonal."""
    teams, sides = len(result["teams"]), result["sides"]
    size = max(LEAST, CELL * min(teams, MOST_LABELS))
    figure = new_figure(2.2 + len(sides) * (size + 1.1), size + 1.3)
    panels = figure.subplots(1, len(sides), squeeze=False)[0]
    for side, axes in zip(sides, panels, strict=True):
        image = _draw_matrix(axes, _scores(side), result)
        axes.set_title(f"{short(result['score'])} of {side['name']}", fontsize=9)
        axes.set_xlabel(f"{result['columns']} from team", fontsize=9)
        axes.set_xticks(range(teams), range(1, teams + 1), fontsize=8)
        figure.colorbar(image, ax=axes, fraction=0.05).ax.tick_params(labelsize=7)
    for axes in panels[1:]:
        axes.set_yticks([])
    panels[0].set_yticks(range(teams), _team_labels(result), fontsize=8)
    panels[0].set_ylabel(f"{result['rows']} from team", fontsize=9)
    figure.suptitle(f"{headline(result)}\nframed: trained together", fontsize=9)
    return figure


def _draw_matrix(axes: Any, scores: Float[np.ndarray, "teams teams"], result: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    image = axes.imshow(scores, cmap="viridis")
    if len(scores) <= MOST_LABELS:
        middle = (scores.min() + scores.max()) / 2
        for (row, column), score in np.ndenumerate(scores):
            colour = "white" if score < middle else "black"
            shown = show_score(result["score"], score)
            axes.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour)
    for i in range(len(scores)):
        axes.add_patch(Rectangle((i - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=FRAME, linewidth=1.5))
    runs = [team["run"] for team in result["teams"]]
    for boundary in (i for i in range(1, len(runs)) if runs[i] != runs[i - 1]):
        axes.axhline(boundary - 0.5, color="white", linewidth=2)
        axes.axvline(boundary - 0.5, color="white", linewidth=2)
    return image
