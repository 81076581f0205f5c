"""No memory beyond the iteration: what was just collected, in shuffled minibatches of sequences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.memory.base import Drawn, Memory, Stored, keep_priority
from comarl.types import Trajectory


class Shuffled(NamedTuple):
    """The trajectory of this iteration.

    Attributes:
        trajectory: exactly as collected.
        order: the sequences of each update, ``[epochs * minibatches, B / minibatches]``.
    """

    trajectory: Trajectory
    order: Int[Array, "updates batch"]


def make_onpolicy(epochs: int, minibatches: int) -> Memory:
    """Goes through the ``B`` sequences of the iteration ``epochs`` times, each time in ``minibatches`` drawn anew.

    Every sequence is in exactly one minibatch of an epoch. An iteration has ``epochs * minibatches`` updates; update
    ``number`` has minibatch ``number % minibatches`` of epoch ``number // minibatches``.

    Raises:
        ValueError: if either is less than one, or (by ``init``) if ``minibatches`` does not divide ``B``.
    """
    if epochs < 1 or minibatches < 1:
        raise ValueError(f"epochs and minibatches must be at least 1, got {epochs} and {minibatches}")

    def init(example: Trajectory) -> Stored:
        envs = example.action.shape[1]
        if envs % minibatches:
            raise ValueError(f"{minibatches} minibatches do not divide {envs} sequences")
        trajectory = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
        return Stored(Shuffled(trajectory, jnp.zeros((epochs * minibatches, envs // minibatches), jnp.int32)), ())

    def add(stored: Stored, trajectory: Trajectory, iteration: Int[Array, ""], key: PRNGKeyArray) -> Stored:
        del iteration
        envs = trajectory.action.shape[1]
        permute = jax.vmap(lambda k: jax.random.permutation(k, envs))
        order = permute(jax.random.split(key, epochs)).reshape(stored.data.order.shape)
        return stored._replace(data=Shuffled(trajectory, order.astype(jnp.int32)))

    def draw(stored: Stored, iteration: Int[Array, ""], number: Int[Array, ""], key: PRNGKeyArray) -> Drawn:
        del iteration, key
        env = stored.data.order[number]
        return Drawn(env, jnp.ones(env.shape))

    return Memory(init, add, draw, _read, keep_priority)


def _read(data: Shuffled, env: Int[Array, " batch"]) -> Trajectory:
    whole = data.trajectory
    sequences: Any = jax.tree.map(lambda x: x[:, env], whole._replace(carry=None))
    return sequences._replace(carry=jax.tree.map(lambda x: x[env], whole.carry))
