"""What keeps cores awake: that it is there, gives way, and never outlives what it was for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comarl.training import awake as awake_module
from comarl.training.awake import awake, cores

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's /proc")


def idlers(parent: int) -> list[int]:
    """The processes that keep cores awake for that one."""
    wanted = [awake_module.__file__.encode(), str(parent).encode()]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if all(word in words for word in wanted):
            found.append(int(folder.name))
    return found


def wait_for(parent: int, count: int) -> list[int]:
    """So many of that parent's, each of which has begun to give way."""
    for _ in range(1000):
        there = idlers(parent)
        if len(there) == count and all(gives_way(process) for process in there):
            return there
        time.sleep(0.02)
    pytest.fail(f"{idlers(parent)} after 20 s, and not {count} that give way")


def gives_way(process: int) -> bool:
    """Whether its priority is the lowest."""
    try:
        return os.sched_getscheduler(process) == os.SCHED_IDLE
    except ProcessLookupError:
        return False


def test_each_core_has_a_process_that_gives_way_until_the_end() -> None:
    def training() -> None:
        with awake(2):
            wait_for(os.getpid(), 2)
            raise KeyError

    with pytest.raises(KeyError):
        training()
    assert idlers(os.getpid()) == []


def test_none_outlives_a_training_that_is_killed() -> None:
    """The first line of the child is printed when its processes are there."""
    program = "import time; from comarl.training.awake import awake\nwith awake(1): print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        there = wait_for(child.pid, 1)
        for process in there:
            os.kill(process, signal.SIGINT)  # a terminal sends it to all: not theirs to answer
        time.sleep(0.1)
        assert idlers(child.pid) == there
        child.kill()
    wait_for(child.pid, 0)


def test_without_processes_or_priorities_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    with monkeypatch.context() as m:
        m.setattr(subprocess, "Popen", none_left)
        with awake(2):
            assert idlers(os.getpid()) == []
    with monkeypatch.context() as m:
        m.delattr(os, "SCHED_IDLE")
        with awake(2):
            assert idlers(os.getpid()) == []


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    assert cores() == 3
