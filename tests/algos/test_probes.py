"""Probe environments are learned to their known values (γ = 1/2 throughout)."""

from typing import Any

import jax
import numpy as np
import pytest

from comarl.training.evaluate import evaluation_keys, play
from tests.probes import Delayed, Forbidden, Limit, Recall, fit, make_driver, q_values

PLAIN: dict[str, Any] = {"cell": "mlp", "last_action": False, "agent_id": False}
"""No memory of any kind."""


def test_delayed_reward_is_discounted() -> None:
    env = Delayed(agents=2)
    state = fit(env, "iql", cell="mlp", td_lambda=0.0)
    q = q_values(state.online.agent, env)
    # The team's reward of 1 is each agent's: 1 at the second step, γ at the first, whatever is done.
    np.testing.assert_allclose(q[0], 0.5, atol=0.02)
    np.testing.assert_allclose(q[1], 1.0, atol=0.02)


def test_vdn_shares_the_value_out() -> None:
    env = Delayed(agents=2)
    state = fit(env, "vdn", cell="mlp", td_lambda=0.0)
    q_tot = q_values(state.online.agent, env)[..., 0].sum(-1)
    np.testing.assert_allclose(q_tot, [0.5, 1.0], atol=0.02)


@pytest.mark.parametrize("td_lambda", [0.0, 0.9])
def test_a_time_limit_is_bootstrapped_through(td_lambda: float) -> None:
    env = Limit(3, terminates=False)
    state = fit(env, "iql", td_lambda=td_lambda, **PLAIN)
    # 1 + 1/2 + 1/4 + … = 2 at every step, the last before the limit included.
    np.testing.assert_allclose(q_values(state.online.agent, env), 2.0, atol=0.03)


@pytest.mark.parametrize("td_lambda", [0.0, 0.9])
def test_nothing_follows_a_termination(td_lambda: float) -> None:
    env = Limit(3, terminates=True)
    state = fit(env, "iql", td_lambda=td_lambda, **PLAIN)
    q = q_values(state.online.agent, env)[:, 0]
    np.testing.assert_allclose(q, [[1.75, 1.75], [1.5, 1.5], [1, 1]], atol=0.03)


def test_unavailable_actions_are_not_hoped_for() -> None:
    env = Forbidden()
    state = fit(env, "iql", td_lambda=0.0, team_reward="individual", **PLAIN)
    q = q_values(state.online.agent, env)[0]
    # See Forbidden. With the unavailable action in the target, Q(1) = 10 + γ Q(1) would be 20.
    np.testing.assert_allclose(q, [[0, 10], [0, 10]], atol=0.1)


@pytest.mark.parametrize(("cell", "recalled"), [("gru", True), ("lstm", True), ("mlp", False)])
def test_memory_is_needed_and_works(cell: str, recalled: bool) -> None:
    env = Recall()
    state = fit(env, "vdn", cell=cell, last_action=False, agent_id=False)
    policy = make_driver(env, "vdn").learner.algorithm.policy(state, 0)
    score = float(jax.jit(lambda: play(env, policy, evaluation_keys(64)))().outcome["recalled"].mean())
    if recalled:
        assert score == 1
    else:
        assert 0.3 < score < 0.7  # the cue's share among 64 episodes
