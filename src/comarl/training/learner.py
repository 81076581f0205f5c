"""Learning from what was collected: the same step behind every driver."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Algorithm
from comarl.memory.base import Memory
from comarl.types import Trajectory


@dataclasses.dataclass(frozen=True)
class Learner:
    """Stores a trajectory, then draws batches and updates on them.

    Attributes:
        algorithm: the learning rule.
        memory: where trajectories go and batches come from.
        updates: updates per iteration.
        starts: the first iteration (counted from 0) that learns.
    """

    algorithm: Algorithm
    memory: Memory
    updates: int
    starts: int

    def step(
        self, state: Any, memory: Any, trajectory: Trajectory, iteration: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Any, Any, dict[str, Float[Array, ""]]]:
        """One iteration's learning.

        Returns:
            The algorithm's state, the memory, and the means of the metrics over this iteration's updates (NaN
            before learning starts, so that nothing stale is ever reported).
        """
        memory = self.memory.add(memory, trajectory, iteration)

        def one(state: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Array]]:
            sample_key, update_key = jax.random.split(key)
            return self.algorithm.update(state, self.memory.sample(memory, iteration, sample_key), update_key)

        def learn(state: Any) -> tuple[Any, dict[str, Array]]:
            state, metrics = jax.lax.scan(one, state, jax.random.split(key, self.updates))
            return state, jax.tree.map(jnp.mean, metrics)

        def wait(state: Any) -> tuple[Any, dict[str, Array]]:
            metrics = jax.eval_shape(learn, state)[1]
            return state, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)

        state, metrics = jax.lax.cond(iteration >= self.starts, learn, wait, state)
        return state, memory, metrics
