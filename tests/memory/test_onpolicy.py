"""Shuffled minibatches: every sequence once an epoch, from this iteration alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.memory.base import Memory, Stored
from comarl.memory.onpolicy import make_onpolicy
from tests.memory.test_replay import B, T, labelled

KEY = jax.random.key(0)
EPOCHS = 3


def draws(memory: Memory, stored: Stored, updates: int) -> list[Any]:
    sample = jax.jit(memory.sample)
    return [sample(stored, 5, number, jax.random.key(number)) for number in range(updates)]


@pytest.mark.parametrize("minibatches", [1, 3])
def test_every_sequence_exactly_once_an_epoch(minibatches: int) -> None:
    memory = make_onpolicy(EPOCHS, minibatches)
    stored = memory.init(jax.eval_shape(labelled, 0))
    add = jax.jit(memory.add)
    stored = add(add(stored, labelled(4), 4, KEY), labelled(5), 5, KEY)
    batches = draws(memory, stored, EPOCHS * minibatches)
    for batch in batches:
        assert batch.trajectory.action.shape[:2] == (T, B // minibatches)
        np.testing.assert_array_equal(batch.weight, np.ones(B // minibatches))
        start = np.asarray(batch.trajectory.carry["last_action"])
        label = start[None] + np.arange(T + 1)[:, None]
        np.testing.assert_array_equal(batch.trajectory.ts.discount, label)
        np.testing.assert_array_equal(batch.trajectory.action[..., 0], label[:-1])
        np.testing.assert_array_equal(batch.trajectory.carry["h"], start)
    for epoch in range(EPOCHS):
        own = batches[epoch * minibatches : (epoch + 1) * minibatches]
        seen = sorted(int(x) for batch in own for x in batch.trajectory.carry["last_action"])
        assert seen == [5000 + 10 * b for b in range(B)]  # and nothing of the iteration before


def test_epochs_and_iterations_are_shuffled_apart() -> None:
    memory = make_onpolicy(8, 1)
    stored, add = memory.init(jax.eval_shape(labelled, 0)), jax.jit(memory.add)
    one, again, other = (add(stored, labelled(0), 0, jax.random.key(k)).data.order for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert len(np.unique(one, axis=0)) > 1


def test_refuses_minibatches_of_unequal_size() -> None:
    with pytest.raises(ValueError, match="2 minibatches do not divide 3 sequences"):
        make_onpolicy(1, 2).init(jax.eval_shape(labelled, 0))


@pytest.mark.parametrize(("epochs", "minibatches"), [(0, 1), (1, 0)])
def test_refuses_sizes_below_one(epochs: int, minibatches: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_onpolicy(epochs, minibatches)


def test_several_seeds_have_orders_of_their_own() -> None:
    memory = make_onpolicy(8, 1)
    stored = jax.vmap(lambda _: memory.init(labelled(0)))(jnp.arange(2))
    trajectories = jax.tree.map(lambda x: jnp.stack([x, x]), labelled(0))
    add = jax.vmap(memory.add, in_axes=(0, 0, None, 0))
    order = add(stored, trajectories, jnp.asarray(0), jax.random.split(KEY)).data.order
    assert (order[0] != order[1]).any()
