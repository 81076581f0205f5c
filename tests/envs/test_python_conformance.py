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
        self.what, self.begun = what, 0

    def reset(self, seed: int) -> Percept:
        self.begun += 1
        return super().reset(seed)

    def see(self, reward: np.ndarray) -> Percept:
        percept = super().see(reward)
        changes: dict[str, dict[str, Any]] = {
            "shape": {"state": np.zeros(2)},
            "nan": {"obs": percept.obs * np.nan},
            "mask": {"avail": percept.avail & False},
            "random": {"obs": percept.obs + next(COUNTER)},
            "keeps": {"obs": percept.obs + self.begun},
            "at once": {"truncated": True},
            "too large": {"obs": percept.obs + 1e39},
            "text": {"state": np.full(3, "x")},
            "no flag": {"terminated": None},
        }
        return [] if self.what == "no percept" else percept._replace(**changes.get(self.what, {}))  # type: ignore

    def outcome(self) -> Any:
        outcomes = {"outcome": {}, "no outcome": None, "endless": {"steps": float("inf")}, "words": {"steps": "two"}}
        return outcomes.get(self.what, super().outcome())

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
        ("keeps", "or runs cannot be repeated (episode "),
        ("at once", "the episode is over after reset"),
        ("outcome", "outcome returns [] and spec.outcomes names ['steps']"),
        ("no outcome", "outcome returns a NoneType and spec.outcomes names ['steps']"),
        ("endless", "outcome 'steps' is inf: it must be a finite number"),
        ("words", "outcome 'steps' is 'two': it must be a finite number"),
        ("too large", "after reset obs is not finite: it has a NaN, an infinity or a number too large for 32 bits"),
        ("text", "after reset state is of the type <U1: it must be made of numbers"),
        ("no flag", "after reset terminated is None: it must be True or False"),
        ("no percept", "after reset it gives a list in place of a Percept"),
        ("error", "playing an episode raises RuntimeError: the door is stuck"),
    ],
)
def test_what_is_wrong_is_named(what: str, text: str) -> None:
    (problem,) = check_env(PythonEnvs("wrong", lambda: Wrong(what), 0))
    assert text in problem


def test_nothing_is_wrong() -> None:
    assert check_env(PythonEnvs("diary", Diary, 0)) == []


@pytest.mark.parametrize(
    ("name", "value"), [("agent_types", 3), ("outcomes", ("a", 1)), ("sides", None), ("units", (1,)), ("obs_dim", True)]
)
def test_a_specification_of_other_types_is_named(name: str, value: Any) -> None:
    env = Diary()
    object.__setattr__(env.spec, name, value)  # past the tests' own checks of types, which users have not
    (problem,) = check_env(PythonEnvs("diary", lambda: env, 0))
    assert problem.startswith(f"spec.{name} is {value!r}: it must be ")
