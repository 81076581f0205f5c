"""Auto-reset, and the team as one agent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, ObservedEnv, make_timestep
from comarl.envs.conformance import check_env
from comarl.envs.games.matrix import MatrixGame
from comarl.envs.games.two_step import TwoStep
from comarl.envs.wrappers import MAX_JOINT_ACTIONS, AutoReset, OneAgent, Unjoined
from comarl.errors import ComarlError
from comarl.types import EnvSpec, TimeStep

KEY = jax.random.key(0)


class Counter(ObservedEnv):
    """Counts to 3 from a drawn offset; each reward is the count."""

    def __init__(self) -> None:
        self.spec = EnvSpec("counter", 2, 2, 1, 2, max_episode_steps=3, outcomes=("count",))

    def begin(self, key: PRNGKeyArray) -> Float[Array, " 2"]:
        return jnp.stack([jax.random.uniform(key), jnp.zeros(())])

    def advance(self, state: Float[Array, " 2"], action: Int[Array, " 2"], key: PRNGKeyArray) -> Float[Array, " 2"]:
        del action, key
        return state.at[1].add(1.0)

    def observe(self, state: Float[Array, " 2"]) -> TimeStep:
        count = state[1]
        obs = jnp.stack([state, state])
        return make_timestep(obs, state[:1], num_actions=2, reward=count, terminated=count >= 3, first=count == 0)

    def outcome(self, state: Float[Array, " 2"]) -> dict[str, Float[Array, ""]]:
        return {"count": state[1]}

    def heuristics(self) -> dict[str, str]:
        return {"name": "policy"}


class Unsplit(Env):
    """The same environment with nothing but reset and step."""

    def __init__(self, env: Env):
        self.env, self.spec = env, env.spec

    def reset(self, key: PRNGKeyArray) -> tuple[Array, TimeStep]:
        return self.env.reset(key)

    def step(self, state: Array, action: Array, key: PRNGKeyArray) -> tuple[Array, TimeStep]:
        return self.env.step(state, action, key)


def unroll(env: Env, steps: int) -> TimeStep:
    state, first = env.reset(KEY)
    act = jnp.zeros(env.spec.num_agents, jnp.int32)
    _, rest = jax.lax.scan(lambda s, k: env.step(s, act, k), state, jax.random.split(KEY, steps))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


def test_auto_reset_gives_the_last_step_and_then_a_first_one() -> None:
    env = AutoReset(Counter())
    ts = unroll(env, 8)
    # Episodes of 4 time steps: counts 0 1 2 3, 0 1 2 3, 0.
    np.testing.assert_array_equal(ts.obs[:, 0, 1], [0, 1, 2, 3, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(ts.reward[:, 0], [0, 1, 2, 3, 0, 1, 2, 3, 0])  # the last reward is kept
    np.testing.assert_array_equal(ts.first, [1, 0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(ts.last, [0, 0, 0, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(ts.discount, [1, 1, 1, 0, 1, 1, 1, 0, 1])
    # The terminal observation is the old episode's, the next one is a whole reset: another offset, not a blank.
    offset = np.asarray(ts.obs[:, 0, 0])
    assert offset[0] == offset[3] != offset[4] == offset[7] != 0
    assert offset[4] == Counter().reset(jax.random.split(KEY, 8)[3])[1].obs[0, 0]


def test_auto_reset_is_the_same_for_an_environment_that_is_not_observed() -> None:
    for a, b in zip(unroll(AutoReset(Counter()), 8), unroll(AutoReset(Unsplit(Counter())), 8), strict=True):
        np.testing.assert_array_equal(a, b)


def test_auto_reset_hands_on_outcomes_and_heuristics() -> None:
    env = AutoReset(Counter())
    state, _ = env.step(env.reset(KEY)[0], jnp.zeros(2, jnp.int32), KEY)
    assert float(env.outcome(state)["count"]) == 1.0
    assert env.heuristics() == {"name": "policy"}
    assert TwoStep().heuristics() == {}


def test_an_observed_environment_conforms() -> None:
    assert check_env(Counter()) == []


def test_one_agent_enumerates_joint_actions_the_first_agent_slowest() -> None:
    env = OneAgent(TwoStep())
    np.testing.assert_array_equal(env.joint_actions, [[0, 0], [0, 1], [1, 0], [1, 1]])
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
    policy = Unjoined(OneAgent(env), ThatOne())
    _, action = policy.act(policy.initial_carry(), env.reset(jax.random.key(0))[1], jax.random.key(1), False)
    assert action.tolist() == [1, 0]  # the first agent's action varies slowest
