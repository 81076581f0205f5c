"""Replay of sequences, kept on the device: uniform or prioritised.

The trajectory of one iteration is one block ``[T + 1, B, ...]``, exactly as collected, in a ring of blocks. The slot
written is derived from the iteration number and not stored: under ``vmap`` over seeds it is then not batched, and
the write stays in place (with a stored, batched index it becomes a scatter that copies the whole buffer).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.memory.base import Drawn, Memory, Stored, keep_priority
from comarl.types import Trajectory

Where = tuple[Int[Array, " batch"], Int[Array, " batch"]]
"""Block and environment of each sequence of a batch."""


def make_replay(blocks: int, batch_size: int, part: int = 0) -> Memory:
    """A replay of the last ``blocks`` iterations that draws ``batch_size`` sequences uniformly, with replacement.

    Each is as likely as any other, but a batch has equally many of each environment, or as nearly as can be: the
    environments are cut into ``batch_size`` equal parts with one draw in each. So devices that have some of the
    environments each can read their part of a batch without asking the others.

    Args:
        blocks: iterations kept; each holds ``B`` sequences of ``T`` transitions.
        batch_size: sequences in a batch.
        part: transitions that are drawn of a sequence, from wherever they begin; all of it if 0. The carry is that of
            the sequence's own beginning all the same: for agents to whom it means nothing.

    Raises:
        ValueError: if a size is less than one, or (by ``init``) if ``part`` is longer than ``T``.
    """
    _require_sizes(blocks, batch_size)

    def init(example: Trajectory) -> Stored:
        if not 0 <= part <= example.action.shape[0]:
            raise ValueError(f"part={part} must not be below 0 or above the {example.action.shape[0]} steps collected")
        return Stored(_empty_ring(example, blocks), ())

    def add(stored: Stored, trajectory: Trajectory, iteration: Int[Array, ""], key: PRNGKeyArray) -> Stored:
        del key
        return stored._replace(data=_write(stored.data, trajectory, iteration % blocks))

    def draw(stored: Stored, iteration: Int[Array, ""], number: Int[Array, ""], key: PRNGKeyArray) -> Drawn:
        del number
        block_key, env_key = jax.random.split(key)
        filled = jnp.minimum(iteration + 1, blocks)
        block = jax.random.randint(block_key, (batch_size,), 0, filled)
        steps, envs = stored.data.action.shape[1:3]
        # Of the numbers below batch_size * envs, of which each environment has batch_size, one in each part of envs.
        env = (jnp.arange(batch_size) * envs + jax.random.randint(env_key, (batch_size,), 0, envs)) // batch_size
        if not part:
            return Drawn((block, env), jnp.ones(batch_size))
        start = jax.random.randint(jax.random.fold_in(key, 0), (batch_size,), 0, steps - part + 1)
        return Drawn((block, env, start), jnp.ones(batch_size))

    def read_part(data: Trajectory, where: tuple[Array, Array, Array]) -> Trajectory:
        return _read_part(data, where, part)

    return Memory(init, add, draw, read_part if part else _read, keep_priority, ahead=True, by_environment=True)


class Priorities(NamedTuple):
    """How often each sequence is drawn.

    Attributes:
        of: ``[blocks, B]``; 0 where nothing is stored yet.
        largest: the largest priority that any sequence ever had; a new one begins with it.
    """

    of: Float[Array, "blocks B"]
    largest: Float[Array, ""]


SMALLEST_PRIORITY = 1e-6
"""Added to every error, so that a sequence without one is still drawn now and then."""


def make_prioritised(blocks: int, batch_size: int, alpha: float, beta: optax.Schedule) -> Memory:
    r"""A replay that draws sequences in proportion to their priorities (Schaul et al. 2016, algorithm 1).

    .. math:: P(i) = p_i^α / \sum_k p_k^α, \qquad w_i = (n P(i))^{-β} / \max_j w_j

    where ``n`` sequences are stored and the maximum is that of the batch. As in the paper's proportional variant the
    range of cumulated priorities is cut into ``batch_size`` equal parts with one draw in each.

    Args:
        blocks: iterations kept; each holds ``B`` sequences of ``T`` transitions.
        batch_size: sequences in a batch.
        alpha: α; 0 draws uniformly.
        beta: β at each iteration; 1 corrects for the uneven draw in full.

    Raises:
        ValueError: if ``blocks`` or ``batch_size`` is less than one.
    """
    _require_sizes(blocks, batch_size)

    def init(example: Trajectory) -> Stored:
        priority = jnp.zeros((blocks, example.action.shape[1]))
        return Stored(_empty_ring(example, blocks), Priorities(priority, jnp.ones(())))

    def add(stored: Stored, trajectory: Trajectory, iteration: Int[Array, ""], key: PRNGKeyArray) -> Stored:
        del key
        slot = iteration % blocks
        new = jnp.full(stored.priority.of.shape[1:], stored.priority.largest)
        priority = jax.lax.dynamic_update_index_in_dim(stored.priority.of, new, slot, axis=0)
        return Stored(_write(stored.data, trajectory, slot), stored.priority._replace(of=priority))

    def draw(stored: Stored, iteration: Int[Array, ""], number: Int[Array, ""], key: PRNGKeyArray) -> Drawn:
        del number
        envs = stored.priority.of.shape[1]
        count = jnp.minimum(iteration + 1, blocks) * envs
        # 0 to the power α = 0 is 1: what is not stored is left out by name.
        stocked = jnp.arange(stored.priority.of.size) < count
        share = jnp.where(stocked, stored.priority.of.reshape(-1) ** alpha, 0.0)
        cumulated = jnp.cumsum(share)
        draw = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
        found = jnp.searchsorted(cumulated, draw * cumulated[-1], side="right")
        found = jnp.minimum(found, count - 1).astype(jnp.int32)  # rounding may carry a draw to the very end
        # (n P)^-β up to a factor that the division by the largest takes away.
        weight = share[found] ** -jnp.asarray(beta(iteration))
        return Drawn((found // envs, found % envs), weight / weight.max())

    def reprioritise(priority: Priorities, where: Where, error: Float[Array, " batch"]) -> Priorities:
        new = error + SMALLEST_PRIORITY
        return Priorities(priority.of.at[where].set(new), jnp.maximum(priority.largest, new.max()))

    return Memory(init, add, draw, _read, reprioritise)


MAX_SHARE = 0.9
"""η of R2D2: the share of the largest error, against that of the mean, in a sequence's priority."""


