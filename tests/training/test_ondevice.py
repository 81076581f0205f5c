"""The compiled loop: what it collects, that seeds keep apart, that a saved state goes on as if never stopped."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.training import checkpoint
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.ondevice import ChunkLog, OnDevice, RunState, count_faults
from comarl.training.seeds import SEED_AXES
from comarl.types import TimeStep
from tests.probes import Lottery, alone, standard_driver, unshared


class Counted(Lottery):
    """Counts how often its step is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.traces = 0

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, TimeStep]:
        self.traces += 1
        return super().step(state, action, key)


class Run(NamedTuple):
    """A driver, its compiled chunk and three chunks of seed 3; states and logs on the host."""

    driver: OnDevice
    chunk: Any
    traces: list[int]
    states: list[RunState]
    logs: list[ChunkLog]


@pytest.fixture(scope="module")
def begin() -> RunState:
    """The initial state of seeds 3 and 4, made together."""
    return jax.device_get(jax.jit(jax.vmap(standard_driver(Lottery()).init, out_axes=SEED_AXES))(jnp.array([3, 4])))


@pytest.fixture(scope="module")
def run(begin: RunState) -> Run:
    env = Counted()
    driver = standard_driver(env)
    chunk = jax.jit(driver.chunk, donate_argnums=0)
    state = alone(begin, 0)
    states, logs, traces = [jax.device_get(state)], [], []
    for _ in range(3):
        state, log = chunk(state)
        traces.append(env.traces)
        states.append(jax.device_get(state))
        logs.append(jax.device_get(log))
    return Run(driver, chunk, traces, states, logs)


@pytest.fixture(scope="module")
def together(begin: RunState) -> Any:
    """The compiled chunk of both seeds."""
    chunk = jax.vmap(standard_driver(Lottery()).chunk, in_axes=(SEED_AXES,), out_axes=(SEED_AXES, 0))
    return jax.jit(chunk, donate_argnums=0).lower(begin).compile()


def assert_same(a: Any, b: Any, **tolerance: float) -> None:
    compare = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    jax.tree.map(lambda x, y: compare(x, y, **tolerance), a, b)


def blocks(run: Run) -> Any:
    """Everything that was collected, in order of time: leaves ``[9, T + 1, B, ...]``."""
    return jax.tree.map(lambda x: x[:9], run.states[3].memory.data)


def test_one_trace(run: Run) -> None:
    assert run.traces[0] > 0
    assert run.traces == run.traces[:1] * 3
    assert run.chunk._cache_size() == 1


def test_counts_its_iterations(run: Run) -> None:
    assert [int(s.iteration) for s in run.states] == [0, 3, 6, 9]
    assert [int(s.learner.updates) for s in run.states] == [0, 4, 10, 16]  # 2 in every iteration but the first


def test_metrics_are_not_a_number_before_learning_starts(run: Run) -> None:
    for values in run.logs[0].metrics.values():
        np.testing.assert_array_equal(np.isnan(values), [True, False, False])
    assert set(run.logs[0].metrics) == {"loss", "q_tot", "td_error", "grad_norm"}
    assert all(np.isfinite(v).all() for v in run.logs[1].metrics.values())


# What is collected. Lottery's observation is (name of the episode, step, agent, 1); agent i earns action_i + i.


def test_blocks_follow_one_another(run: Run) -> None:
    ts = blocks(run).ts
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[1:, 0], x[:-1, -1]), ts)
    np.testing.assert_array_equal(ts.obs[0, 0], run.states[0].actors.ts.obs)


def test_episodes_follow_one_another(run: Run) -> None:
    ts, action = blocks(run).ts, blocks(run).action
    np.testing.assert_array_equal(ts.first[:, 1:], ts.last[:, :-1])
    time, name = ts.obs[..., 0, 1], ts.obs[..., 0, 0]
    begins = ts.first[:, 1:]
    np.testing.assert_array_equal(time[:, 1:], np.where(begins, 0, time[:, :-1] + 1))
    np.testing.assert_array_equal(name[:, 1:] == name[:, :-1], ~begins)  # a new name for every episode
    earned = np.where(begins[..., None], 0, action + np.arange(2))
    np.testing.assert_array_equal(ts.reward[:, 1:], earned)
    length = ts.state[..., 2]
    np.testing.assert_array_equal(ts.last, time == length)  # the last observation is there, with its own step
    np.testing.assert_array_equal(ts.discount, np.where(ts.last & (length % 2 == 1), 0, 1))
    assert ts.last.sum() > 20


def test_only_available_actions_are_taken(run: Run) -> None:
    """Also on last steps, and with ε close to 1."""
    ts, action = blocks(run).ts, blocks(run).action
    assert np.take_along_axis(ts.avail[:, :-1], action[..., None], axis=-1).all()


def test_the_carry_is_that_of_the_first_step(run: Run) -> None:
    memory = blocks(run)
    np.testing.assert_array_equal(memory.carry.last_action[1:], memory.action[:-1, -1])
    # The second block's memory is what the first block's observations leave behind (nothing was learned yet).
    agent = jax.tree.map(jnp.asarray, run.states[0].learner.online.agent)
    carry, ts, action = jax.tree.map(lambda x: x[0], (memory.carry, memory.ts, memory.action))
    ts = jax.tree.map(lambda x: x[:-1], ts)
    unroll = jax.vmap(lambda c, t, a: agent.unroll(c, t, a)[0], in_axes=(0, 1, 1))
    end = jax.jit(unroll)(carry, ts, action[:-1])
    np.testing.assert_allclose(memory.carry.memory[1], end, rtol=1e-4, atol=1e-6)


