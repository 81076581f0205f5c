"""``comarl surface``, ``regret`` and ``attention``: what they write, and their mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest

from comarl.report import regret, surface
from tests.cli.conftest import TINY, RunCli, Trained, error_line
from tests.cli.test_docs import check


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (regret, surface):
        monkeypatch.setattr(module, "STEPS", 5)
        monkeypatch.setattr(module, "RESTARTS", 1)


def test_surface(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "surface.png"
    status, said, err = run_cli("surface", "--game", "qplex-1", "--methods", "vdn", "--out", out, "--json")
    assert status == 0
    result = json.loads(said)
    check("surface", result)
    assert result["file"] == str(out)
    assert out.stat().st_size > 10_000
    assert "mean squared error" in err


def test_regret(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "regret.png"
    status, said, err = run_cli("regret", "--methods", "vdn", "--games", 3, "--out", out, "--json")
    assert status == 0
    result = json.loads(said)
    check("regret", result)
    assert out.exists()
    assert "3 games of 2 agents with 3 actions" in err


def test_regret_draws_nothing_unless_asked(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(run_cli("regret", "--methods", "vdn", "--games", 3, "--json")[1])["file"] is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "attending", "heads"),
    [
        ("qatten", 1, 4),
        pytest.param("qplex", 1, 1, marks=pytest.mark.paper),
        pytest.param("maac", 2, 2, marks=pytest.mark.paper),
    ],
)
def test_attention(run_cli: RunCli, tmp_path: Path, method: str, attending: int, heads: int) -> None:
    folder = tmp_path / method
    words = ("train", method, "--env", "tests.probes:Delayed", "--seeds", 2, "--seed", 5, "--run", folder, *TINY)
    assert run_cli(*words, "--critic-heads", 2, "--critic-hidden", 4)[0] == 0
    status, said, err = run_cli("attention", folder, "--seed", 6, "--episode", 1, "--json")
    assert status == 0, err
    result = json.loads(said)
    check("attention", result | {"outcome": None, "action_names": []})
    assert (result["seed"], result["episode"], result["length"], result["return"]) == (6, 1, 2, 1)
    assert result["rewards"] == [0, 1]  # of the two steps, each for the action beneath it
    weights = np.array(result["weights"])
    assert weights.shape == (2, attending, heads, 2)
    assert (weights >= 0).all()
    if method != "qplex":
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    if method == "maac":  # nobody attends to itself, and there is one other
        np.testing.assert_array_equal(weights, np.broadcast_to(1 - np.eye(2)[:, None], weights.shape))
    assert np.shape(result["actions"]) == np.shape(result["forced"]) == (2, 2)
    assert (folder / "attention.png").exists()
    assert error_line(run_cli("attention", folder, "--seed", 9)) == f"{folder} has the seeds 5, 6, not 9"
    assert error_line(run_cli("attention", folder, "--episode", -1)).startswith("episode=-1: they are counted from 0")


def test_attention_of_a_method_without_weights(run_cli: RunCli, trained: Trained) -> None:
    line = error_line(run_cli("attention", trained.folder))
    assert line == "'qmix' gives the agents no weights that could be drawn: train one of qplex, qatten, maac"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["surface", "--game", "qtram"], "unknown matrix game 'qtram': did you mean 'qtran'?"),
        (["surface", "--game", "two-step"], "unknown matrix game 'two-step' (one of qtran, qplex-1, "),
        (["surface", "--out", "surface"], "cannot write surface: use a name that ends with .png, .pdf or .svg"),
        (["surface", "--out", "/dev/null/x.png"], "cannot write /dev/null/x.png: /dev/null: "),
        (["regret", "--out", "regret.jpg"], "cannot write regret.jpg: use a name"),
        (["surface", "--methods", "iql"], "'iql' makes no Q_tot"),
        (["regret", "--methods", "qmx"], "unknown method 'qmx': did you mean 'qmix'?"),
        (["regret", "--actions", "40"], "40 actions of 2 agents are 1600 joint actions"),
        (["regret", "--payoffs", "gamma"], "--payoffs: 'gamma' is none of"),
        (["attention"], "comarl attention: which RUN?"),
        (["regret", "--games", "0"], "games=0: must be positive"),
        (["attention", "no/such"], "no config.json in no/such"),
    ],
)
def test_mistake_is_one_line(run_cli: RunCli, words: list[str], line: str) -> None:
    assert error_line(run_cli(*words)).startswith(line)
