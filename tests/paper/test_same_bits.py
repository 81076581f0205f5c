"""Same seed, same machine, same bits: the first 20 iterations of every preset, computed twice."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from comarl.experiments.build import build_driver, build_env
from comarl.experiments.presets import PRESETS, resolve
from comarl.training.ondevice import RunState
from comarl.training.seeds import Chunk, Seeds

LEARNS_FROM = 2
"""The iteration from which on every preset learns here, so that all of it is computed."""


def first_iterations(method: str, env: str, learner: str) -> tuple[RunState, list[Chunk]]:
    """Traced, compiled and run from nothing."""
    config = resolve(method, env, {"learner": learner})
    driver = build_driver(config, build_env(config))
    learns = dataclasses.replace(driver.learner, starts=min(driver.learner.starts, LEARNS_FROM))
    programs = Seeds(dataclasses.replace(driver, learner=learns, iterations=20, episodes=4), [0])
    logs = list(programs.run(1))
    return programs.state(0), logs


def bits(tree: Any) -> list[bytes]:
    """Every array, NaN included."""
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.mark.paper
@pytest.mark.parametrize(("method", "env", "learner"), PRESETS, ids=["-".join(of) for of in PRESETS])
def test_the_first_iterations_are_the_same_twice(method: str, env: str, learner: str) -> None:
    (state, logs), (again, logs_again) = (first_iterations(method, env, learner) for _ in range(2))
    assert np.isfinite(logs[0].log.metrics["loss"][LEARNS_FROM:]).all()
    assert bits(state) == bits(again)
    assert bits(logs[0].log) == bits(logs_again[0].log)
