"""Add, sample and update, with an algorithm and a memory that only count."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from comarl.algos.base import Update
from comarl.memory.base import Batch, Drawn, Memory, Stored
from comarl.training.learner import Learner
from comarl.types import TimeStep, Trajectory

KEY = jax.random.key(0)


def trajectory(number: float) -> Trajectory:
    ts = TimeStep(
        obs=jnp.full((2, 1, 1, 1), number),
        state=jnp.zeros((2, 1, 1)),
        avail=jnp.ones((2, 1, 1, 1), bool),
        reward=jnp.zeros((2, 1, 1)),
        discount=jnp.ones((2, 1)),
        first=jnp.zeros((2, 1), bool),
        last=jnp.zeros((2, 1), bool),
    )
    return Trajectory(ts, jnp.zeros((1, 1, 1), jnp.int32), ())


def wide(of: Trajectory, envs: int) -> Trajectory:
    return jax.tree.map(lambda x: jnp.repeat(x, envs, axis=1), of)


class Counting:
    """Its state is the number of updates; it reports that number, what it was shown and a random number.

    Its error is the number of updates, too.
    """

    def init(self, key: Array) -> Any:
        del key
        return jnp.zeros(())

    def policy(self, state: Any, env_steps: Any) -> Any:
        raise AssertionError("a learner does not act")

    def schedules(self, env_steps: int) -> dict[str, float]:
        return {}

    def annotate(self, state: Any, trajectory: Trajectory, env_steps: Array, key: Array) -> Trajectory:
        return trajectory._replace(notes=(state, env_steps, jax.random.uniform(key)))

    def update(self, state: Any, batch: Batch, key: Array) -> Update:
        shown = {"batch": batch.trajectory.ts.obs.mean(), "weight": batch.weight.mean(), "where": batch.where}
        return Update(state + 1, {"number": state, "noise": jax.random.uniform(key), **shown}, state[None] + 1)


LATEST = Memory(
    init=lambda example: Stored(example, jnp.zeros(())),
    add=lambda stored, x, iteration, key: stored._replace(data=x),
    # The weight is the priority, so that it is seen what the memory was told; ``where`` is the number of the draw.
    draw=lambda stored, iteration, number, key: Drawn(number.astype(jnp.float32), stored.priority[None]),
    read=lambda data, where: data,
    reprioritise=lambda priority, where, error: priority + 100 * where + error[0],
)
RANDOM = LATEST._replace(
    draw=lambda stored, iteration, number, key: Drawn(jax.random.uniform(key), jnp.ones(1)),
    read=lambda data, where: jax.tree.map(lambda x: x + where, data),
)
EMPTY = LATEST.init(trajectory(1))


def learner(updates: int, starts: int) -> Learner:
    return Learner(Counting(), LATEST, updates=updates, starts=starts)


def test_learns_from_what_was_just_stored() -> None:
    state, memory, metrics = learner(4, 0).step(jnp.zeros(()), EMPTY, trajectory(7), jnp.asarray(0), KEY)
    assert state == 4
    assert memory.data.ts.obs.mean() == 7
    assert metrics["batch"] == 7
    assert metrics["number"] == np.mean([0, 1, 2, 3])  # the mean over this iteration's updates


def test_notes_are_made_before_the_first_update() -> None:
    _, memory, metrics = learner(1, 0).step(jnp.asarray(5.0), EMPTY, wide(trajectory(7), 4), jnp.asarray(3), KEY)
    state, env_steps, noise = memory.data.notes
    assert state == 5
    assert env_steps == 12  # three iterations of one step in four environments came before
    assert noise != metrics["noise"]  # a key of its own


def test_draws_are_numbered_and_priorities_carried_from_one_to_the_next() -> None:
    _, memory, metrics = learner(3, 0).step(jnp.zeros(()), EMPTY, trajectory(7), jnp.asarray(0), KEY)
    assert metrics["where"] == 1  # of 0, 1, 2
    # After the draws 0, 1, 2 with errors 1, 2, 3: 1, 1 + 102, 1 + 102 + 203. Each draw sees what came before it.
    assert memory.priority == 306
    np.testing.assert_allclose(metrics["weight"], (0 + 1 + 103) / 3, rtol=1e-6)


def test_each_update_has_its_own_key() -> None:
    def noise(updates: int) -> float:
        done = learner(updates, 0).step(jnp.zeros(()), EMPTY, trajectory(0), jnp.asarray(0), KEY)
        return float(done[2]["noise"])

    # With one key for all, the mean of many would be the first.
    keys = jax.random.split(KEY, 4)
    wanted = [float(jax.random.uniform(jax.random.split(k)[1])) for k in keys]
    assert len(set(wanted)) == 4
    np.testing.assert_allclose(noise(4), np.mean(wanted), rtol=1e-5)


def test_stores_but_does_not_learn_nor_report_before_its_start() -> None:
    step = jax.jit(learner(2, starts=3).step)
    state, memory = jnp.zeros(()), EMPTY
    for iteration in range(5):
        state, memory, metrics = step(state, memory, trajectory(iteration), jnp.asarray(iteration), KEY)
        assert memory.data.ts.obs.mean() == iteration
        assert (memory.priority > 0) == (iteration >= 3)
        assert state == 2 * max(0, iteration - 2)
        assert all(jnp.isnan(x) == (iteration < 3) for x in metrics.values())


def test_batches_drawn_ahead_are_those_drawn_one_by_one() -> None:
    results = []
    for ahead in (False, True):
        updater = Learner(Counting(), RANDOM._replace(ahead=ahead), updates=5, starts=0)
        results.append(updater.step(jnp.zeros(()), EMPTY, trajectory(7), jnp.asarray(0), KEY))
    assert jax.tree.structure(results[0]) == jax.tree.structure(results[1])
    for one, ahead in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_array_equal(one, ahead)
