"""Ray: what is said without it, and (``make test-faults``) a real one that is started, loses workers, and is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from comarl.errors import TIME_IS_UP, ComarlError, Stopped
from comarl.experiments.config import RunConfig
from comarl.experiments.ray_tasks import ray_tasks, train_one
from tests.cli.conftest import SMALLEST
from tests.probes import Delayed

HERE = "tests.experiments.test_ray_tasks"
SETTINGS = [word for name, value in SMALLEST.items() for word in ("--set", f"{name}={value}")]


def dies_once() -> Delayed:
    """An environment that ends its process the first time that anybody makes it."""
    mark = Path(os.environ["COMARL_TEST_MARK"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Delayed()


def waits() -> Delayed:
    """An environment that takes long to be made."""
    Path(os.environ["COMARL_TEST_MARK"]).touch()
    time.sleep(1000)
    return Delayed()


def breaks() -> Delayed:
    """An environment that cannot be made."""
    raise OSError("no licence")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    text = r"the package 'ray' is not installed: pip install 'comarl\[ray\]'"
    with pytest.raises(ComarlError, match=text), ray_tasks("local", 1.0, 0.0):
        pass


def test_why_a_task_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = RunConfig("vdn", f"{HERE}:breaks", run=tmp_path / "run")
    assert "the function failed with OSError: no licence" in train_one(config, os.getcwd(), [])[0]
    monkeypatch.setattr("comarl.experiments.runner.train", lambda config: 1 / 0)
    assert train_one(config, "/nowhere", []) == ("ZeroDivisionError: division by zero", False)


@pytest.mark.parametrize(("status", "again"), [(143, True), (TIME_IS_UP, False)])
def test_a_task_that_is_told_to_stop(status: int, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(config: RunConfig) -> None:
        raise Stopped("by SIGTERM and saved", status)

    monkeypatch.setattr("comarl.experiments.runner.train", stopped)
    assert train_one(RunConfig(), ".", []) == ("it was stopped by SIGTERM and saved", again)


def command(folder: Path, *words: str) -> dict[str, Any]:
    """How to run a sweep in a process of its own."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "COMARL_TEST_MARK": str(folder / "mark"),
    }
    program = [sys.executable, "-m", "comarl", "sweep", "vdn", "--folder", str(folder / "sweep"), *SETTINGS, *words]
    return {"args": program, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def processes() -> set[str]:
    """Ray's processes."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0] for line in found if "ray::" in line or "/ray/core/src/" in line}


def require_nothing_left(before: tuple[set[str], set[str]], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while (processes() - before[0] or set(os.listdir("/dev/shm")) - before[1]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes() <= before[0]
    assert set(os.listdir("/dev/shm")) <= before[1]


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_a_task_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    before = processes(), set(os.listdir("/dev/shm"))
    envs = ("--env", f"{HERE}:dies_once", f"{HERE}:breaks", "tests.probes:Delayed", "--seeds", "1", "--json")
    done = subprocess.run(**command(tmp_path, *envs), check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    runs = {run["env"].partition(":")[2]: run for run in json.loads(done.stdout)["runs"]}
    assert (runs["dies_once"]["attempts"], runs["dies_once"]["failed"]) == (2, None)
    assert (runs["Delayed"]["attempts"], runs["Delayed"]["score"]) == (1, runs["dies_once"]["score"])
    assert runs["breaks"]["attempts"] == 1
    assert "the function failed with OSError: no licence" in runs["breaks"]["failed"]
    require_nothing_left(before)
    # Once more: what is finished stays, what failed is tried again.
    again = subprocess.run(**command(tmp_path, *envs), check=False, timeout=300)
    assert {run["attempts"] for run in json.loads(again.stdout)["runs"]} == {0, 1}


@pytest.mark.faults
@pytest.mark.parametrize(("sent", "seconds"), [(signal.SIGINT, 20), (signal.SIGKILL, 120)])
def test_nothing_is_left_behind(sent: int, seconds: int, tmp_path: Path) -> None:
    """After SIGKILL Ray's agents look for the others for a minute before they end themselves."""
    before = processes(), set(os.listdir("/dev/shm"))
    process = subprocess.Popen(**command(tmp_path, "--env", f"{HERE}:waits", "--seeds", "1"), start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "mark").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes() - before[0]
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent), said
    require_nothing_left(before, float(seconds))
