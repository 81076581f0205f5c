"""What is wrong with a Python environment is named."""

import itertools
from typing import Any

import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.processes import PythonEnvs
from comarl.envs.python import Percept
from tests.envs.python_envs import Diary

COUNTER = itertools.count()


class Wrong(Diary):
    """Does one thing wrong."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what

    def see(self, reward: np.ndarray) -> Percept:
        percept = super().see(reward)
        changes: dict[str, dict[str, Any]] = {
            "shape": {"state": np.zeros(2)},
            "nan": {"obs": percept.obs * np.nan},
            "mask": {"avail": percept.avail & False},
            "random": {"obs": percept.obs + next(COUNTER)},
            "at once": {"truncated": True},
        }
        return percept._replace(**changes.get(self.what, {}))

    def outcome(self) -> dict[str, float]:
        return {} if self.what == "outcome" else super().outcome()

    def step(self, action: np.ndarray) -> Percept:
        if self.what == "error":
            raise RuntimeError("the door is stuck")
        return super().step(action)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("shape", "after reset state has the shape [2], by the specification it is [3]"),
        ("nan", "after reset obs is not finite"),
        ("mask", "after reset an agent has no available action"),
        ("random", "another episode comes of the same seed and the same actions: draw all randomness"),
        ("at once", "the episode is over after reset"),
        ("outcome", "outcome returns [] and spec.outcomes names ['steps']"),
        ("error", "playing an episode raises RuntimeError: the door is stuck"),
    ],
)
def test_what_is_wrong_is_named(what: str, text: str) -> None:
    (problem,) = check_env(PythonEnvs("wrong", lambda: Wrong(what), 0))
    assert text in problem


def test_nothing_is_wrong() -> None:
    assert check_env(PythonEnvs("diary", Diary, 0)) == []
