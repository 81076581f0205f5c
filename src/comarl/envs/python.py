"""The protocol of an environment written in Python, which has a state of its own and changes it.

Nothing here imports JAX: the worker processes that step such environments need none.
"""

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from comarl.spec import EnvSpec

if TYPE_CHECKING:
    from comarl.envs.scene import Scene

LONGEST = 10_000
"""Where an environment does not say how long its episodes may be, they are cut after this many transitions."""


FLAGS, NUMBERS = "biu", "biuf"
"""NumPy's letters for the kinds of types that are taken for truth values, and for numbers."""


class Percept(NamedTuple):
    """What a team perceives after a reset or a step, in NumPy.

    Attributes:
        obs: each agent's observation ``[N, D]``, padded with zeros.
        state: the global state ``[S]``.
        avail: which actions each agent may take now ``[N, A]``.
        reward: each agent's reward for the step that led here ``[N]``.
        terminated: whether the episode ended for good.
        truncated: whether something outside the task cut it, such as a time limit. Termination wins over both.
    """

    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    reward: np.ndarray
    terminated: bool = False
    truncated: bool = False


class PythonEnv(abc.ABC):
    """One environment of one team.

    An episode must depend on its seed and on the actions alone: then a run with the same seed gives the same result,
    whatever number of processes step its environments, and a stopped run goes on as if it had not been stopped.

    Attributes:
        repeatable: whether that is so. Where it is not, a stopped run goes on with new episodes.
        at_once: so many play the episodes of an evaluation side by side; fewer where each takes up much.
    """

    spec: EnvSpec
    repeatable: bool = True
    at_once: int = 32

    @abc.abstractmethod
    def reset(self, seed: int) -> Percept:
        """Begin the episode of that seed, a number of 31 bits; its reward means nothing."""

    @abc.abstractmethod
    def step(self, action: np.ndarray) -> Percept:
        """Carry out the joint action: ``[N]`` indices, or ``[N, A]`` numbers where ``spec.continuous`` says so."""

    def outcome(self) -> dict[str, float]:
        """What an episode that has just ended came to; the names are ``spec.outcomes``."""
        return {}

    def picture(self) -> "Scene | np.ndarray | None":
        """What a person would see now: a grid, or bytes ``[height, width, 3]``; None if nothing (``comarl render``)."""
        return None

    def close(self) -> None:  # noqa: B027 -- most have nothing to free
        """Free what the environment holds, such as a game's process."""


def seed_of(words: np.ndarray) -> int:
    """The number of 31 bits that an environment is seeded with, of the two words ``[2]`` of a driver's key."""
    return int(words[0] ^ words[1]) & 0x7FFFFFFF


def require_sound(percept: Any, spec: EnvSpec) -> None:
    """Refuse what must not reach a learner.

    Raises:
        ValueError: as :func:`require_formed`; or naming an array with a number that is not finite or too large for 32
            bits; or if an agent has no available action.
    """
    require_formed(percept, spec)
    for name in ("obs", "state", "reward"):
        if not _fits(np.asarray(getattr(percept, name))):
            raise _not_finite(name)
    if not np.asarray(percept.avail, bool).any(-1).all():
        raise ValueError("an agent has no available action: each needs at least one, also at the last step")


def require_formed(percept: Any, spec: EnvSpec) -> None:
    """Refuse what cannot be written into arrays of 32-bit numbers and truth values without changing its meaning.

    Raises:
        ValueError: naming an array of the wrong shape or type, or a flag that is none.
    """
    if not isinstance(percept, Percept):
        raise ValueError(f"it gives a {type(percept).__name__} in place of a Percept")
    n, d, s, a = spec.num_agents, spec.obs_dim, spec.state_dim, spec.num_actions
    shapes = (("obs", (n, d)), ("state", (s,)), ("avail", (n, a)), ("reward", (n,)))
    for name, shape in shapes:
        array = np.asarray(getattr(percept, name))
        if array.shape != shape:
            raise ValueError(f"{name} has the shape {list(array.shape)}, by the specification it is {list(shape)}")
        if array.dtype.kind not in NUMBERS:
            raise ValueError(f"{name} is of the type {array.dtype}: it must be made of numbers")
    if not _fits(np.asarray(percept.avail)):  # a NaN would count as true
        raise _not_finite("avail")
    for name in ("terminated", "truncated"):
        flag = getattr(percept, name)
        if not isinstance(flag, bool) and (np.shape(flag) or np.asarray(flag).dtype.kind not in FLAGS):
            raise ValueError(f"{name} is {getattr(percept, name)!r}: it must be True or False")


def _not_finite(name: str) -> ValueError:
    return ValueError(f"{name} is not finite: it has a NaN, an infinity or a number too large for 32 bits")


def sound_outcome(outcome: Any, spec: EnvSpec) -> list[float]:
    """What an episode came to, in the order of ``spec.outcomes``.

    Raises:
        ValueError: if one of them is missing, or is not a finite number of 32 bits.
    """
    if not isinstance(outcome, dict) or sorted(map(str, outcome)) != sorted(spec.outcomes):
        names = sorted(map(str, outcome)) if isinstance(outcome, dict) else f"a {type(outcome).__name__}"
        raise ValueError(f"outcome returns {names} and spec.outcomes names {sorted(spec.outcomes)}")
    for name, value in outcome.items():
        number = np.asarray(value)
        if number.shape or number.dtype.kind not in NUMBERS or not _fits(number):
            raise ValueError(f"outcome '{name}' is {value!r}: it must be a finite number")
    return [outcome[name] for name in spec.outcomes]


def _fits(array: np.ndarray) -> bool:
    """Whether all numbers are finite in 32 bits, as every truth value and integer is."""
    if array.dtype.kind != "f":
        return True
    if array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    return bool(np.isfinite(array).all())
