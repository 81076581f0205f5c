"""An environment written in JAX, stepped from Python: it shows that both drivers do the same."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from comarl.envs.base import Env, Hosted, HostEnv
from comarl.envs.wrappers import AutoReset
from comarl.types import TimeStep


class SteppedEnvs(Hosted):
    """``env``, to be stepped from Python."""

    def __init__(self, env: Env):
        self.env, self.spec = env, env.spec

    def start(self, count: int) -> "Stepped":
        return Stepped(self.env, count)

    def heuristics(self) -> dict[str, Any]:
        return self.env.heuristics()


class Stepped(HostEnv):
    """``count`` environments mapped, one compiled step at a time; a step's seeds are its keys."""

    def __init__(self, env: Env, count: int):
        self.spec, self.count = env.spec, count
        auto = AutoReset(env)
        self._reset = jax.jit(lambda words: jax.vmap(auto.reset)(jax.random.wrap_key_data(words)))
        self._step = jax.jit(lambda s, a, words: jax.vmap(auto.step)(s, a, jax.random.wrap_key_data(words)))
        self._outcome = jax.jit(jax.vmap(auto.outcome))
        self._state: Any = None

    def reset(self, seeds: np.ndarray) -> TimeStep:
        self._state, self._ts = jax.device_get(self._reset(seeds))
        return self._ts

    def step(self, action: np.ndarray | Array, seeds: np.ndarray, active: np.ndarray | None = None) -> TimeStep:
        moved = jax.device_get(self._step(self._state, action, seeds))
        if active is not None:
            moved = jax.tree.map(
                lambda new, old: np.where(_like(active, new), new, old), moved, (self._state, self._ts)
            )
        self._state, self._ts = moved
        return self._ts

    def outcome(self) -> dict[str, np.ndarray]:
        return jax.device_get(self._outcome(self._state)) if self.spec.outcomes else {}

    def snapshot(self) -> Any:
        return self._state, self._ts

    def restore(self, snapshot: Any) -> None:
        self._state, self._ts = jax.device_get(snapshot)

    def close(self) -> None:
        """There is nothing to free."""


def _like(active: np.ndarray, array: np.ndarray) -> np.ndarray:
    return active.reshape(active.shape + (1,) * (array.ndim - 1))
