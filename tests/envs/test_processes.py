"""Workers: what they give is what the environment gives, also after faults; nothing is left behind."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from comarl.envs import processes
from comarl.envs.processes import Processes, PythonEnvs
from comarl.envs.python import seed_of
from comarl.envs.registry import make_env, make_python
from comarl.errors import ComarlError
from comarl.types import TimeStep
from tests.envs.python_envs import Diary

HERE = "tests.envs.python_envs"
B = 4


def begin(function: str, workers: int, step_seconds: float = 20.0) -> Processes:
    """``B`` environments of a function here; it is named like one of a user's own."""
    made = make_env(f"{HERE}:Diary", workers)
    assert isinstance(made, PythonEnvs)
    if function != "Diary":
        made = PythonEnvs(f"{HERE}:{function}", Diary, workers)  # as the parent's own one need not be faulty
        made.make = lambda: make_python(made.name)
    return Processes(made, B, step_seconds)


def words(t: int) -> np.ndarray:
    """The seeds of a step."""
    return np.random.default_rng(t).integers(0, 2**32, (B, 2), dtype=np.uint32)


def actions(ts: TimeStep, t: int) -> np.ndarray:
    """Random available actions."""
    avail = np.asarray(ts.avail)
    return np.where(avail, np.random.default_rng(-t % 1000).random(avail.shape), -1).argmax(-1).astype(np.int32)


def play(env: Processes, steps: int) -> list[TimeStep]:
    """The time steps of a reset and so many steps."""
    seen = [env.reset(words(0))]
    for t in range(1, steps + 1):
        seen.append(env.step(actions(seen[-1], t), words(t)))
    return seen


@pytest.fixture(scope="module")
def healthy() -> Iterator[list[Processes]]:
    """The same environments in this process, in one worker and in three."""
    envs = [begin("Diary", workers) for workers in (0, 1, 3)]
    yield envs
    for env in envs:
        env.close()


def test_steps_are_the_environments_own(healthy: list[Processes]) -> None:
    """Against an environment stepped by hand: the seeds, the auto-reset, the flags and the rewards."""
    by_hand = Diary()
    seen = play(healthy[2], 25)
    over = True
    for t, ts in enumerate(seen):
        percept = by_hand.reset(seed_of(words(t)[1])) if over else by_hand.step(actions(seen[t - 1], t)[1])
        np.testing.assert_array_equal(ts.obs[1], percept.obs)
        np.testing.assert_array_equal(ts.state[1], percept.state)
        np.testing.assert_array_equal(ts.avail[1], percept.avail)
        np.testing.assert_array_equal(ts.reward[1], 0 if over else percept.reward)
        assert ts.first[1] == over
        over = percept.terminated or percept.truncated
        assert ts.last[1] == over
        assert ts.discount[1] == (not percept.terminated)
    assert sum(ts.last.sum() for ts in seen) > 10
    assert 0 < sum((ts.discount == 0).sum() for ts in seen) < sum(ts.last.sum() for ts in seen)


def test_the_number_of_processes_does_not_matter(healthy: list[Processes]) -> None:
    runs = [play(env, 12) for env in healthy]
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            assert all(map(np.array_equal, a, b))
    outcomes = [env.outcome()["steps"] for env in healthy]
    last = runs[0][-1].last
    assert all((x[last] == outcomes[0][last]).all() for x in outcomes)


def test_restored_environments_go_on_as_if_nothing_had_been(healthy: list[Processes]) -> None:
    env, other = healthy[0], healthy[2]
    seen = play(env, 9)
    snapshot = env.snapshot()
    expected = env.step(actions(seen[-1], 10), words(10))
    play(other, 4)
    other.restore(snapshot)
    assert all(map(np.array_equal, other.step(actions(seen[-1], 10), words(10)), expected))
    assert (snapshot.length > 0).any()


def test_only_the_active_step(healthy: list[Processes]) -> None:
    env = healthy[1]
    before = env.reset(words(0))
    after = env.step(actions(before, 1), words(1), np.array([True, False, True, False]))
    np.testing.assert_array_equal(after.state[:, 1], [1, 0, 1, 0])


def test_workers_import_no_jax() -> None:
    env = PythonEnvs(f"{HERE}:no_jax", Diary, 1).start(1)
    env.reset(words(0)[:1])
    env.close()


# Faults.


def require_consistent(seen: list[TimeStep], dropped: int) -> int:
    """Within an episode time goes on by one; an episode begins after a last step or, ``dropped`` times, without one."""
    cuts = 0
    for before, now in itertools.pairwise(seen):
        assert (now.first | (now.state[:, 1] == before.state[:, 1] + 1)).all()
        assert (now.first | (now.state[:, 0] == before.state[:, 0])).all()
        assert (now.state[now.first, 1] == 0).all()
        assert now.first[before.last].all()
        cuts += int((now.first & ~before.last).sum())
        assert all(np.isfinite(x).all() for x in now)
    assert cuts == dropped
    return cuts


