"""Python environments that show every step they take, and ones that fail; by module:function, as users name theirs."""

import functools
import os
import signal
import time
from typing import Any

import numpy as np

from comarl.envs.python import Percept, PythonEnv
from comarl.spec import EnvSpec

FAILS_AT = 3
"""The step of an episode at which a faulty environment fails, if the episode's seed is divisible by 4."""


class Diary(PythonEnv):
    """Episodes of 2 to 6 steps whose observations name the seed, the step and the last action.

    Odd lengths terminate, even ones are truncated. Agent i earns ``action_i + i``.
    """

    AGENTS, ACTIONS = 2, 3

    def __init__(self) -> None:
        self.spec = EnvSpec("diary", self.AGENTS, 4, 3, self.ACTIONS, 6, outcomes=("steps",), reward="per agent")
        self.closed = False

    def reset(self, seed: int) -> Percept:
        self.seed, self.time, self.action = seed, 0, np.zeros(self.AGENTS)
        self.length = 2 + seed % 5
        return self.see(np.full(self.AGENTS, 99.0))

    def step(self, action: np.ndarray) -> Percept:
        assert self.time < self.length
        self.time, self.action = self.time + 1, action.copy()
        return self.see(action + np.arange(self.AGENTS))

    def see(self, reward: np.ndarray) -> Percept:
        """What is perceived now."""
        obs = np.stack([[self.seed % 1000, self.time, self.action[i], i] for i in range(self.AGENTS)])
        avail = np.ones((self.AGENTS, self.ACTIONS), bool)
        avail[:, 1 + (self.seed + self.time) % 2] = False
        over = self.time == self.length
        odd = self.length % 2 == 1
        return Percept(obs, np.array([self.seed % 1000, self.time, self.length]), avail, reward, over and odd, over)

    def outcome(self) -> dict[str, float]:
        return {"steps": float(self.time)}

    def close(self) -> None:
        self.closed = True


class Faulty(Diary):
    """Does something bad in the middle of a quarter of its episodes."""

    def __init__(self, fault: str, every: int = 4):
        super().__init__()
        self.fault, self.every = fault, every

    def step(self, action: np.ndarray) -> Percept:
        percept = super().step(action)
        if self.seed % self.every or self.time != min(FAILS_AT, self.length):
            return percept
        match self.fault:
            case "raise":
                raise RuntimeError("the door is stuck")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)
            case "nan":
                return percept._replace(reward=np.array([0.0, np.nan]))
            case "huge":
                return percept._replace(obs=np.full(percept.obs.shape, 1e39))
            case "idle":
                return percept._replace(avail=np.zeros_like(percept.avail))
            case _:
                return percept._replace(obs=percept.obs[:1])
        raise AssertionError


def no_jax() -> Diary:
    """A diary, if JAX was not imported."""
    import sys

    assert not [name for name in sys.modules if name in ("jax", "jaxlib", "comarl.types")]
    return Diary()


raising, killing, hanging, nan, huge, idle, misshapen = (
    functools.partial(Faulty, fault) for fault in ("raise", "kill", "hang", "nan", "huge", "idle", "shape")
)
always_raising, always_killing, always_nan, always_idle, always_misshapen = (
    functools.partial(Faulty, fault, 1) for fault in ("raise", "kill", "nan", "idle", "shape")
)


def unmakeable() -> Any:
    """Cannot be made."""
    raise OSError("the game is not installed")


class Unseen(Diary):
    """Can be played and not drawn."""

    def picture(self) -> np.ndarray:
        raise OSError("no screen")


class Stuck(Diary):
    """Can be made and begun, and no step can be taken."""

    def step(self, action: np.ndarray) -> Percept:
        raise RuntimeError("the door is stuck")
