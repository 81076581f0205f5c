"""Probe environments are learned to their known values (γ = 1/2 throughout)."""

from typing import Any

import jax
import numpy as np
import pytest

from comarl.experiments.presets import DEFAULTS
from comarl.training.evaluate import evaluation_keys, play
from tests.probes import Delayed, Draw, Forbidden, Limit, Recall, fit, make_driver, q_values, train

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


TARGETS: dict[str, dict[str, Any]] = {
    "one-step": {"td_lambda": 0.0},
    "td-lambda": {"td_lambda": 0.9},
    "n-step": {"returns": "n_step", "n_step": 2},  # less than an episode
}
every_target = pytest.mark.parametrize("targets", TARGETS)


@every_target
def test_a_time_limit_is_bootstrapped_through(targets: str) -> None:
    env = Limit(3, terminates=False)
    state = fit(env, "iql", **TARGETS[targets], **PLAIN)
    # 1 + 1/2 + 1/4 + … = 2 at every step, the last before the limit included.
    np.testing.assert_allclose(q_values(state.online.agent, env), 2.0, atol=0.03)


COUNTDOWN = [[1.75, 1.75], [1.5, 1.5], [1, 1]]
"""1 + 1/2 + 1/4, 1 + 1/2 and 1, whatever is done."""


@every_target
def test_nothing_follows_a_termination(targets: str) -> None:
    env = Limit(3, terminates=True)
    state = fit(env, "iql", **TARGETS[targets], **PLAIN)
    np.testing.assert_allclose(q_values(state.online.agent, env)[:, 0], COUNTDOWN, atol=0.03)


def test_unavailable_actions_are_not_hoped_for() -> None:
    env = Forbidden()
    state = fit(env, "iql", td_lambda=0.0, team_reward="individual", **PLAIN)
    q = q_values(state.online.agent, env)[0]
    # See Forbidden. With the unavailable action in the target, Q(1) = 10 + γ Q(1) would be 20.
    np.testing.assert_allclose(q, [[0, 10], [0, 10]], atol=0.1)


@pytest.mark.parametrize(("cell", "recalled"), [("gru", True), ("lstm", True), ("mingru", True), ("mlp", False)])
def test_memory_is_needed_and_works(cell: str, recalled: bool) -> None:
    env = Recall()
    state = fit(env, "vdn", cell=cell, last_action=False, agent_id=False)
    policy = make_driver(env, "vdn").learner.algorithm.policy(state, 0)
    score = float(jax.jit(lambda: play(env, policy, evaluation_keys(64)))().outcome["recalled"].mean())
    if recalled:
        assert score == 1
    else:
        assert 0.3 < score < 0.7  # the cue's share among 64 episodes


# Through the whole loop: what differs is where batches come from, and where sequences begin.

RANDOM_PLAY: dict[str, Any] = {"epsilon_start": 1.0, "epsilon_end": 1.0}


def test_pqn_learns_without_replay_and_target_network() -> None:
    env = Limit(3, terminates=True)
    pqn = DEFAULTS["pqn"] | {"num_envs": 16, "length": 8, "hidden": 32, "lr": 0.01}
    state = train(env, "iql", 100, **pqn, **RANDOM_PLAY, **PLAIN)[0].learner
    assert state.target is None
    np.testing.assert_allclose(q_values(state.online.agent, env)[:, 0], COUNTDOWN, atol=0.03)


def test_prioritised_replay_learns_the_mean() -> None:
    """Importance weights take away what the uneven draw brings in: otherwise the rare 4 would count too much.

    Drawn in proportion to |error| and not weighted, the fit v would solve (4 - v)² / 4 = 3 v² / 4: v = 4 / (1 + √3).
    """
    sizes = {"num_envs": 32, "length": 2, "batch_size": 64, "updates": 4, "buffer_steps": 6400, "lr": 0.02}
    sharp = {"replay": "prioritised", "priority_alpha": 1.0, "priority_beta": 1.0, "lr_decay": 0.01}
    run, _ = train(Draw(), "iql", 100, td_lambda=0.0, **sizes, **sharp, **RANDOM_PLAY, **PLAIN)
    stored: Any = run.memory
    paid = np.asarray(stored.data.ts.reward[:, 1, :, 0])  # each sequence is one episode and the step to the next
    assert 0.9 < paid.mean() < 1.1
    value = float(q_values(run.learner.online.agent, Draw()).mean())
    np.testing.assert_allclose(value, paid.mean(), atol=0.1)
    assert abs(4 / (1 + 3**0.5) - value) > 0.3
    # What the memory goes by are the errors that the learner told it of.
    priority = np.asarray(stored.priority.of)
    np.testing.assert_allclose(np.median(priority[paid > 0]), 4 - value, atol=0.1)
    np.testing.assert_allclose(np.median(priority[paid == 0]), value, atol=0.1)


@pytest.mark.parametrize(
    "options",
    [
        # The cue is seen in one sequence and asked for in the next: only the memory it was collected with helps.
        pytest.param({"length": 2, "stored_state": True}, id="stored state"),
        # An episode and the step to the next one is a sequence.
        pytest.param({"length": 4, "stored_state": False}, id="zero state", marks=pytest.mark.paper),
        # What was seen in the burn-in is remembered after it.
        pytest.param({"length": 4, "stored_state": False, "burn_in": 2}, id="burn-in"),
        pytest.param(
            {"length": 4, "stored_state": False, "burn_in": 2, "cell": "mingru"},
            id="burn-in of a minGRU",
            marks=pytest.mark.paper,
        ),
    ],
)
def test_sequences_begin_with_a_memory(options: dict[str, Any]) -> None:
    sizes = {"num_envs": 32, "batch_size": 32, "updates": 4, "buffer_steps": 3200, "hidden": 16, "lr": 0.01}
    small = {"last_action": False, "agent_id": False, "target_interval": 10}
    _, log = train(Recall(), "vdn", 100, td_lambda=0.0, **sizes, **small, **RANDOM_PLAY, **options)
    np.testing.assert_array_equal(log.evaluation.outcome["recalled"], 1)
