"""An environment that gives whatever it is told to, at whatever point."""

from typing import Any, ClassVar

import numpy as np

from comarl.envs.python import Percept, PythonEnv
from comarl.spec import EnvSpec


class Wild(PythonEnv):
    """Episodes of four steps, sound ones but for what :attr:`script` says.

    The script is of the class, so that it reaches an environment by its name, as users give theirs. Its keys are
    ``(when, what)``: from which call of ``reset`` or ``step`` on (counted over the environment's life), and the name
    of a percept's field, or ``percept``, ``outcome``, ``raise`` or ``spec``.
    """

    script: ClassVar[dict[tuple[int, str], Any]] = {}

    def __init__(self) -> None:
        self.spec: Any = self._told(0, "spec", EnvSpec("wild", 2, 3, 2, 3, 4, outcomes=("won",)))
        self.calls = 0

    def reset(self, seed: int) -> Percept:
        self.time = 0
        return self._see()

    def step(self, action: np.ndarray) -> Percept:
        self.time += 1
        return self._see()

    def outcome(self) -> dict[str, float]:
        return self._told(self.calls, "outcome", {"won": 1.0})

    def _see(self) -> Percept:
        self.calls += 1
        raised = self._told(self.calls, "raise", None)
        if raised is not None:
            raise raised
        sound = {
            "obs": np.ones((2, 3)),
            "state": np.ones(2),
            "avail": np.ones((2, 3), bool),
            "reward": np.ones(2),
            "terminated": self.time == 4,
            "truncated": False,
        }
        percept = Percept(**{name: self._told(self.calls, name, value) for name, value in sound.items()})
        return self._told(self.calls, "percept", percept)

    def _told(self, now: int, what: str, sound: Any) -> Any:
        return next((value for (when, name), value in self.script.items() if name == what and now >= when), sound)


class Empty(Wild):
    """Gives nothing at every third step."""

    script: ClassVar = {(3, "percept"): None}


class TooLarge(Wild):
    """Gives a number that is finite, and that a 32-bit float cannot hold."""

    script: ClassVar = {(0, "obs"): np.full((2, 3), 1e300)}


class Unknown(Wild):
    """Does not know how an episode ended."""

    script: ClassVar = {(0, "outcome"): {"won": float("nan")}}
