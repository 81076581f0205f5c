"""Real training processes, killed at random moments and resumed: nothing is lost, doubled or different.

``make test-faults`` prints ``kills N survived N`` and writes the same, with every moment, to ``runs/kills.json``.
``COMARL_KILLS`` is the number of kills of each method (20), ``COMARL_KILL_SEED`` draws other moments (0).
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.experiments.test_resuming import assert_same, outcome

KILLS = int(os.environ.get("COMARL_KILLS", "20"))
SEED = int(os.environ.get("COMARL_KILL_SEED", "0"))
REPORT = Path("runs") / "kills.json"

STEPS_PER_CHUNK = 64
SETTINGS = {
    "env": "tests.probes:Lottery", "seeds": 2, "num-envs": 4, "length": 8, "eval-every": STEPS_PER_CHUNK,
    "eval-episodes": 8, "hidden": 8, "checkpoint-every": 0, "steps": STEPS_PER_CHUNK * 6 * max(KILLS, 2),
}  # fmt: skip
OF_REPLAY = {"learning-starts": 0, "batch-size": 4, "updates": 2, "buffer-steps": 2048, "embed": 4, "hyper-hidden": 8}
METHODS: dict[str, dict[str, Any]] = {
    "qmix": {"method": "qmix", **OF_REPLAY, "replay": "prioritised"},
    "pqn": {"method": "qmix", "learner": "pqn", "minibatches": 2, "epochs": 2, "embed": 4, "hyper-hidden": 8},
    "mappo": {"method": "mappo", "minibatches": 2, "epochs": 2},
    "maddpg": {"method": "maddpg", **OF_REPLAY},
}


class Kill(NamedTuple):
    """A moment.

    Attributes:
        steps: the environment steps that some seed has reached, by its own words.
        writing: whether to wait until a checkpoint is being written.
        delay: seconds to wait after that.
    """

    steps: int
    writing: bool
    delay: float


def moments(total: int, draw: random.Random) -> list[Kill]:
    """Spread over the whole run, a third of them in the middle of a checkpoint; the first while it starts up."""
    steps = sorted(draw.randrange(STEPS_PER_CHUNK, total - 2 * STEPS_PER_CHUNK) for _ in range(KILLS - 1))
    kills = [Kill(s, draw.random() < 1 / 3, draw.choice((0.0, draw.uniform(0, 0.2)))) for s in steps]
    return [Kill(0, False, draw.uniform(0.5, 4.0)), *kills]


def start(folder: Path, method: dict[str, Any]) -> "subprocess.Popen[str]":
    """The command that a user would give again and again."""
    settings = SETTINGS | {k: v for k, v in method.items() if k != "method"}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "comarl", "train", method["method"], *words, "--run", str(folder), "--resume"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )


def is_writing(folder: Path) -> bool:
    """Whether a checkpoint is half written."""
    return any("tmp" in path.name for path in folder.glob("checkpoints/seed_*/*"))


def kill_at(process: "subprocess.Popen[str]", folder: Path, kill: Kill) -> bool:
    """Let it run until that moment, and kill it; whether a checkpoint was being written."""
    assert process.stderr is not None
    said: list[str] = []
    if kill.steps:
        for line in process.stderr:
            said.append(line)
            reached = re.match(r"seed \d+: ([\d,]+) of ", line)
            if reached and int(reached[1].replace(",", "")) >= kill.steps:
                break
        else:
            pytest.fail("it ended before it could be killed:\n" + "".join(said[-20:]))
    deadline = time.monotonic() + 2
    while kill.writing and not is_writing(folder) and time.monotonic() < deadline and process.poll() is None:
        pass
    time.sleep(kill.delay)
    writing = is_writing(folder)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return writing


def finish(folder: Path, method: dict[str, Any]) -> None:
    """Let it run to its end."""
    process = start(folder, method)
    _, said = process.communicate()
    assert process.returncode == 0, said[-2000:]


def note(name: str, row: dict[str, Any]) -> None:
    """Add a method to the report, and print it."""
    REPORT.parent.mkdir(exist_ok=True)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    report[name] = row
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{name}: kills {row['kills']} survived {row['survived']}, {row['while_writing']} while writing")


@pytest.mark.faults
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_killed_again_and_again_is_the_unbroken_run(name: str, tmp_path: Path) -> None:
    method, draw = METHODS[name], random.Random(f"{name} {SEED}")
    finish(tmp_path / "unbroken", method)
    folder = tmp_path / "killed"
    kills, writing, survived = moments(SETTINGS["steps"], draw), 0, 0
    for kill in kills:
        writing += kill_at(start(folder, method), folder, kill)
        survived += 1
    finish(folder, method)
    row = {"kills": len(kills), "survived": survived, "while_writing": writing, "moments": [list(k) for k in kills]}
    try:
        assert_same(outcome(folder), outcome(tmp_path / "unbroken"))
    except AssertionError:
        note(name, {**row, "survived": 0})
        shutil.copytree(folder, REPORT.parent / f"kills-{name}", dirs_exist_ok=True)  # to look at
        raise
    note(name, row)


def test_moments_are_in_order_and_within_the_run() -> None:
    kills = moments(SETTINGS["steps"], random.Random(1))
    assert len(kills) == KILLS
    assert [kill.steps for kill in kills] == sorted(kill.steps for kill in kills)
    assert np.all([kill.steps < SETTINGS["steps"] - STEPS_PER_CHUNK for kill in kills])
