"""What is read off cross-play: means, tables and pictures of results made by hand."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from comarl.report.crossplay import figure_of, print_cross_play, with_means

HUNTERS = [[1.0, 2, 3], [4, 5, 6], [7, 8, 10]]
PREY = [[-10.0, -20, -30], [-40, -50, -60], [-70, -80, -100]]
"""Of two seeds of one run and one of another."""


def result(**changes: Any) -> dict[str, Any]:
    """Three teams, rows hunt and columns are hunted."""
    made = {
        "env": "somewhere",
        "score": "return (mean over a side's agents, summed over the episode)",
        "episodes": 7,
        "sampled": False,
        "rows": "hunters",
        "columns": "prey",
        "teams": [{"run": f"runs/{run}", "method": "maddpg", "seed": s} for run, s in (("a", 0), ("a", 1), ("b", 0))],
        "sides": [
            {"name": "hunters", "agents": [1, 2], "scores": HUNTERS},
            {"name": "prey", "agents": [3], "scores": PREY},
        ],
    }
    return with_means(made | changes)


def common() -> dict[str, Any]:
    """The same teams, all agents on one side."""
    return result(
        rows="one agent", columns="the others", sides=[{"name": "the team", "agents": [1, 2], "scores": HUNTERS}]
    )


def means_of(made: dict[str, Any], run: str, side: str) -> dict[str, Any]:
    (row,) = [row for row in made["means"] if (row["run"], row["side"]) == (run, side)]
    return row


def test_hunters_are_scored_along_rows_and_prey_along_columns() -> None:
    hunters, prey = (means_of(result(), "runs/a", side) for side in ("hunters", "prey"))
    assert hunters["together"]["per_seed"] == [1, 5]
    assert hunters["apart"]["per_seed"] == [(2 + 3) / 2, (4 + 6) / 2]
    assert prey["together"]["per_seed"] == [-10, -50]
    assert prey["apart"]["per_seed"] == [-(40 + 70) / 2, -(20 + 80) / 2]
    assert hunters["apart"]["middle"] == (2.5 + 5) / 2
    assert hunters["apart"]["interval"] == [2.5, 5]  # of two seeds, a quarter of the resamples have one of them alone


def test_one_seed_has_no_interval() -> None:
    assert means_of(result(), "runs/b", "hunters")["apart"] == {"middle": 7.5, "interval": None, "per_seed": [7.5]}


def test_in_a_common_team_an_agent_is_scored_with_others_on_either_part() -> None:
    assert means_of(common(), "runs/a", "the team")["apart"]["per_seed"] == [(2 + 3 + 4 + 7) / 4, (4 + 6 + 2 + 8) / 4]


def test_means_by_run_leave_out_teams_with_themselves() -> None:
    found = {(pair["rows"][-1], pair["columns"][-1]): pair["scores"] for pair in result()["by_run"]}
    assert found == {("a", "a"): [3, -30], ("a", "b"): [4.5, -45], ("b", "a"): [7.5, -75], ("b", "b"): None}


def printed(made: dict[str, Any], width: int = 120) -> str:
    out = io.StringIO()
    print_cross_play(made, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_tables() -> None:
    lines = [" ".join(line.split()) for line in printed(result()).splitlines()]
    assert lines[0] == f"somewhere: {result()['score']}, 7 episodes, greedy"
    assert {"2 a, seed 1 4.00 5.00 6.00", "2 a, seed 1 -40.00 -50.00 -60.00"} <= set(lines)
    assert "return of prey: hunters of the row's team with prey of the column's" in lines
    assert "runs/a hunters 3.00 [1.00, 5.00] 3.75 [2.50, 5.00]" in lines
    assert "runs/b prey -100.00 -45.00" in lines
    assert "runs/b 7.50 / -75.00 –" in lines
    assert "sampling actions" in printed(result(sampled=True))


def test_pairs_that_no_line_has_room_for_are_left_to_the_picture() -> None:
    widest = max(len(line.rstrip()) for line in printed(result()).splitlines() if "a, seed 1" in line)
    assert "-60.00" in printed(result(), widest + 2)
    many = result(
        teams=[{"run": "runs/a", "method": "maddpg", "seed": seed} for seed in range(20)],
        sides=[{"name": "hunters", "agents": [1, 2], "scores": [[10.5] * 20] * 20}],
    )
    said = printed(many)
    assert "…" not in said
    assert "20 teams are too many for a table of this width" in said
    assert "10.50 [10.50, 10.50]" in said  # the means are still there


def test_one_run_is_not_compared_with_itself() -> None:
    alone = result(teams=[{"run": "runs/a", "method": "maddpg", "seed": seed} for seed in range(3)])
    assert "teams that were not trained together" in printed(result())
    assert "teams that were not trained together" not in printed(alone)


@pytest.mark.parametrize("made", [result, common])
def test_picture_has_a_matrix_for_each_side(made: Any) -> None:
    shown = made()
    figure = figure_of(shown)
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == [f"return of {side['name']}" for side in shown["sides"]]
    for axes, side in zip(panels, shown["sides"], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), side["scores"])
        written = {text.get_position(): text.get_text() for text in axes.texts}
        assert written[2, 0] == f"{side['scores'][0][2]:.2f}"  # third column, first row
        assert [frame.get_xy() for frame in axes.patches] == [(i - 0.45, i - 0.45) for i in range(3)]
        assert axes.get_xlabel() == f"{shown['columns']} from team"
    assert panels[0].get_ylabel() == f"{shown['rows']} from team"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        "1  a, seed 0",
        "2  a, seed 1",
        "3  b, seed 0",
    ]


def test_folders_of_the_same_name_are_told_apart_by_their_paths() -> None:
    teams = [{"run": run, "method": "maddpg", "seed": 0} for run in ("x/a", "y/a", "z/b")]
    assert "1 x/a, seed 0" in " ".join(printed(result(teams=teams)).split())