@pytest.mark.parametrize(
    ("fault", "workers"), [("raising", 0), ("raising", 2), ("nan", 2), ("huge", 0), ("idle", 0), ("misshapen", 0)]
)
def test_an_environment_that_fails_is_made_anew_and_its_episode_dropped(fault: str, workers: int) -> None:
    env = begin(fault, workers)
    seen = play(env, 40)
    assert require_consistent(seen, env.dropped) >= 3
    # The others have gone on meanwhile: no step has two cuts more often than faults come together.
    assert sum((now.first & ~before.last).all() for before, now in itertools.pairwise(seen)) == 0
    env.close()


@pytest.mark.parametrize(("fault", "seconds"), [("killing", 20.0), ("hanging", 1.0)])
def test_a_worker_that_dies_or_hangs_is_started_anew(fault: str, seconds: float) -> None:
    env = begin(fault, 2, seconds)
    seen = play(env, 8)
    require_consistent(seen, env.dropped)
    assert env.dropped >= 2
    env.close()


def test_killed_from_outside() -> None:
    others = _workers()
    env = begin("Diary", 2)
    ts = env.reset(words(0))
    killed = env._groups[0]._process  # pyright: ignore
    os.kill(killed.pid, signal.SIGKILL)
    later = env.step(actions(ts, 1), words(1))
    assert env.dropped == B // 2
    np.testing.assert_array_equal(later.first, [True, True, False, False])
    assert [seed_of(x) % 1000 for x in words(1)[:2]] == later.state[:2, 0].tolist()
    env.close()
    assert _workers() == others


@pytest.mark.parametrize(
    ("fault", "workers", "text"),
    [
        ("always_raising", 0, "RuntimeError: the door is stuck, File .*python_envs.py.*, line .*, in step"),
        ("always_raising", 2, "RuntimeError: the door is stuck, File .*python_envs.py.*, line .*, in step"),
        ("always_killing", 1, "its process ended by signal 9"),
        ("always_nan", 0, "ValueError: reward is not finite: it has a NaN"),
        ("always_idle", 0, "ValueError: an agent has no available action"),
        ("always_misshapen", 0, r"ValueError: obs has the shape \[1, 4\], by the specification it is \[2, 4\]"),
    ],
)
def test_what_keeps_failing_is_given_up(fault: str, workers: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_FAILURES", 1)
    others = _workers()
    env = begin(fault, workers)
    with pytest.raises(ComarlError, match=f"environment '{HERE}:{fault}' failed 2 times .*{text}") as caught:
        play(env, 100)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert _workers() == others


def test_one_that_cannot_be_made() -> None:
    others = _workers()
    with pytest.raises(ComarlError, match="the function failed with OSError: the game is not installed"):
        make_env(f"{HERE}:unmakeable")
    with pytest.raises(
        ComarlError, match=f"environment '{HERE}:unmakeable' cannot be made: .*the game is not installed"
    ):
        PythonEnvs(f"{HERE}:unmakeable", Diary, 2).start(2)
    assert _workers() == others


# Nothing is left behind.


SCRIPT = """
import signal, sys, time
import numpy as np
from comarl.envs.registry import make_env

signal.signal(signal.SIGINT, signal.default_int_handler)  # who is started in the background ignores it
env = make_env("tests.envs.python_envs:Diary", 2).start(4)
env.reset(np.zeros((4, 2), np.uint32))
print("ready", flush=True)
if sys.argv[1] == "raise":
    raise RuntimeError
if sys.argv[1] == "wait":
    time.sleep(100)
"""


@pytest.mark.parametrize(("way", "sent"), [("raise", None), ("wait", signal.SIGINT), ("wait", signal.SIGKILL)])
def test_nothing_is_left_behind(way: str, sent: int | None, tmp_path: Path) -> None:
    """A script without a guard ends by an exception, by Ctrl-C, or is killed: its workers end with it."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    segments = set(os.listdir("/dev/shm"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(script), way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    workers = _workers(process.pid)
    assert len(workers) == (2 if sent else len(workers))
    if sent:
        process.send_signal(sent)
    process.wait(60)
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_lives, workers))
    assert set(os.listdir("/dev/shm")) <= segments


def _workers(parent: int | None = None) -> list[int]:
    """The worker processes that a process has."""
    children = Path(f"/proc/{parent or os.getpid()}/task")
    found = [int(pid) for task in children.glob("*/children") for pid in task.read_text().split()]
    return sorted(pid for pid in found if b"comarl.envs.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
