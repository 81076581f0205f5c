"""Matrix games: payoffs, one transition, masks of padded actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.games.matrix import PAYOFFS, MatrixGame, make

KEY = jax.random.key(0)


@pytest.mark.parametrize("variant", PAYOFFS)
def test_every_joint_action_pays_its_entry_and_ends_the_episode(variant: str) -> None:
    env = make(variant)
    assert env.spec.name == f"matrix/{variant}"
    np.testing.assert_array_equal(env.payoff, np.array(PAYOFFS[variant], np.float32))
    state, _ = env.reset(KEY)
    actions = jnp.array(list(np.ndindex(*env.payoff.shape)), jnp.int32)
    _, ts = jax.vmap(lambda a: env.step(state, a, KEY))(actions)
    np.testing.assert_array_equal(ts.reward, np.repeat(env.payoff.reshape(-1, 1), 2, axis=1))
    assert ts.last.all()
    assert not ts.discount.any()
    assert not ts.first.any()


def test_payoffs_of_the_papers() -> None:
    """The best payoff and the pure equilibria that miss it, which is what makes each game hard."""
    best = {"qtran": 8, "qplex-1": 10.4, "qplex-3": 8, "climbing": 11, "penalty": 10}
    assert {name: np.max(payoff) for name, payoff in PAYOFFS.items()} == best
    # QPLEX-3: 6 on the diagonal is the greedy payoff of the best monotone fit; climbing: (1, 1) pays 7.
    assert PAYOFFS["qplex-3"][1][1] == PAYOFFS["qplex-3"][2][2] == 6
    assert PAYOFFS["climbing"][1][1] == 7


def test_the_single_state_is_constant() -> None:
    env = make("qtran")
    _, ts = env.reset(KEY)
    np.testing.assert_array_equal(ts.obs, [[1.0], [1.0]])
    np.testing.assert_array_equal(ts.state, [1.0])
    assert bool(ts.first)
    assert not bool(ts.last)


def test_agents_may_differ_in_number_and_in_actions() -> None:
    payoff = np.arange(12.0).reshape(2, 3, 2)
    env = MatrixGame("three", payoff)
    assert (env.spec.num_agents, env.spec.num_actions) == (3, 3)
    state, ts = env.reset(KEY)
    np.testing.assert_array_equal(ts.avail, [[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    _, ts = env.step(state, jnp.array([1, 2, 0]), KEY)
    np.testing.assert_array_equal(ts.reward, [10.0, 10.0, 10.0])  # entry (1, 2, 0): 1*6 + 2*2 + 0
    assert check_env(env) == []
