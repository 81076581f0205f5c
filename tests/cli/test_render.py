"""``comarl render`` on environments and runs."""

import sys
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from tests.cli.conftest import TINY, RunCli, Trained, error_line


def test_an_environment(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run_cli("render", "switch/2", "--policy", "optimal")
    assert (status, out) == (0, "wrote switch-2.gif: optimal, 12 steps, team return 8.3\n")
    with Image.open("switch-2.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 13


def test_one_step(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    words = ("render", "switch/2", "--policy", "optimal", "--out", out, "--step")
    assert run_cli(*words, 3)[0] == 0
    assert out.exists()
    assert error_line(run_cli(*words, 13)) == "step=13: the episode has the steps 0 to 12"


def test_a_run_whose_policy_is_central(run_cli: RunCli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run_cli("train", "joint", "--env", "switch/2", "--run", folder, *TINY)[0] == 0
    status, out, _ = run_cli("render", folder, "--out", tmp_path / "x.png")
    assert status == 0
    assert out.startswith(f"wrote {tmp_path / 'x.png'}: joint, seed 0, ")


def test_a_seed_that_the_run_does_not_have(run_cli: RunCli, trained: Trained) -> None:
    assert error_line(run_cli("render", trained.folder, "--seed", 7)) == f"{trained.folder} has the seeds 5, 6, not 7"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "comarl render: which ENV or RUN?"),
        (("switch/3",), "unknown environment 'switch/3': did you mean 'switch/"),
        (("switch/2", "--out", "x.jpg"), "cannot write x.jpg: use a name that ends with .gif"),
        (("switch/2", "--seed", 1), "--seed is of a run's learners"),
        (("switch/2", "--episode", -1), "episode=-1: they are counted from 0"),
        (("switch/2", "--episode", 10**11), "episode=100000000000: they are counted from 0, and there are 2147483648"),
        (("switch/2", "--policy", "best"), "policy 'best': switch/2 has random, optimal"),
        (("two-step",), "two-step has no pictures"),
        (("switch/2", "--policy", "optimal", "--out", "/dev/null/x.gif"), "cannot write /dev/null/x.gif: "),
    ],
)
def test_mistakes(run_cli: RunCli, words: tuple[object, ...], what: str) -> None:
    assert error_line(run_cli("render", *words)).startswith(what)


def test_a_folder_without_a_run(run_cli: RunCli, tmp_path: Path) -> None:
    assert error_line(run_cli("render", tmp_path)).startswith(f"no config.json in {tmp_path}")


def test_an_environment_without_pictures_of_a_run(run_cli: RunCli, trained: Trained) -> None:
    assert "has no pictures" in error_line(run_cli("render", trained.folder))


def test_pixels_of_an_environment_that_python_steps(run_cli: RunCli, tmp_path: Path) -> None:
    """Another picture of each of mpe2's moments, in its own colours."""
    out = tmp_path / "x.gif"
    status, said, _ = run_cli("render", "mpe2/simple_spread_v3", "--out", out)
    assert status == 0
    assert said.startswith(f"wrote {out}: random, 25 steps, team return -")
    with Image.open(out) as gif:
        assert getattr(gif, "n_frames", 1) == 26
        shown = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(gif)]
    assert len(set(shown)) == 26


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tests.envs.python_envs:Diary", "diary has no pictures: its environment draws no 'rgb_array'"),
        (
            "tests.envs.python_envs:Unseen",
            "environment 'tests.envs.python_envs:Unseen' cannot be drawn: OSError",
        ),
    ],
)
def test_an_environment_that_python_steps_and_nobody_sees(run_cli: RunCli, name: str, what: str) -> None:
    assert error_line(run_cli("render", name)).startswith(what)


def test_without_matplotlib(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = error_line(run_cli("render", "switch/2", "--policy", "optimal", "--out", "/tmp/never.gif"))
    assert line.endswith("pip install 'comarl[plot]'")
