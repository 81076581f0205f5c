"""The ring of blocks against a plain list, and its writes: in place, alone and for several seeds."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.memory.base import Memory
from comarl.memory.replay import make_replay
from comarl.types import TimeStep, Trajectory

T, B, N, A = 4, 3, 2, 2
KEY = jax.random.key(0)


def labelled(iteration: int, wide: int = 1) -> Trajectory:
    """Every number says where it comes from: 1000 · iteration + 10 · environment + time."""
    label = 1000 * iteration + 10 * jnp.arange(B)[None] + jnp.arange(T + 1)[:, None]  # [T + 1, B]
    number = label.astype(jnp.float32)
    ts = TimeStep(
        obs=jnp.tile(number[..., None, None], (1, 1, N, wide)),
        state=number[..., None],
        avail=jnp.ones((T + 1, B, N, A), bool),
        reward=jnp.tile(number[..., None], (1, 1, N)),
        discount=number,
        first=label % 2 == 0,
        last=label % 3 == 0,
    )
    return Trajectory(ts, jnp.tile(label[:-1, :, None], (1, 1, N)), {"h": number[0], "last_action": label[0]})


def fill(replay: Memory, iterations: int) -> Any:
    add = jax.jit(replay.add)
    memory = replay.init(jax.eval_shape(labelled, 0))
    for i in range(iterations):
        memory = add(memory, labelled(i), i)
    return memory


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7])
def test_samples_whole_sequences_of_the_last_blocks(iterations: int) -> None:
    blocks = 3
    replay = make_replay(blocks, batch_size=200)
    memory = fill(replay, iterations)
    batch = jax.jit(replay.sample)(memory, iterations - 1, KEY)
    start = np.asarray(batch.carry["last_action"])  # the label of each sequence's first step
    label = start[None] + np.arange(T + 1)[:, None]  # in order of time, all of one environment and iteration
    np.testing.assert_array_equal(batch.ts.discount, label)
    np.testing.assert_array_equal(batch.ts.state[..., 0], label)
    np.testing.assert_array_equal(batch.ts.obs, np.tile(label[..., None, None], (1, 1, N, 1)))
    np.testing.assert_array_equal(batch.ts.reward, np.tile(label[..., None], (1, 1, N)))
    np.testing.assert_array_equal(batch.ts.first, label % 2 == 0)
    np.testing.assert_array_equal(batch.ts.last, label % 3 == 0)
    np.testing.assert_array_equal(batch.action, np.tile(label[:-1, :, None], (1, 1, N)))
    np.testing.assert_array_equal(batch.carry["h"], start)
    assert batch.ts.avail.all()
    # All that a list of the last three iterations would hold, and nothing else: no slot that was never written.
    kept = list(range(iterations))[-blocks:]
    assert sorted(set(start.tolist())) == [1000 * i + 10 * b for i in kept for b in range(B)]


def test_draws_uniformly() -> None:
    replay = make_replay(3, batch_size=9000)
    start = np.asarray(replay.sample(fill(replay, 4), jnp.asarray(3), KEY).carry["last_action"])
    counts = np.unique(start, return_counts=True)[1]
    # Nine sequences, 1000 expected of each with a standard deviation of 30.
    assert len(counts) == 9
    assert np.abs(counts - 1000).max() < 120


def test_keys_decide_the_draw() -> None:
    replay = make_replay(3, batch_size=8)
    memory, sample = fill(replay, 3), jax.jit(replay.sample)
    one, again, other = (sample(memory, 2, jax.random.key(k)).carry["last_action"] for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_the_memory_is_as_large_as_its_blocks() -> None:
    memory = make_replay(5, batch_size=1).init(jax.eval_shape(labelled, 0))
    for ring, x in zip(jax.tree.leaves(memory), jax.tree.leaves(labelled(0)), strict=True):
        assert ring.shape == (5, *x.shape)
        assert ring.dtype == x.dtype


@pytest.mark.parametrize(("blocks", "batch_size"), [(0, 1), (1, 0), (-1, 4)])
def test_refuses_sizes_below_one(blocks: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_replay(blocks, batch_size)


@pytest.mark.parametrize("seeds", [1, 2])
def test_writes_in_place(seeds: int) -> None:
    """The compiled program needs no room for another buffer, nor does it copy one; with several seeds neither."""
    blocks, wide = 64, 50
    replay = make_replay(blocks, batch_size=1)
    trajectories = jax.eval_shape(jax.vmap(lambda i: labelled(0, wide)), jnp.arange(seeds))
    memory = jax.eval_shape(jax.vmap(replay.init), trajectories)
    add = jax.jit(jax.vmap(replay.add, in_axes=(0, 0, None)), donate_argnums=0)
    compiled = add.lower(memory, trajectories, jnp.asarray(0)).compile()
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))
    used = compiled.memory_analysis()
    assert used.alias_size_in_bytes == size
    assert used.temp_size_in_bytes < size / 10
    ring = f"f32\\[{','.join(map(str, memory.ts.obs.shape))}\\]"
    assert re.search(ring, compiled.as_text())
    assert not re.search(rf"{ring}\S* copy\(", compiled.as_text())
