"""The team as one agent, in JAX and stepped by Python."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.adapters.stepped import SteppedEnvs
from comarl.envs.conformance import check_env
from comarl.envs.games.matrix import MatrixGame
from comarl.envs.games.two_step import TwoStep
from comarl.envs.one_agent import MAX_JOINT_ACTIONS, HostedOneAgent, OneAgent, Unjoined
from comarl.envs.wrappers import AutoReset
from comarl.errors import ComarlError
from comarl.types import TimeStep
from tests.probes import Lottery

KEY = jax.random.key(0)


def test_one_agent_enumerates_joint_actions_the_first_agent_slowest() -> None:
    env = OneAgent(TwoStep())
    np.testing.assert_array_equal(env.joining.actions, [[0, 0], [0, 1], [1, 0], [1, 1]])
    assert (env.spec.num_agents, env.spec.num_actions, env.spec.obs_dim, env.spec.state_dim) == (1, 4, 9, 3)
    state, ts = env.reset(KEY)
    np.testing.assert_array_equal(ts.obs, [[1, 0, 0] * 3])  # the state, then both observations
    state, ts = env.step(state, jnp.array([2]), KEY)  # (1, 0) leads to 2B
    np.testing.assert_array_equal(ts.state, [0, 0, 1])
    rewards = [env.step(state, jnp.array([a]), KEY)[1].reward.tolist() for a in range(4)]
    assert rewards == [[0.0], [1.0], [1.0], [8.0]]
    assert check_env(env) == []


def test_one_agent_masks_joint_actions_of_which_a_part_is_masked() -> None:
    env = OneAgent(MatrixGame("padded", np.arange(6.0).reshape(2, 3)))
    _, ts = env.reset(KEY)
    # The first agent has actions 0 and 1 of 3: (2, .) are joint actions 6 to 8.
    np.testing.assert_array_equal(ts.avail, [[1, 1, 1, 1, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(env.step((), jnp.array([5]), KEY)[1].reward, [5.0])


def test_one_agent_forms_the_team_reward() -> None:
    game = MatrixGame("game", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert float(OneAgent(game, "mean").step((), jnp.array([3]), KEY)[1].reward[0]) == 4.0
    assert float(OneAgent(game, "sum").step((), jnp.array([3]), KEY)[1].reward[0]) == 8.0
    with pytest.raises(ComarlError, match="set the team reward to 'mean' or 'sum'"):
        OneAgent(game, "individual")


def test_one_agent_refuses_too_many_joint_actions() -> None:
    game = MatrixGame("large", np.zeros((2,) * 13))
    assert MAX_JOINT_ACTIONS < 2**13
    with pytest.raises(ComarlError, match=r"2\^13 of them \(limit 4096\): use a factorised method"):
        OneAgent(game)


class ThatOne:
    """The one agent's policy: always the joint action of that index, if it perceives what the one agent does."""

    def initial_carry(self) -> Any:
        return ()

    def act(self, carry: Any, ts: TimeStep, key: Any, explore: bool) -> tuple[Any, Any]:
        del key, explore
        assert ts.avail.shape == (1, 4)
        return carry, jnp.array([2])


def test_a_central_policy_acts_for_the_team() -> None:
    env = TwoStep()
    policy = Unjoined(OneAgent(env).joining, ThatOne())
    _, action = policy.act(policy.initial_carry(), env.reset(jax.random.key(0))[1], jax.random.key(1), False)
    assert action.tolist() == [1, 0]  # the first agent's action varies slowest


def test_a_team_that_python_steps_is_the_same_agent() -> None:
    """Step by step what the wrapped environment gives in JAX, over several episodes; some wait, some are set back."""
    count, steps = 5, 12
    inside, outside = AutoReset(OneAgent(Lottery(), "sum")), HostedOneAgent(SteppedEnvs(Lottery()), "sum")
    assert outside.spec == inside.spec
    env = outside.start(count)
    keys = jax.vmap(lambda key: jax.random.split(key, count))(jax.random.split(KEY, steps))
    actions = jax.random.randint(KEY, (steps, count, 1), 0, inside.spec.num_actions)
    words = np.asarray(jax.random.key_data(keys))
    step = jax.jit(jax.vmap(inside.step))
    state, ts = jax.vmap(inside.reset)(keys[0])
    assert_same(env.reset(words[0]), ts)
    for t in range(1, steps):
        if t == steps // 2:
            before = env.snapshot()
            env.step(np.asarray(actions[0]), words[0])
            env.restore(before)
        state, ts = step(state, actions[t], keys[t])
        assert_same(env.step(np.asarray(actions[t]), words[t]), ts)
        assert_same(env.outcome(), jax.vmap(inside.outcome)(state))
    assert (env.dropped, env.count) == (0, count)
    waiting = env.step(np.asarray(actions[0]), words[0], np.arange(count) < 3)
    assert_same(jax.tree.map(lambda x: x[3:], waiting), jax.tree.map(lambda x: x[3:], ts))


def assert_same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)
