"""Uniform replay of sequences, kept on the device.

The trajectory of one iteration is one block ``[T + 1, B, ...]``, exactly as collected, in a ring of blocks. The slot
written is derived from the iteration number and not stored: under ``vmap`` over seeds it is then not batched, and
the write stays in place (with a stored, batched index it becomes a scatter that copies the whole buffer).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.memory.base import Memory
from comarl.types import Trajectory


def make_replay(blocks: int, batch_size: int) -> Memory:
    """A replay of the last ``blocks`` iterations that draws ``batch_size`` sequences uniformly, with replacement.

    Args:
        blocks: iterations kept; each holds ``B`` sequences of ``T`` transitions.
        batch_size: sequences in a batch.

    Raises:
        ValueError: if either is less than one.
    """
    if blocks < 1 or batch_size < 1:
        raise ValueError(f"blocks and batch_size must be at least 1, got {blocks} and {batch_size}")

    def init(example: Trajectory) -> Any:
        return jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), example)

    def add(memory: Any, trajectory: Trajectory, iteration: Int[Array, ""]) -> Any:
        slot = iteration % blocks
        return jax.tree.map(
            lambda ring, x: jax.lax.dynamic_update_index_in_dim(ring, x, slot, axis=0), memory, trajectory
        )

    def sample(memory: Any, iteration: Int[Array, ""], key: PRNGKeyArray) -> Trajectory:
        block_key, env_key = jax.random.split(key)
        filled = jnp.minimum(iteration + 1, blocks)
        block = jax.random.randint(block_key, (batch_size,), 0, filled)
        env = jax.random.randint(env_key, (batch_size,), 0, memory.action.shape[2])
        # A carry has no time axis: [blocks, B, ...] against [blocks, T + 1, B, ...].
        sequences = jax.tree.map(lambda x: x[block, :, env].swapaxes(0, 1), memory._replace(carry=None))
        return sequences._replace(carry=jax.tree.map(lambda x: x[block, env], memory.carry))

    return Memory(init, add, sample)
