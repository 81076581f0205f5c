"""Playing whole episodes, against a plain loop."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.training.evaluate import Episodes, evaluation_key, evaluation_keys, play, record
from comarl.types import TimeStep
from tests.probes import Lottery, Recall

E = 24
KEYS = evaluation_keys(E)
ENV = Lottery()


class Scripted:
    """Takes the highest or the lowest available action, or random ones if asked to explore; counts its steps."""

    def __init__(self, highest: bool):
        self.highest = highest

    def initial_carry(self) -> Array:
        return jnp.zeros((), jnp.int32)

    def act(self, carry: Array, ts: TimeStep, key: Array, explore: bool) -> tuple[Array, Array]:
        rank = jnp.arange(ENV.ACTIONS) if self.highest else -jnp.arange(ENV.ACTIONS)
        if explore:
            rank = jax.random.permutation(key, rank)
        rank = jnp.broadcast_to(rank[None], ts.avail.shape)
        return carry + 1, jnp.argmax(jnp.where(ts.avail, rank, -99), axis=-1).astype(jnp.int32)


@pytest.fixture(scope="module")
def highest() -> Episodes:
    return jax.jit(lambda: play(ENV, Scripted(True), KEYS))()


def test_equals_a_plain_loop(highest: Episodes) -> None:
    reset, step = jax.jit(ENV.reset), jax.jit(ENV.step)
    policy = Scripted(True)
    for e in range(E):
        begin_key, play_key = jax.random.split(KEYS[e])
        state, ts = reset(begin_key)
        returns, length = np.zeros(2), 0
        while not ts.last:
            env_key = jax.random.split(jax.random.fold_in(play_key, length))[1]
            _, action = policy.act(jnp.zeros((), jnp.int32), ts, KEYS[0], False)
            state, ts = step(state, action, env_key)
            returns, length = returns + ts.reward, length + 1
        np.testing.assert_allclose(highest.returns[e], returns)
        assert highest.length[e] == length
        assert highest.outcome["steps"][e] == length  # read off the last state, not off a later one
        assert highest.outcome["odd"][e] == length % 2


def test_every_episode_counts_once_however_long(highest: Episodes) -> None:
    assert highest.returns.shape == (E, 2)
    assert {x.shape for x in jax.tree.leaves((highest.length, highest.outcome))} == {(E,)}
    # Lengths are drawn uniformly from 1 to 5, and all are there.
    assert set(highest.length.tolist()) == {1, 2, 3, 4, 5}
    assert ((highest.outcome["odd"] == 0) | (highest.outcome["odd"] == 1)).all()


def test_the_environment_is_the_same_for_every_policy(highest: Episodes) -> None:
    lowest = jax.jit(lambda: play(ENV, Scripted(False), KEYS))()
    np.testing.assert_array_equal(lowest.length, highest.length)
    # Action 0 is always available: agent i earns i at every step.
    np.testing.assert_array_equal(lowest.returns, lowest.length[:, None] * np.arange(2)[None])
    assert (highest.returns >= lowest.returns).all()
    assert (highest.returns > lowest.returns).any()


def test_is_greedy_unless_asked_to_explore(highest: Episodes) -> None:
    again = jax.jit(lambda: play(ENV, Scripted(True), KEYS))()
    jax.tree.map(np.testing.assert_array_equal, again, highest)
    exploring = jax.jit(lambda: play(ENV, Scripted(True), KEYS, explore=True))()
    assert (exploring.returns != highest.returns).any()


def test_more_episodes_begin_with_the_same_ones() -> None:
    np.testing.assert_array_equal(jax.random.key_data(KEYS)[:5], jax.random.key_data(evaluation_keys(5)))
    np.testing.assert_array_equal(jax.random.key_data(KEYS[3]), jax.random.key_data(evaluation_key(3)))
    assert len({tuple(k) for k in jax.random.key_data(KEYS).tolist()}) == E


def test_a_recorded_episode_is_the_one_that_is_played(highest: Episodes) -> None:
    for e in range(2):
        moments = record(ENV, Scripted(True), KEYS[e])
        assert moments[-1].length == len(moments) - 1 == highest.length[e]
        assert ENV.outcome(moments[-1].state)["steps"] == highest.outcome["steps"][e]
        assert [bool(moment.ts.last) for moment in moments] == [False] * (len(moments) - 1) + [True]
        np.testing.assert_allclose(sum(moment.ts.reward for moment in moments), highest.returns[e])
        for now, then in itertools.pairwise(moments):
            np.testing.assert_array_equal(then.action, [np.flatnonzero(agent).max() for agent in now.ts.avail])
            assert then.carry == now.carry + 1


class Names:
    """Names the cue from its memory; its carry is the cue, taken up on the first step alone."""

    def initial_carry(self) -> Array:
        return jnp.zeros((), jnp.int32)

    def act(self, carry: Array, ts: TimeStep, key: Array, explore: bool) -> tuple[Any, Array]:
        carry = jnp.where(ts.first, (ts.obs[0, 0] > 0).astype(jnp.int32), carry)
        return carry, carry[None]


def test_carries_the_policys_memory_through_the_episode() -> None:
    episodes = jax.jit(lambda: play(Recall(), Names(), KEYS))()
    np.testing.assert_array_equal(episodes.returns, 1)
    np.testing.assert_array_equal(episodes.outcome["recalled"], 1)
    np.testing.assert_array_equal(episodes.length, 3)
