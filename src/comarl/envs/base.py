"""The protocols of environments: written in JAX, or stepped by Python."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from comarl.envs.scene import Scene
from comarl.errors import ComarlError
from comarl.types import Action, EnvSpec, TimeStep

State = Any
"""An environment's own state: any pytree of arrays."""


class Env(abc.ABC):
    """A cooperative environment: pure functions of a state, for one team and without batch axes.

    An environment does not reset itself. After a time step with ``last`` the driver calls :meth:`reset`, never
    :meth:`step` (see :class:`comarl.envs.wrappers.AutoReset`). ``comarl check-env`` tells whether an environment
    keeps to this protocol.

    A joint action is one index for each agent, or where ``spec.continuous`` says so a vector of numbers in [-1, 1]. An
    environment then takes any finite number and clips it itself, for a Gaussian policy knows no bounds.
    """

    spec: EnvSpec

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        """Begin an episode: a state and a time step with ``first`` set."""

    @abc.abstractmethod
    def step(self, state: State, action: Action, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        """Carry out the joint action: ``[N]`` indices, or ``[N, A]`` numbers."""

    def outcome(self, state: State) -> dict[str, Float[Array, ""]]:
        """What an episode came to, read off its last state; the names are ``spec.outcomes``."""
        del state
        return {}

    def heuristics(self) -> dict[str, Any]:
        """Fixed policies made for this environment, by name (:class:`comarl.algos.base.Policy`)."""
        return {}

    def scene(self, state: State) -> Scene | None:
        """A picture of ``state``, whose arrays are concrete, for ``comarl render``; None where there is none."""
        del state
        return None


class ObservedEnv(Env):
    """An environment whose time step can be read off its state: reset and step follow.

    Under ``vmap`` auto-reset computes both a new episode and the old one's next step, and keeps one. Here it picks
    among the states and observes only the one that it keeps.
    """

    @abc.abstractmethod
    def begin(self, key: PRNGKeyArray) -> State:
        """The state that an episode begins in."""

    @abc.abstractmethod
    def advance(self, state: State, action: Action, key: PRNGKeyArray) -> State:
        """The state after the joint action."""

    @abc.abstractmethod
    def observe(self, state: State) -> TimeStep:
        """What the team perceives in ``state``, with the reward and the flags of arriving there."""

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state = self.begin(key)
        return state, self.observe(state)

    def step(self, state: State, action: Action, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state = self.advance(state, action, key)
        return state, self.observe(state)


class HostEnv(abc.ABC):
    """``B`` environments that Python steps side by side, each started anew when its episode is over.

    They do what :class:`comarl.envs.wrappers.AutoReset` does on the device: the step after ``last`` is the first of the
    next episode, whatever the action. All arrays are NumPy's.

    An environment that fails gives up its episode and answers with the first step of another one. A ``first`` that
    no ``last`` came before is thus a cut: the transition that leads to it never happened.

    Attributes:
        dropped: episodes given up so far.
    """

    spec: EnvSpec
    count: int
    dropped: int = 0

    @abc.abstractmethod
    def reset(self, seeds: np.ndarray) -> TimeStep:
        """Begin an episode everywhere; ``seeds`` are the two words of each environment's key ``[B, 2]``."""

    @abc.abstractmethod
    def step(self, action: np.ndarray, seeds: np.ndarray, active: np.ndarray | None = None) -> TimeStep:
        """Carry out the joint actions ``[B, N]`` or ``[B, N, A]``.

        Args:
            action: what is done.
            seeds: the two words of each environment's key for this step ``[B, 2]``. An episode that begins now begins
                with them; within an episode only environments written in JAX look at them.
            active: which environments take the step ``[B]``, all if left out; the others stay as they are.
        """

    @abc.abstractmethod
    def outcome(self) -> dict[str, np.ndarray]:
        """What the episodes came to, each ``[B]``; real where ``last`` is set."""

    @abc.abstractmethod
    def snapshot(self) -> Any:
        """Where the environments are, a pytree of arrays that :meth:`restore` understands."""

    @abc.abstractmethod
    def restore(self, snapshot: Any) -> None:
        """Bring the environments to where they were."""

    def picture(self, row: int) -> Scene | np.ndarray | None:
        """What a person would see of an environment; None where there is nothing, or it runs in another process."""
        del row
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Free everything; may be called twice."""


class Hosted(abc.ABC):
    """An environment that Python steps: what it is, and how to start some of it.

    Attributes:
        at_once: so many play the episodes of an evaluation.
    """

    spec: EnvSpec
    at_once: int = 32

    @abc.abstractmethod
    def start(self, count: int) -> HostEnv:
        """``count`` environments side by side."""

    def heuristics(self) -> dict[str, Any]:
        """Fixed policies made for this environment, by name (:class:`comarl.algos.base.Policy`)."""
        return {}


def require_jax(env: Env | Hosted) -> Env:
    """An environment written in JAX, for what can play no other.

    Raises:
        ComarlError: if Python steps it.
    """
    if isinstance(env, Hosted):
        raise ComarlError(f"Python steps '{env.spec.name}', and this needs an environment written in JAX")
    return env


def make_timestep(
    obs: Float[Array, "N D"],
    state: Float[Array, " S"],
    *,
    avail: Array | None = None,
    num_actions: int | None = None,
    reward: Array | float = 0.0,
    terminated: Array | bool = False,
    truncated: Array | bool = False,
    first: Array | bool = False,
) -> TimeStep:
    """A :class:`TimeStep` from the words most environments use.

    Args:
        obs: each agent's observation ``[N, D]``.
        state: the global state ``[S]``.
        avail: available actions ``[N, A]``; all of ``num_actions`` if left out.
        num_actions: ``A``, needed only without ``avail``.
        reward: per agent ``[N]``, or a scalar that all agents share.
        terminated: whether the episode ended for good (no value follows).
        truncated: whether a time limit cut it (values are bootstrapped through it). Termination wins over both.
        first: whether the episode begins here.
    """
    agents = obs.shape[0]
    if avail is None:
        if num_actions is None:
            raise ValueError("make_timestep needs avail or num_actions")
        avail = jnp.ones((agents, num_actions), bool)
    ended = jnp.asarray(terminated, bool)
    return TimeStep(
        obs=jnp.asarray(obs, jnp.float32),
        state=jnp.asarray(state, jnp.float32),
        avail=jnp.asarray(avail, bool),
        reward=jnp.broadcast_to(jnp.asarray(reward, jnp.float32), (agents,)),
        discount=1.0 - ended.astype(jnp.float32),
        first=jnp.asarray(first, bool),
        last=ended | jnp.asarray(truncated, bool),
    )


def select(pred: Array, on_true: Any, on_false: Any) -> Any:
    """``on_true`` where the scalar ``pred`` holds, else ``on_false``, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(pred, a, b), on_true, on_false)


def strong(tree: Any) -> Any:
    """The same arrays without weak types, which would make a second step compile anew."""
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.asarray(x).dtype), tree)
