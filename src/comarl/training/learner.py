"""Learning from what was collected: the same step behind every driver."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Algorithm
from comarl.memory.base import Batch, Memory, Stored
from comarl.types import Trajectory


class Learning(NamedTuple):
    """What an update changes: the algorithm's state and the memory's priorities."""

    state: Any
    priority: Any


@dataclasses.dataclass(frozen=True)
class Learner:
    """Stores a trajectory, then draws batches, updates on them and tells the memory how wrong each sequence was.

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
        self, state: Any, memory: Stored, trajectory: Trajectory, iteration: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Any, Stored, dict[str, Float[Array, ""]]]:
        """One iteration's learning.

        Returns:
            The algorithm's state, the memory, and the means of the metrics over this iteration's updates (NaN
            before learning starts, so that nothing stale is ever reported).
        """
        steps, envs = trajectory.action.shape[:2]
        # The updates have the keys 0 to updates - 1.
        note_key = jax.random.fold_in(key, self.updates + 1)
        trajectory = self.algorithm.annotate(state, trajectory, iteration * steps * envs, note_key)
        stored = self.memory.add(memory, trajectory, iteration, jax.random.fold_in(key, self.updates))

        # Only what the updates change is carried: the trajectories would be copied by every branch and loop.
        def draw(priority: Any, number: Array, key: PRNGKeyArray) -> Batch:
            return self.memory.sample(stored._replace(priority=priority), iteration, number, key)

        def one(learning: Learning, x: Any) -> tuple[Learning, dict[str, Array]]:
            number, sample_key, update_key, drawn = x
            batch = draw(learning.priority, number, sample_key) if drawn is None else drawn
            state, metrics, error = self.algorithm.update(learning.state, batch, update_key)
            return Learning(state, self.memory.reprioritise(learning.priority, batch.where, error)), metrics

        def learn(learning: Learning) -> tuple[Learning, dict[str, Array]]:
            numbers, keys = jnp.arange(self.updates), jax.random.split(key, self.updates)
            sample_keys, update_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
            # One gather of all batches takes a tenth of an iteration less than one in each turn of the loop.
            all_at_once = jax.vmap(draw, in_axes=(None, 0, 0))
            drawn = all_at_once(learning.priority, numbers, sample_keys) if self.memory.ahead else None
            learning, metrics = jax.lax.scan(one, learning, (numbers, sample_keys, update_keys, drawn))
            return learning, jax.tree.map(jnp.mean, metrics)

        def wait(learning: Learning) -> tuple[Learning, dict[str, Array]]:
            metrics = jax.eval_shape(learn, learning)[1]
            return learning, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)

        learning, metrics = jax.lax.cond(iteration >= self.starts, learn, wait, Learning(state, stored.priority))
        return learning.state, stored._replace(priority=learning.priority), metrics
