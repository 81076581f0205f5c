"""Playing a written plan."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from comarl.envs.base import Env
from comarl.types import TimeStep


class Played(NamedTuple):
    """An episode.

    Attributes:
        rewards: of every transition ``[T, N]``.
        last: the last time step.
        outcome: of the last state.
    """

    rewards: np.ndarray
    last: TimeStep
    outcome: dict[str, float]


def play_actions(env: Env, actions: np.ndarray) -> Played:
    """Take these joint actions ``[T, N]``; the episode must end with the last one, and not before."""
    step = jax.jit(env.step)
    state, ts = env.reset(jax.random.key(0))
    rewards: list[Any] = []
    for action in actions:
        assert not ts.last
        state, ts = step(state, jnp.asarray(action, jnp.int32), jax.random.key(1))
        rewards.append(ts.reward)
    assert ts.last
    return Played(np.stack(rewards), ts, {k: float(v) for k, v in env.outcome(state).items()})


def disturbed(plan: np.ndarray, length: int, seed: int) -> np.ndarray:
    """A plan with a random action in the place of every tenth, and random ones after it ``[length, N]``."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 5, (length, plan.shape[1]))
    kept = np.where(rng.random(plan.shape) < 0.1, actions[: len(plan)], plan)
    return np.concatenate([kept, actions[len(plan) :]])