def sequence_error(error: Float[Array, "T B"], real: Bool[Array, "T B"]) -> Float[Array, " B"]:
    """η max + (1 - η) mean of the absolute errors over a sequence's real steps (Kapturowski et al. 2019, §2.3)."""
    error = jnp.where(real, error, 0.0)
    mean = error.sum(0) / jnp.maximum(real.sum(0), 1)
    return MAX_SHARE * error.max(0) + (1 - MAX_SHARE) * mean


def _require_sizes(blocks: int, batch_size: int) -> None:
    if blocks < 1 or batch_size < 1:
        raise ValueError(f"blocks and batch_size must be at least 1, got {blocks} and {batch_size}")


def _empty_ring(example: Trajectory, blocks: int) -> Trajectory:
    return jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), example)


def _write(ring: Trajectory, trajectory: Trajectory, slot: Int[Array, ""]) -> Trajectory:
    return jax.tree.map(lambda r, x: jax.lax.dynamic_update_index_in_dim(r, x, slot, axis=0), ring, trajectory)


def _read(ring: Trajectory, where: Where) -> Trajectory:
    block, env = where
    env = env % ring.action.shape[2]  # of a share of the environments, whose first has the number 0 here
    # A carry has no time axis: [blocks, B, ...] against [blocks, T + 1, B, ...].
    sequences: Any = jax.tree.map(lambda x: x[block, :, env].swapaxes(0, 1), ring._replace(carry=None))
    return sequences._replace(carry=jax.tree.map(lambda x: x[block, env], ring.carry))


def _read_part(ring: Trajectory, where: tuple[Array, Array, Array], steps: int) -> Trajectory:
    block, env, start = where
    env = env % ring.action.shape[2]
    time = start[None] + jnp.arange(steps + 1)[:, None]
    at = (jnp.broadcast_to(block, time.shape), time, jnp.broadcast_to(env, time.shape))
    done = jax.tree.map(lambda i: i[:-1], at)
    carry = jax.tree.map(lambda x: x[block, env], ring.carry)
    notes = jax.tree.map(lambda x: x[done], ring.notes)
    return Trajectory(jax.tree.map(lambda x: x[at], ring.ts), ring.action[done], carry, notes)
