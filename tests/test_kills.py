"""Real training processes, killed at random moments and resumed: nothing is lost, doubled or different.

``make test-faults`` prints ``kills N survived N`` and writes the same, with every moment, to ``runs/kills.json``.
``COMARL_KILLS`` is the number of kills over all methods (20), ``COMARL_KILL_SEED`` draws other moments (0).
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.experiments.test_resuming import assert_same, outcome

KILLS = int(os.environ.get("COMARL_KILLS", "20"))
SEED = int(os.environ.get("COMARL_KILL_SEED", "0"))
REPORT = Path("runs") / "kills.json"
PATIENCE = 300.0
"""Seconds that a process may take before it counts as hanging."""

PER_CHUNK = 64
SETTINGS = {
    "env": "tests.probes:Lottery", "seeds": 2, "num-envs": 4, "length": 8, "eval-every": PER_CHUNK,
    "eval-episodes": 8, "hidden": 8, "checkpoint-every": 0,
}  # fmt: skip
OF_REPLAY = {"learning-starts": 0, "batch-size": 4, "updates": 2, "buffer-steps": 512, "embed": 4, "hyper-hidden": 8}
METHODS: dict[str, dict[str, Any]] = {
    "qmix": {"method": "qmix", **OF_REPLAY, "replay": "prioritised"},
    "pqn": {"method": "qmix", "learner": "pqn", "minibatches": 2, "epochs": 2, "embed": 4, "hyper-hidden": 8},
    "mappo": {"method": "mappo", "minibatches": 2, "epochs": 2},
    "maddpg": {"method": "maddpg", **OF_REPLAY},
    "qmix, Python environment": {"method": "qmix", **OF_REPLAY, "env": "tests.envs.python_envs:Diary", "workers": 1},
}
EACH = {name: KILLS // len(METHODS) + (i < KILLS % len(METHODS)) for i, name in enumerate(METHODS)}
"""Kills of each method."""


class Kill(NamedTuple):
    """A moment.

    Attributes:
        phase: ``start-up``, ``training``, ``writing`` (a checkpoint) or ``end`` (after the last chunk).
        steps: the environment steps that some seed has reached, by its own words; in the start-up 0.
        delay: seconds to wait after that.
    """

    phase: str
    steps: int
    delay: float


def total_steps(kills: int) -> int:
    """So many that there is something left to do for each kill."""
    return PER_CHUNK * 5 * max(kills, 4)


def moments(kills: int, draw: random.Random) -> list[Kill]:
    """Every phase in turn, in an order by chance, spread over the whole run; the last at its end."""
    total = total_steps(kills)
    phases = [("start-up", "training", "writing")[i % 3] for i in range(kills - 1)]
    draw.shuffle(phases)
    steps = sorted(draw.randrange(PER_CHUNK, total - 4 * PER_CHUNK) for _ in phases)
    longest = {"start-up": 2.0, "training": 0.1, "writing": 0.03}
    chosen = [
        Kill(phase, 0 if phase == "start-up" else at, draw.uniform(0, longest[phase]))
        for phase, at in zip(phases, steps, strict=True)
    ]
    return [*chosen, Kill("end", total, draw.uniform(0, 1.5))] if kills else []


def start(folder: Path, name: str) -> "subprocess.Popen[str]":
    """The command that a user would give again and again; what it compiles is kept for the next time."""
    settings = SETTINGS | {"steps": total_steps(EACH[name])} | METHODS[name]
    method = settings.pop("method")
    words = [word for option, value in settings.items() for word in (f"--{option}", str(value))]
    command = [sys.executable, "-m", "comarl", "train", method, *words, "--run", str(folder), "--resume"]
    own = {"PYTHONPATH": os.pathsep.join(["src", "."]), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(command, env=os.environ | own, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def is_writing(folder: Path) -> bool:
    """Whether a checkpoint is half written."""
    return any("tmp" in path.name for path in folder.glob("checkpoints/seed_*/*"))


def has_come(line: str, kill: Kill) -> bool:
    """Whether a line of what it says is that of the moment."""
    reached = re.match(r"seed \d+: ([\d,]+) of ", line)
    return not kill.steps or (reached is not None and int(reached[1].replace(",", "")) >= kill.steps)


def kill_at(process: "subprocess.Popen[str]", folder: Path, kill: Kill) -> bool:
    """Let it run until that moment, and kill it; whether a checkpoint was being written.

    What is half written when it starts is the work of the one that was killed before it.
    """
    assert process.stderr is not None
    said: list[str] = []
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    with process, process.stderr:
        for line in process.stderr:
            said.append(line)
            if has_come(line, kill):
                break
        watchdog.cancel()
        deadline = time.monotonic() + 2
        while kill.phase == "writing" and not is_writing(folder) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(kill.delay)
        writing = kill.phase != "start-up" and is_writing(folder)
        assert process.poll() is None, f"it ended before {kill}:\n" + "".join(said[-20:])
        process.send_signal(signal.SIGKILL)
    return writing


def finish(folder: Path, name: str) -> None:
    """Let it run to its end."""
    with start(folder, name) as process:
        try:
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, said[-2000:]


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What became of each method; printed and written at the end, whether or not all went well."""
    rows: dict[str, Any] = {}
    yield rows
    total = {key: sum(row[key] for row in rows.values()) for key in ("kills", "survived", "while_writing")}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({**total, "seed": SEED, "methods": rows}, indent=2) + "\n")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        for name, row in rows.items():
            print(f"{name}: {_words(row)}, {row['while_writing']} of them in the middle of a checkpoint")
        print(_words(total))


def _words(row: dict[str, int]) -> str:
    return f"kills {row['kills']} survived {row['survived']}"


@pytest.mark.faults
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_killed_again_and_again_is_the_unbroken_run(
    name: str, tmp_path: Path, report: dict[str, Any]
) -> None:
    row = report[name] = {"kills": 0, "survived": 0, "while_writing": 0, "moments": []}
    whole, folder = tmp_path / "unbroken", tmp_path / "killed"
    finish(whole, name)
    for kill in moments(EACH[name], random.Random(f"{name} {SEED}")):
        writing = kill_at(start(folder, name), folder, kill)
        row["kills"] += 1
        row["while_writing"] += writing
        row["moments"].append({**kill._asdict(), "while_writing": writing})
    try:
        finish(folder, name)
        assert_same(outcome(folder), outcome(whole))
    except AssertionError:
        shutil.copytree(tmp_path, REPORT.parent / f"kills {name}", dirs_exist_ok=True)  # to look at
        raise
    row["survived"] = row["kills"]


def test_moments_are_of_every_phase_in_order_and_within_the_run() -> None:
    kills = moments(7, random.Random(1))
    assert Counter(kill.phase for kill in kills) == {"start-up": 2, "training": 2, "writing": 2, "end": 1}
    steps = [kill.steps for kill in kills if kill.phase != "start-up"]
    assert steps == sorted(steps)
    assert steps[-1] == total_steps(7)
    assert steps[-2] < total_steps(7) - 4 * PER_CHUNK
    assert sum(EACH.values()) == KILLS
