"""Environments that break the protocol; each has a name of its own for the command line."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from comarl.types import TimeStep
from tests.probes import Limit


class Changed(Limit):
    """Six steps with a reward of 1 each; what is seen is changed by :meth:`change`."""

    def __init__(self) -> None:
        super().__init__(6, terminates=True)

    def reset(self, key: Array) -> tuple[Any, TimeStep]:
        state, ts = super().reset(key)
        return state, self.change(state, ts, key)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, TimeStep]:
        state, ts = super().step(state, action, key)
        return state, self.change(state, ts, key)

    def change(self, time: Array, ts: TimeStep, key: Array) -> TimeStep:
        """What is wrong."""
        raise NotImplementedError


class NanReward(Changed):
    """A reward that is no number."""

    def change(self, time: Array, ts: TimeStep, key: Array) -> TimeStep:
        return ts._replace(reward=jnp.where(time > 0, jnp.nan, ts.reward))


class NoAction(Changed):
    """Nothing may be done on the third step."""

    def change(self, time: Array, ts: TimeStep, key: Array) -> TimeStep:
        return ts._replace(avail=ts.avail & (time != 2))


class WrongShape(Changed):
    """Observations have a feature more than was said."""

    def change(self, time: Array, ts: TimeStep, key: Array) -> TimeStep:
        return ts._replace(obs=jnp.concatenate([ts.obs, ts.obs[:, :1]], axis=1))


class WrongType(Changed):
    """Observations are whole numbers."""

    def change(self, time: Array, ts: TimeStep, key: Array) -> TimeStep:
        return ts._replace(obs=jnp.asarray(ts.obs, jnp.int32))


class NanOutcome(Limit):
    """An outcome that is no number."""

    def __init__(self) -> None:
        super().__init__(6, terminates=True)
        self.spec = dataclasses.replace(self.spec, outcomes=("speed",))

    def outcome(self, state: Any) -> dict[str, Array]:
        return {"speed": jnp.asarray(jnp.nan, jnp.float32)}
