"""Same seed, same machine, same bits: the first iterations of the presets, computed twice."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import with_settings
from comarl.experiments.presets import PRESETS, resolve
from comarl.experiments.runner import _programs
from comarl.training.checkpoint import digest
from comarl.training.ondevice import RunState
from comarl.training.seeds import Chunk
from tests.probes import SMALL

LEARNS_FROM = 2
"""The iteration from which on every preset learns here, so that all of it is computed."""

ITERATIONS = 20

KINDS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("coma", "two-step", "a2c", {}),
    ("mappo", "two-step", "ppo", {"cell": "mingru"}),
    ("vdn", "two-step", "pqn", {"minibatches": 4}),
    ("qmix", "two-step", "replay", {"cell": "lstm", "replay": "prioritised"}),
    ("maddpg", "two-step", "replay", {}),
]
"""One of every kind: learners, memories, replays, a mixer, critics. Small networks are compiled in a moment."""
SHRUNK = {name: SMALL[name] for name in ("hidden", "embed", "hyper_hidden", "num_envs", "batch_size", "updates")}


def first_iterations(
    method: str, env: str, learner: str, iterations: int, **settings: Any
) -> tuple[RunState, list[Chunk]]:
    """Traced, compiled and run from nothing."""
    config = resolve(method, env, {"learner": learner, "eval_episodes": 4} | settings)
    per_iteration = config.num_envs * config.length
    starts = min(config.learner.learning_starts, LEARNS_FROM * per_iteration)
    own = {"eval_every": iterations * per_iteration, "learning_starts": starts}
    config = with_settings(config, own)
    driver = build_driver(config, build_env(config))
    assert driver.iterations == iterations
    programs = _programs(driver, [0], {})
    logs = list(programs.run(1))
    return programs.state(0), logs


@pytest.mark.paper
@pytest.mark.parametrize(("method", "env", "learner"), PRESETS, ids=["-".join(of) for of in PRESETS])
def test_the_first_iterations_are_the_same_twice(method: str, env: str, learner: str) -> None:
    (state, logs), (again, logs_again) = (first_iterations(method, env, learner, ITERATIONS) for _ in range(2))
    assert np.isfinite(logs[0].log.metrics["loss"][LEARNS_FROM:]).all()
    assert digest(state) == digest(again)
    assert digest(logs[0].log) == digest(logs_again[0].log)


def test_two_processes_compute_the_same_bits() -> None:
    """Whatever order Python gives its sets, and whether or not a program was compiled before."""
    first, second = (digests(PYTHONHASHSEED=number) for number in ("1", "2"))
    assert first == second
    assert len(set(first.split())) == 2 * len(KINDS)


def digests(**environment: str) -> str:
    """What a process prints that runs this file."""
    own = {"PYTHONPATH": os.pathsep.join(["src", "."]), **environment}
    command = [sys.executable, "-m", "tests.paper.test_same_bits"]
    return subprocess.run(command, env=os.environ | own, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for *what, settings in KINDS:
        state, logs = first_iterations(*what, ITERATIONS, **SHRUNK, **settings)
        print(digest(state), digest(logs[0].log))
