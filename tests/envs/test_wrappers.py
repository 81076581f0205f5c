"""Auto-reset."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, ObservedEnv, make_timestep
from comarl.envs.conformance import check_env
from comarl.envs.games.two_step import TwoStep
from comarl.envs.wrappers import AutoReset
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
