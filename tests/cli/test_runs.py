"""``comarl evaluate`` and ``comarl plot`` on a finished run."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli, Trained, error_line


def test_evaluate_prints_a_table(run_cli: RunCli, trained: Trained) -> None:
    status, out, _ = run_cli("evaluate", trained.folder, "--episodes", 3)
    assert status == 0
    shown = [" ".join(line.split()) for line in out.splitlines()]
    assert shown[0].endswith("summed over the episode), 3 episodes")
    assert {
        "learned, seed 5 1.00 2.000",
        "learned, seed 6 1.00 2.000",
        "learned, mean 1.00 2.000",
        "random 1.00 2.000",
    } <= set(shown)


def test_evaluate_prints_json_alone(run_cli: RunCli, trained: Trained) -> None:
    status, out, err = run_cli("evaluate", trained.folder, "--episodes", 3, "--json")
    assert status == 0
    result = json.loads(out)
    assert result["episodes"] == 3
    assert result["return"] == {"mean": 1.0, "per_seed": [1.0, 1.0]}
    assert "learned, seed 5" in err


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_no_run_folder(run_cli: RunCli, tmp_path: Path, command: str) -> None:
    line = error_line(run_cli(command, tmp_path))
    assert line == f"no config.json in {tmp_path}: is it a run folder? ('comarl train' writes one)"


@pytest.mark.parametrize("command", ["evaluate", "plot"])
@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"agent": 3, "mixer": {}, "learner": {}}', "is not a run's configuration"),
        ('{"agent": {"hiden": 3}, "mixer": {}, "learner": {}}', "unknown setting 'hiden': did you mean 'hidden'?"),
        ('{"agent": {"hidden": "x"}, "mixer": {}, "learner": {}}', "hidden='x': expected int"),
    ],
)
def test_broken_configuration(run_cli: RunCli, tmp_path: Path, command: str, config: str, what: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert what in error_line(run_cli(command, tmp_path))


def test_unfinished_run_is_not_evaluated(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    shutil.rmtree(folder / "seed_6")
    assert "seed_6" in error_line(run_cli("evaluate", folder))


def test_no_episodes(run_cli: RunCli, trained: Trained) -> None:
    assert error_line(run_cli("evaluate", trained.folder, "--episodes", 0)) == "episodes=0: must be positive"


def test_plot_names_the_picture(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "curve.svg"
    assert run_cli("plot", trained.folder, trained.folder, "--out", out) == (0, f"wrote {out}\n", "")
    assert out.read_text().count(str(trained.folder)) >= 2  # the same method and environment: told apart by folder


def test_plot_of_one_run_goes_into_its_folder(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    (folder / "learning_curve.png").unlink()
    assert run_cli("plot", folder) == (0, f"wrote {folder / 'learning_curve.png'}\n", "")
    assert (folder / "learning_curve.png").exists()


def test_plot_of_several_runs_goes_where_you_are(
    run_cli: RunCli, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli("plot", trained.folder, trained.folder) == (0, "wrote learning_curves.png\n", "")
    assert (tmp_path / "learning_curves.png").exists()


def test_plot_of_nothing(run_cli: RunCli) -> None:
    assert error_line(run_cli("plot")).startswith("comarl plot: which RUN?")


def test_plot_into_nowhere(run_cli: RunCli, trained: Trained) -> None:
    line = error_line(run_cli("plot", trained.folder, "--out", "/dev/null/x.png"))
    assert line.startswith("cannot write /dev/null/x.png: ")


def test_plot_without_matplotlib(run_cli: RunCli, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert error_line(run_cli("plot", trained.folder)).endswith("pip install 'comarl[plot]'")


def test_plot_of_broken_metrics(run_cli: RunCli, trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{]\n")
    line = error_line(run_cli("plot", folder))
    count = len((folder / "metrics.jsonl").read_text().splitlines())
    assert line.startswith(f"{folder / 'metrics.jsonl'}, line {count}: not JSON")
