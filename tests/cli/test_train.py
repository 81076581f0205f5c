"""``comarl train`` and ``comarl demo``: defaults, results, and every mistake in one line."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comarl.cli import train as train_cli
from comarl.experiments.config import RunConfig
from comarl.experiments.presets import PRESETS, Preset
from tests.cli.conftest import TINY, RunCli, Trained, error_line


def test_result_is_printed_as_json(trained: Trained) -> None:
    # Every episode of the environment returns 1.
    result = trained.result
    assert result["seeds"] == [5, 6]
    assert result["return"] == {"mean": 1.0, "per_seed": [1.0, 1.0]}
    assert result["random"] == 1.0
    assert result["outcomes"] == {"steps": {"per_seed": [2.0, 2.0], "random": 2.0}}
    assert result["env_steps"] == 32


def test_summary_is_what_is_printed(trained: Trained) -> None:
    summary = json.loads((trained.folder / "summary.json").read_text())
    assert summary == {k: v for k, v in trained.result.items() if k not in ("run", "files")}


def test_every_file_is_named(trained: Trained) -> None:
    named = {Path(name) for name in trained.result["files"]}
    assert named == set(trained.folder.iterdir())
    assert {path.name for path in named} == {
        "config.json",
        "provenance.json",
        "metrics.jsonl",
        "summary.json",
        "learning_curve.png",
        "seed_5",
        "seed_6",
        "checkpoints",
    }
    assert all(f"\n  {name}\n" in trained.stderr for name in trained.result["files"])


def test_progress_is_told_on_standard_error(trained: Trained) -> None:
    news = re.findall(r"^seed (\d): (\d+) of 32 steps, ε \d\.\d\d, loss [\d.e-]+, return 1\.00, ", trained.stderr, re.M)
    assert sorted(news) == [("5", "16"), ("5", "32"), ("6", "16"), ("6", "32")]
    assert re.search(r"^compiled in [\d.]+ s; training starts$", trained.stderr, re.MULTILINE)
    assert re.search(r"^compiled in [\d.]+ s, trained 2 × 32 environment steps in ", trained.stderr, re.MULTILINE)


def test_occupied_folder_is_kept(run_cli: RunCli, trained: Trained) -> None:
    before = {path: path.read_bytes() for path in trained.folder.rglob("*") if path.is_file()}
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--seeds", 2, "--seed", 5, "--run", trained.folder]
    line = error_line(run_cli(*words, *TINY, "--lr", "0.125", "--hidden", "8"))
    assert line == (
        f"{trained.folder} holds another configuration (hidden 4 there and 8 here, lr 0.0005 there and 0.125 here): "
        "choose another folder with --run, or --overwrite to replace it"
    )
    assert "holds this very run" in error_line(run_cli(*words, *TINY))
    assert {path: path.read_bytes() for path in trained.folder.rglob("*") if path.is_file()} == before


def test_overwrite_leaves_nothing_of_the_old_run(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    old = ["metrics.jsonl", "summary.json", "learning_curve.png"]
    for name in old:
        (folder / name).write_text("old")
    (folder / "config.json").write_text(json.dumps({"agent": {}, "mixer": {}, "learner": {}}))
    for name in ("seed_9", "checkpoints"):
        (folder / name).mkdir()
    (folder / "mine.txt").write_text("kept")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("comarl.experiments.runner.Seeds", stop)
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--run", folder, "--overwrite", *TINY]
    assert run_cli(*words)[0] == 130
    assert {path.name for path in folder.iterdir()} == {"config.json", "provenance.json", "metrics.jsonl", "mine.txt"}
    assert (folder / "metrics.jsonl").read_text() == ""
    assert json.loads((folder / "config.json").read_text())["agent"]["hidden"] == 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["qmx"], "unknown method 'qmx': did you mean 'qmix'?"),
        (["qmix", "--env", "smax/3n"], "unknown environment 'smax/3n': did you mean 'smax/3m'?"),
        (["qmix", "--sedes", "3"], "comarl train: unknown option '--sedes': did you mean '--seeds'?"),
        (["qmix", "--lr", "fast"], "--lr: 'fast' is not a number"),
        (["qmix", "--lr", "-1"], "lr=-1.0: must be positive"),
        (["qmix", "--gamma", "1.5"], "gamma=1.5: must lie between 0 and 1"),
        (["qmix", "--cell", "grru"], "--cell: 'grru' is none of 'gru', 'lstm', 'mingru', 'mlp'"),
        (["qmix", "--steps", "100"], "learning_starts=5000 is not below steps=100"),
        (["qmix", "--team-reward", "individual"], "'qmix' learns one value for the team"),
        (
            ["qmix", "--env", "tests.probes:Aim"],
            "'qmix' chooses among actions, and in probe/aim they are continuous: use",
        ),
        (["joint", "--env", "tests.probes:Aim"], "'joint' chooses among actions, and in probe/aim they are"),
        (
            ["coma", "--env", "mpe-continuous/simple_spread"],
            "'coma' chooses among actions, and in mpe-continuous/simple_s",
        ),
        (
            ["qmix", "--env", "mpe/simple_tag"],
            "'qmix' learns one value for the team, and in mpe/simple_tag agents oppose",
        ),
        (["mappo", "--env", "mpe/simple_push"], "--team-reward mean makes one reward for all, and in mpe/simple_push"),
        (["qmix", "vdn"], "comarl train: 'vdn' is one argument too many"),
        ([], "comarl train: which METHOD?"),
    ],
)
def test_mistake_is_one_line(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("comarl.experiments.presets.PRESETS", {})
    assert error_line(run_cli("train", *words)).startswith(line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("env", "what"), [("WrongShape", "obs"), ("WrongType", "obs"), ("Missing", "Missing")])
def test_environment_that_cannot_work_is_one_line(run_cli: RunCli, tmp_path: Path, env: str, what: str) -> None:
    folder = tmp_path / "run"
    words = ["train", "qmix", "--env", f"tests.cli.faulty:{env}", "--run", folder, *TINY]
    assert what in error_line(run_cli(*words))
    assert not folder.exists()


def test_unwritable_folder_is_one_line(run_cli: RunCli) -> None:
    line = error_line(run_cli("train", "qmix", "--env", "tests.probes:Delayed", "--run", "/dev/null/run", *TINY))
    assert line == "cannot write the run folder /dev/null/run: Not a directory (choose another with --run)"


def test_missing_tensorboard_names_the_extra(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--run", tmp_path / "run", "--tensorboard", *TINY]
    assert error_line(run_cli(*words)).endswith("pip install 'comarl[tensorboard]'")
    assert not (tmp_path / "run").exists()


def test_missing_jaxmarl_names_the_extra(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "jaxmarl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "comarl.envs.adapters.jaxmarl", raising=False)
    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    line = error_line(run_cli("train", "qmix", "--env", "smax/3m", "--run", tmp_path / "run"))
    assert line.endswith("pip install 'comarl[jaxmarl]'")
    assert not (tmp_path / "run").exists()


def test_missing_matplotlib_costs_the_picture_alone(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    (folder / "learning_curve.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = train_cli._draw(folder)
    assert said.startswith("no learning_curve.png: ")
    assert said.endswith("pip install 'comarl[plot]'")
    monkeypatch.undo()
    assert train_cli._draw(folder) == ""
    assert (folder / "learning_curve.png").exists()


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics that were written."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_loss_that_is_no_number_stops_the_run_and_keeps_what_was_written(run_cli: RunCli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--run", folder, *TINY, "--lr", "1e30", "--seeds", 1]
    line = error_line(run_cli(*words))
    assert line.startswith("the loss is not a finite number any more (seed 0, before environment step ")
    assert {row["kind"] for row in rows(folder)} == {"train", "episodes", "evaluation"}
    assert rows(folder)[0]["loss"] is None or np.isfinite(rows(folder)[0]["loss"])
    assert (folder / "config.json").exists()
    assert not (folder / "summary.json").exists()


def test_interrupt_stops_the_run_and_saves_it(tmp_path: Path) -> None:
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--run", tmp_path, *TINY, "--steps", "100000000"]
    # A job in the background of a script inherits an ignored SIGINT, and Python then leaves it ignored.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); \
from comarl.cli import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("seed 0: 48 of "):
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    steps = [row["env_steps"] for row in rows(tmp_path) if row["kind"] == "evaluation"]
    assert said.endswith(
        f"stopped by SIGINT and saved at environment step {steps[-1]}: 'comarl resume {tmp_path}' goes on\n"
    )
    assert "Traceback" not in said
    assert steps[:3] == [16, 32, 48]
    assert (tmp_path / "checkpoints" / "seed_0" / str(steps[-1])).is_dir()


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ("NanReward", "gave a reward that is not a finite number"),
        ("NoAction", "left an agent without an available action"),
    ],
)
def test_fault_of_an_environment_stops_the_run_and_keeps_what_was_written(
    run_cli: RunCli, tmp_path: Path, env: str, line: str
) -> None:
    folder = tmp_path / "run"
    name = f"tests.cli.faulty:{env}"
    assert error_line(run_cli("train", "qmix", "--env", name, "--run", folder, *TINY)) == (
        f"{name} {line} (seed 0, before environment step 8): run 'comarl check-env {name}'; once the environment is "
        "mended, 'comarl resume' goes on; there is no checkpoint before it"
    )
    assert [row["kind"] for row in rows(folder)] == ["train", "episodes", "evaluation"]
    assert not (folder / "summary.json").exists()


def test_outcome_that_is_no_number_ends_the_run_with_one_line(run_cli: RunCli, tmp_path: Path) -> None:
    name = "tests.cli.faulty:NanOutcome"
    line = error_line(run_cli("train", "qmix", "--env", name, "--run", tmp_path / "run", *TINY))
    assert line == (
        f"{name} gave an outcome 'speed' that is not a finite number (in an evaluation): run 'comarl check-env {name}'"
    )
    assert not (tmp_path / "run" / "summary.json").exists()


PRESET = Preset({"lr": 0.25, "hidden": 8, "last_action": False}, source="Nobody 1999", measured="win rate 12%")


@pytest.fixture(name="preset")
def _preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, ("vdn", "two-step", "replay"), PRESET)


@pytest.mark.usefixtures("preset")
@pytest.mark.parametrize("words", [["vdn", "--env", "two-step"], ["--env=two-step", "--seeds", "3", "vdn"]])
def test_help_shows_the_presets_defaults(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train_cli.train([*words, "--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Learning rate. (default: 0.25)" in text
    assert "Width of encoder and memory. (default: 8)" in text
    assert "(default: two-step)" in text
    assert "Nobody 1999" in text
    assert "win rate 12%" in text


def test_help_needs_no_names(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["qmx", "--help"], ["--sedes", "--help"]):
        with pytest.raises(SystemExit) as stop:
            train_cli.train(words)
        assert not stop.value.code
        assert "METHOD" in capsys.readouterr().out


def configured(monkeypatch: pytest.MonkeyPatch, command: Any, words: list[str]) -> RunConfig:
    """The configuration with which a command would run."""
    seen: list[RunConfig] = []
    monkeypatch.setattr(train_cli, "_run", lambda config, as_json: seen.append(config) or 0)
    assert command(words) == 0
    assert type(seen[0]) is RunConfig
    return seen[0]


@pytest.mark.usefixtures("preset")
def test_settings_go_over_the_preset_and_the_preset_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch, train_cli.train, ["vdn", "--env", "two-step", "--lr", "0.5", "--seeds", "3"])
    assert (config.method, config.env, config.seeds) == ("vdn", "two-step", 3)
    assert config.learner.lr == 0.5
    assert (config.agent.hidden, config.agent.last_action) == (8, False)
    assert config.learner.gamma == RunConfig().learner.gamma


def test_demo_is_the_preset_with_three_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch, train_cli.demo, [])
    words = ["qmix", "--env", "smax/3m", "--seeds", "3", "--run", "runs/demo", "--overwrite"]
    assert config == configured(monkeypatch, train_cli.train, words)
    assert config.folder == Path("runs/demo")


def test_a_policy_is_trained_and_its_sampled_score_stands_beside_the_greedy_one(
    run_cli: RunCli, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["--env", "tests.probes:Delayed", "--run", folder, "--json", *TINY, "--minibatches", 1]
    status, out, err = run_cli("train", "ippo", *words)
    assert status == 0, err
    result = json.loads(out)
    assert result["learner"] == "ppo"
    assert result["sampled"] == {"mean": 1.0, "per_seed": [1.0]}  # every episode returns 1
    assert re.search(r"^seed 0: 32 of 32 steps, ε –, loss ", err, re.M)
    evaluated = json.loads(run_cli("evaluate", folder, "--episodes", 2, "--json")[1])
    assert evaluated["sampled"] == result["sampled"]


def test_a_learner_that_makes_no_sense_is_refused_at_once(run_cli: RunCli) -> None:
    result = run_cli("train", "mappo", "--learner", "replay")
    assert result[0] == 2
    assert "'mappo' does not learn with replay" in error_line(result)
    assert "use --learner ppo" in error_line(result)


def test_the_usual_learners_settings_are_the_defaults(run_cli: RunCli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_cli("train", "mappo", "--env", "two-step", "--help")
    shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    assert "There is no preset for mappo on two-step" in shown
    assert re.search(r"--epochs INT [^-]*\(default: 4\)", shown)
