"""``comarl cross-play``: what it writes, and mistakes."""

import json
import shutil
from pathlib import Path

from tests.cli.conftest import RunCli, Trained, error_line
from tests.cli.test_docs import check


def test_cross_play_of_a_runs_seeds(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    """The environment pays 1 whatever is done."""
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    status, out, err = run_cli("cross-play", folder, "--episodes", 3, "--json")
    assert status == 0, err
    result = json.loads(out)
    check("cross-play", result)
    assert result["sides"] == [{"name": "the team", "agents": [1, 2], "scores": [[1, 1], [1, 1]]}]
    assert [team["seed"] for team in result["teams"]] == [5, 6]
    assert result["file"] == str(folder / "cross_play.png")
    assert (folder / "cross_play.png").stat().st_size > 10_000
    assert "with those trained with" in err


def test_mistakes_are_one_line(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    assert error_line(run_cli("cross-play")).startswith("comarl cross-play: which RUN?")
    assert "no config.json" in error_line(run_cli("cross-play", tmp_path))
    assert "is named twice" in error_line(run_cli("cross-play", trained.folder, trained.folder))
    assert error_line(run_cli("cross-play", trained.folder, "--out", "x.jpg")).startswith(
        "cannot write x.jpg: use a name"
    )
    assert error_line(run_cli("cross-play", trained.folder, "--episodes", 0)) == "episodes=0: must be positive"


def test_a_run_with_a_seed_missing(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    shutil.rmtree(folder / "seed_6")
    line = error_line(run_cli("cross-play", folder))
    assert line == f"no saved state in {folder / 'seed_6'}: the training may not have reached its end"
