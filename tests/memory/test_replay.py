"""The ring of blocks against a plain list, and its writes: in place, alone and for several seeds."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.memory.base import Memory
from comarl.memory.replay import Priorities, make_prioritised, make_replay, sequence_error
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
        memory = add(memory, labelled(i), i, KEY)
    return memory


@pytest.mark.parametrize("part", [1, 3, T])
def test_parts_of_sequences_begin_anywhere(part: int) -> None:
    replay = make_replay(3, batch_size=300, part=part)
    batch = jax.jit(replay.sample)(fill(replay, 4), 3, 0, KEY).trajectory
    start = np.asarray(batch.ts.discount[0], int)
    assert batch.action.shape == (part, 300, N)
    label = start[None] + np.arange(part + 1)[:, None]
    np.testing.assert_array_equal(batch.ts.discount, label)
    np.testing.assert_array_equal(batch.ts.first, label % 2 == 0)
    np.testing.assert_array_equal(batch.action, np.tile(label[:-1, :, None], (1, 1, N)))
    # Of each of the last three iterations and each environment, every beginning that leaves room; no other.
    everywhere = 1000 * np.arange(1, 4)[:, None, None] + 10 * np.arange(B)[:, None] + np.arange(T - part + 1)
    assert set(start) == set(everywhere.reshape(-1))
    np.testing.assert_array_equal(batch.carry["last_action"], start // 10 * 10)


def test_a_part_is_not_longer_than_a_sequence() -> None:
    with pytest.raises(ValueError, match="part=5 must not be below 0 or above the 4 steps"):
        make_replay(3, 2, part=T + 1).init(jax.eval_shape(labelled, 0))


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7])
def test_samples_whole_sequences_of_the_last_blocks(iterations: int) -> None:
    blocks = 3
    replay = make_replay(blocks, batch_size=200)
    memory = fill(replay, iterations)
    batch = jax.jit(replay.sample)(memory, iterations - 1, 0, KEY)
    np.testing.assert_array_equal(batch.weight, np.ones(200))
    batch = batch.trajectory
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
    batch = replay.sample(fill(replay, 4), jnp.asarray(3), jnp.asarray(0), KEY)
    start = np.asarray(batch.trajectory.carry["last_action"])
    counts = np.unique(start, return_counts=True)[1]
    # Nine sequences, 1000 expected of each with a standard deviation of 30.
    assert len(counts) == 9
    assert np.abs(counts - 1000).max() < 120


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7])
def test_a_batch_goes_evenly_through_the_environments(batch_size: int) -> None:
    """Of each as many as can be, in their order; over many batches none is more likely than another."""
    replay = make_replay(3, batch_size)
    stored, batches = fill(replay, 3), 3000
    draw = jax.jit(jax.vmap(lambda key: replay.draw(stored, jnp.asarray(2), jnp.asarray(0), key).where[1]))
    env = np.asarray(draw(jax.random.split(KEY, batches)))
    assert (np.diff(env, axis=1) >= 0).all()
    counts = (env[..., None] == np.arange(B)).sum(1)
    assert counts.min() >= batch_size // B - (batch_size % B > 0)
    assert counts.max() <= -(-batch_size // B) + (batch_size % B > 0)
    # Of 3000 counts that are one of four neighbouring numbers at most, means are within .03 of each other and to spare.
    np.testing.assert_allclose(counts.mean(0), batch_size / B, atol=0.06)


@pytest.mark.parametrize("part", [0, 2])
def test_a_share_of_a_batch_is_in_the_same_share_of_the_data(part: int) -> None:
    """Where devices have an environment each, all read what one would."""
    replay = make_replay(3, 6, part)
    stored = fill(replay, 4)
    batch = jax.jit(replay.sample)(stored, 3, 0, KEY)
    for env in range(B):
        behind = lambda x, env=env: x[:, :, env : env + 1]  # noqa: E731
        share: Any = jax.tree.map(behind, stored.data._replace(carry=None))
        share = share._replace(carry=jax.tree.map(lambda x, env=env: x[:, env : env + 1], stored.data.carry))
        own = replay.read(share, jax.tree.map(lambda x, env=env: x[2 * env : 2 * env + 2], batch.where))
        np.testing.assert_array_equal(own.ts.obs, batch.trajectory.ts.obs[:, 2 * env : 2 * env + 2])
        np.testing.assert_array_equal(own.carry["h"], batch.trajectory.carry["h"][2 * env : 2 * env + 2])


def test_keys_decide_the_draw() -> None:
    replay = make_replay(3, batch_size=8)
    memory, sample = fill(replay, 3), jax.jit(replay.sample)
    one, again, other = (sample(memory, 2, 0, jax.random.key(k)).trajectory.carry["last_action"] for k in (0, 0, 1))
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


@pytest.mark.parametrize("kind", ["uniform", "prioritised"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_writes_in_place(seeds: int, kind: str) -> None:
    """The compiled program needs no room for another buffer, nor does it copy one; with several seeds neither."""
    blocks, wide = 64, 50
    replay = make_replay(blocks, 1) if kind == "uniform" else prioritised(blocks, 1)
    trajectories = jax.eval_shape(jax.vmap(lambda i: labelled(0, wide)), jnp.arange(seeds))
    memory = jax.eval_shape(jax.vmap(replay.init), trajectories)
    add = jax.jit(jax.vmap(replay.add, in_axes=(0, 0, None, None)), donate_argnums=0)
    compiled = add.lower(memory, trajectories, jnp.asarray(0), KEY).compile()
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))
    used = compiled.memory_analysis()
    assert used.alias_size_in_bytes == size
    assert used.temp_size_in_bytes < size / 10
    ring = f"f32\\[{','.join(map(str, memory.data.ts.obs.shape))}\\]"
    assert re.search(ring, compiled.as_text())
    assert not re.search(rf"{ring}\S* copy\(", compiled.as_text())


# Prioritised.


def prioritised(blocks: int, batch_size: int, alpha: float = 0.5, beta: float = 0.4) -> Memory:
    return make_prioritised(blocks, batch_size, alpha, lambda _: jnp.asarray(beta))


def test_probabilities_and_weights_by_hand() -> None:
    """Six sequences with priorities of their own, α = 1/2, β = .4; the third block is not written yet."""
    size = 60_000
    replay = prioritised(3, size)
    stored = fill(replay, 2)
    p = np.array([[1.0, 4.0, 9.0], [16.0, 0.25, 1.0]])
    priority = jnp.zeros((3, B)).at[:2].set(p)
    stored = stored._replace(priority=Priorities(priority, jnp.asarray(16.0)))
    batch = jax.jit(replay.sample)(stored, 1, 0, KEY)
    block, env = map(np.asarray, batch.where)
    chance = np.sqrt(p) / np.sqrt(p).sum()  # roots 1, 2, 3, 4, 1/2, 1: of 11.5
    np.testing.assert_allclose(chance[0], np.array([1, 2, 3]) / 11.5)
    counts = np.zeros((3, B))
    np.add.at(counts, (block, env), 1)
    assert not counts[2].any()
    # One draw in each of 60,000 equal parts: no count is further from its mean than the two parts at its ends.
    np.testing.assert_allclose(counts[:2], size * chance, atol=2)
    weight = (6 * chance) ** -0.4
    np.testing.assert_allclose(batch.weight, (weight / weight.max())[block, env], rtol=1e-4)
    # What was drawn is what is given.
    np.testing.assert_array_equal(batch.trajectory.carry["last_action"], 1000 * block + 10 * env)


def test_draws_are_random_within_their_parts() -> None:
    """Few draws among many alike: each is uniform in its part, and parts do not overlap."""
    replay = prioritised(3, batch_size=3)
    stored, sample = fill(replay, 3), jax.jit(replay.sample)
    drawn = [np.asarray(sample(stored, 2, 0, k).trajectory.carry["last_action"]) for k in jax.random.split(KEY, 60)]
    for part in range(3):
        assert {int(x[part]) for x in drawn} == {1000 * part + 10 * b for b in range(B)}


def test_alpha_zero_draws_uniformly_with_equal_weights() -> None:
    replay = prioritised(3, 9000, alpha=0.0, beta=1.0)
    stored = fill(replay, 2)
    stored = stored._replace(priority=stored.priority._replace(of=stored.priority.of.at[0, 0].set(100.0)))
    batch = jax.jit(replay.sample)(stored, 1, 0, KEY)
    np.testing.assert_array_equal(batch.weight, np.ones(9000))
    counts = np.unique(np.asarray(batch.where[0]) * B + np.asarray(batch.where[1]), return_counts=True)
    np.testing.assert_array_equal(counts[0], range(6))
    np.testing.assert_allclose(counts[1], 1500, atol=2)


def test_beta_follows_the_iteration() -> None:
    replay = make_prioritised(2, 50, 1.0, lambda iteration: iteration / 4)
    priority = Priorities(jnp.array([[1.0, 2.0, 4.0], [8.0, 8.0, 8.0]]), jnp.asarray(8.0))
    stored, sample = fill(replay, 2)._replace(priority=priority), jax.jit(replay.sample)
    for iteration, beta in ((2, 0.5), (4, 1.0)):
        batch = sample(stored, iteration, 0, KEY)
        p = np.asarray(priority.of)[batch.where]
        np.testing.assert_allclose(batch.weight, (p / p.min()) ** -beta, rtol=1e-4)


def test_new_sequences_have_the_largest_priority_so_far() -> None:
    replay = prioritised(2, 4)
    add, reprioritise = jax.jit(replay.add), jax.jit(replay.reprioritise)
    stored = add(fill(replay, 0), labelled(0), 0, KEY)
    np.testing.assert_array_equal(stored.priority.of, [[1, 1, 1], [0, 0, 0]])
    where = (jnp.array([0, 0]), jnp.array([0, 2]))
    stored = stored._replace(priority=reprioritise(stored.priority, where, jnp.array([5.0, 0.5])))
    np.testing.assert_allclose(stored.priority.of, [[5, 1, 0.5], [0, 0, 0]], atol=1e-5)
    # The largest is remembered even when that sequence turns out to be easy later.
    stored = stored._replace(priority=reprioritise(stored.priority, where, jnp.array([0.0, 0.0])))
    stored = add(add(stored, labelled(1), 1, KEY), labelled(2), 2, KEY)
    np.testing.assert_allclose(stored.priority.of, np.full((2, B), 5.0), atol=1e-5)
    assert stored.priority.of.min() > 0


def test_a_sequence_without_error_is_still_drawn() -> None:
    replay = prioritised(1, 1, alpha=1.0)
    priority = replay.reprioritise(
        Priorities(jnp.ones((1, B)), jnp.ones(())), (jnp.zeros(3, int), jnp.arange(3)), jnp.zeros(3)
    )
    assert (priority.of > 0).all()


def test_errors_of_a_sequence_are_mixed() -> None:
    """η = .9 of the largest and .1 of the mean, over real steps alone."""
    error = jnp.array([[1.0, 2.0, 9.0], [3.0, 0.0, 9.0], [8.0, 1.0, 9.0]])
    real = jnp.array([[True, True, False], [True, True, False], [False, True, False]])
    got = sequence_error(error, real)
    np.testing.assert_allclose(got, [0.9 * 3 + 0.1 * 2, 0.9 * 2 + 0.1 * 1, 0], rtol=1e-6)


@pytest.mark.parametrize(("blocks", "batch_size"), [(0, 1), (1, 0)])
def test_prioritised_refuses_sizes_below_one(blocks: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prioritised(blocks, batch_size)
