"""Same seed, same machine, same bits: the first iterations of the presets, computed twice."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import with_settings
from comarl.experiments.presets import PRESETS, resolve
from comarl.training.checkpoint import digest
from comarl.training.haste import compile_quickly
from comarl.training.host import HostDriver
from comarl.training.ondevice import ChunkLog, RunState
from comarl.training.threefry import draw_in_one_piece
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

Iterations = Callable[[], tuple[RunState, ChunkLog]]


@contextlib.contextmanager
def first_iterations(method: str, env: str, learner: str, **settings: Any) -> Iterator[Iterations]:
    """What runs the first iterations from nothing, as often as it is called: traced and compiled once."""
    config = resolve(method, env, {"learner": learner, "eval_episodes": 4} | settings)
    per_iteration = config.num_envs * config.length
    starts = min(config.learner.learning_starts, LEARNS_FROM * per_iteration)
    config = with_settings(config, {"eval_every": ITERATIONS * per_iteration, "learning_starts": starts})
    driver = build_driver(config, build_env(config))
    assert driver.iterations == ITERATIONS
    draw_in_one_piece()  # as runs do
    if isinstance(driver, HostDriver):
        with contextlib.closing(driver):
            yield lambda: driver.chunk(driver.init(jnp.asarray(0)))
    else:
        first = jax.jit(driver.init).trace(0)
        init, evaluate = map(compile_quickly, (first.lower(), jax.jit(driver.evaluate).lower(first.out_info)))
        train = jax.jit(driver.train, donate_argnums=0).lower(first.out_info).compile()

        def iterations() -> tuple[RunState, ChunkLog]:  # as three programs, which is how a run computes them
            state, (metrics, finished, faults) = train(init(0))
            return state, ChunkLog(metrics, finished, faults, evaluate(state))

        yield iterations


@pytest.mark.bits
@pytest.mark.parametrize(("method", "env", "learner"), PRESETS, ids=["-".join(of) for of in PRESETS])
def test_the_first_iterations_are_the_same_twice(method: str, env: str, learner: str) -> None:
    with first_iterations(method, env, learner) as run:
        once, again = (jax.device_get(run()) for _ in range(2))
    assert np.isfinite(once[1].metrics["loss"][LEARNS_FROM:]).all()
    assert digest(once) == digest(again)


def test_two_processes_compute_the_same_bits() -> None:
    """Whatever order Python gives its sets, and whether or not a program was compiled before."""
    first, second = (digests(PYTHONHASHSEED=number) for number in ("1", "2"))
    assert first == second
    assert len(set(first.split())) == 2 * len(KINDS)


def digests(**environment: str) -> str:
    """What a process prints that runs this file."""
    own = {"PYTHONPATH": os.pathsep.join(["src", "."]), **environment}
    command = [sys.executable, "-m", "tests.test_same_bits"]
    return subprocess.run(command, env=os.environ | own, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for *what, settings in KINDS:
        with first_iterations(*what, **SHRUNK, **settings) as run:
            print(*map(digest, run()))