def test_finished_episodes_are_counted_once_with_all_their_rewards(run: Run) -> None:
    ts = blocks(run).ts
    finished = jax.tree.map(lambda *x: np.concatenate(x), *(log.finished for log in run.logs))  # [9, T, B]
    np.testing.assert_array_equal(finished.ended, ts.last[:, 1:])
    running, lengths = np.zeros((4, 2)), np.zeros(4, int)
    for k in range(9):
        for t in range(1, 7):
            for b in range(4):
                running[b] = 0 if ts.first[k, t, b] else running[b] + ts.reward[k, t, b]
                lengths[b] = 0 if ts.first[k, t, b] else lengths[b] + 1
                if ts.last[k, t, b]:
                    np.testing.assert_allclose(finished.returns[k, t - 1, b], running[b])
                    assert finished.length[k, t - 1, b] == lengths[b] == ts.state[k, t, b, 2]
                    assert finished.outcome["odd"][k, t - 1, b] == lengths[b] % 2


def test_faults_of_the_environment_are_counted(run: Run) -> None:
    assert all((x == 0).all() for x in jax.tree.leaves(run.logs[0].faults))
    ts = jax.tree.map(lambda x: jnp.asarray(x[0]), blocks(run).ts)
    assert count_faults(ts) == (0, 0, 0)
    ill = ts._replace(
        reward=ts.reward.at[2, 1, 0].set(jnp.nan).at[3, 0, 1].set(jnp.inf),
        avail=ts.avail.at[4, 2, 1].set(False),
    )
    assert count_faults(ill) == (2, 1, 0)


# Seeds.


def test_seeds_differ_in_every_initial_parameter_and_in_everything_else(begin: RunState) -> None:
    leaves = jax.tree.leaves((begin.learner.online, begin.learner.target))
    assert len(leaves) > 20
    assert all((leaf[0] != leaf[1]).all() for leaf in leaves)
    assert (begin.actors.ts.obs[0] != begin.actors.ts.obs[1]).any()
    np.testing.assert_array_equal(begin.seed, [3, 4])


def test_environments_of_one_seed_differ(begin: RunState) -> None:
    names = begin.actors.ts.obs[:, :, 0, 0]
    assert len(set(names.reshape(-1).tolist())) == 8


@pytest.mark.paper  # slow, and like test_mapped_seeds_are_the_seeds_side_by_side
def test_two_seeds_together_are_each_alone(run: Run, together: Any, begin: RunState) -> None:
    state, logs = unshared(begin), []
    for _ in range(3):
        state, log = together(state)
        logs.append(log)
    assert_same(alone(state, 0), run.states[3], rtol=1e-5, atol=1e-5)
    for log, of_one in zip(logs, run.logs, strict=True):
        assert_same(jax.tree.map(lambda x: x[0], log), of_one, rtol=1e-4, atol=1e-5)
    other = alone(begin, 1)
    for _ in range(3):
        other, _ = run.chunk(other)
    assert_same(alone(state, 1), other, rtol=1e-5, atol=1e-5)


def test_same_seed_same_result(run: Run, begin: RunState) -> None:
    state = alone(begin, 0)
    for k in range(3):
        state, log = run.chunk(state)
        assert_same(log, run.logs[k])
    assert_same(state, run.states[3])


def test_another_seed_another_result(run: Run, begin: RunState) -> None:
    _, log = run.chunk(alone(begin, 1))
    assert (log.finished.ended != run.logs[0].finished.ended).any()


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_buffer_is_written_in_place(run: Run, together: Any, begin: RunState, seeds: int) -> None:
    """The compiled chunk keeps the donated buffer and needs no room for another, for several seeds neither."""
    compiled = run.chunk.lower(run.states[0]).compile() if seeds == 1 else together
    memory = run.states[0].memory if seeds == 1 else begin.memory
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))
    used = compiled.memory_analysis()
    assert used.alias_size_in_bytes >= size
    assert used.temp_size_in_bytes < size / 10


# Going on from a saved state.


def test_goes_on_from_the_host_bit_for_bit(run: Run) -> None:
    state, log = run.chunk(unshared(run.states[1]))
    assert_same(log, run.logs[1])
    assert_same(state, run.states[2])


def test_goes_on_from_the_disk_bit_for_bit(run: Run, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state", unshared(run.states[1]))
    loaded = checkpoint.load(tmp_path / "state", jax.eval_shape(lambda: unshared(run.states[1])))
    state, _ = run.chunk(unshared(jax.device_get(loaded)))
    assert_same(state, run.states[2])


# Evaluation.


def test_evaluation_is_greedy_after_the_chunk_on_fixed_episodes(run: Run) -> None:
    algorithm = run.driver.learner.algorithm
    policy = algorithm.policy(jax.tree.map(jnp.asarray, run.states[2].learner), 0)
    assert policy.epsilon == 1  # which a greedy policy does not look at
    by_hand = jax.jit(lambda: play(Lottery(), policy, evaluation_keys(8)))()
    assert_same(run.logs[1].evaluation, by_hand)


def test_evaluation_plays_the_same_episodes_every_time(run: Run) -> None:
    lengths = [log.evaluation.length for log in run.logs]  # Lottery's lengths do not depend on what is done
    assert_same(lengths[0], lengths[1])
    assert_same(lengths[0], lengths[2])


def test_evaluation_does_not_disturb_training(run: Run) -> None:
    driver = dataclasses.replace(run.driver, episodes=1)
    state, log = jax.jit(driver.chunk)(unshared(run.states[1]))
    assert log.evaluation.length.shape == (1,)
    assert_same(state, run.states[2])
    assert_same(log.metrics, run.logs[1].metrics)
    assert_same(log.evaluation, jax.tree.map(lambda x: x[:1], run.logs[1].evaluation))
