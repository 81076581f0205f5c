"""Writing games out, and reading tables off networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.algos.qlearning import Networks, QPolicy
from comarl.envs.games.matrix import MatrixGame
from comarl.envs.one_agent import OneAgent
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.build import build_mixer
from comarl.experiments.config import AgentConfig, RunConfig
from comarl.mixers.iql import IQL
from comarl.mixers.qtran import QTRANBase
from comarl.mixers.vdn import VDN
from comarl.nets.agents import Agent
from comarl.report.exact import Game
from comarl.report.learned import read_tables, tabulate

STATES = ("1", "2A", "2B")


@pytest.fixture(scope="module")
def two_step() -> Game:
    return tabulate(make_env("two-step"), STATES)


def test_two_step_game_written_out(two_step: Game) -> None:
    assert two_step.paths == {"1": (), "2A": ((0, 0),), "2B": ((1, 0),)}
    np.testing.assert_array_equal(two_step.reward["1"], np.zeros((2, 2)))
    np.testing.assert_array_equal(two_step.reward["2A"], [[7, 7], [7, 7]])
    np.testing.assert_array_equal(two_step.reward["2B"], [[0, 1], [1, 8]])
    assert two_step.successor["1"] == {(0, 0): "2A", (0, 1): "2A", (1, 0): "2B", (1, 1): "2B"}
    assert set(two_step.successor["2A"].values()) == set(two_step.successor["2B"].values()) == {None}


def test_returns_of_the_two_step_game(two_step: Game) -> None:
    assert two_step.play({"1": (0, 1), "2A": (1, 0), "2B": (0, 0)}) == 7
    assert two_step.play({"1": (1, 0), "2A": (1, 0), "2B": (0, 1)}) == 1
    assert two_step.play({"1": (1, 0), "2A": (1, 0), "2B": (1, 1)}) == 8


def test_payoffs_written_out() -> None:
    game = tabulate(make_env("matrix/qplex-1"), ("1",))
    np.testing.assert_allclose(game.reward["1"], [[10.4, 0, 10], [0, 10, 10], [10, 10, 10]], rtol=1e-6)
    assert set(game.successor["1"].values()) == {None}


def test_games_that_cannot_be_written_out_are_refused() -> None:
    with pytest.raises(ComarlError, match="two-step has 3 states, not 1: 1"):
        tabulate(make_env("two-step"), ("1",))
    with pytest.raises(ComarlError, match="three has 3 agents: tables are for two"):
        tabulate(MatrixGame("three", np.zeros((2, 2, 2))), ("1",))


def utilities_on_the_way(networks: Networks, env: Any, actions: list[list[int]]) -> np.ndarray:
    """Utilities after some joint actions, agent by agent and step by step."""
    policy = QPolicy(networks.agent, jnp.zeros(()))
    key = jax.random.key(0)
    state, ts = env.reset(key)
    carry = policy.initial_carry()
    for action in actions:
        memory, _ = networks.agent(carry, ts)
        carry = carry._replace(memory=memory, last_action=jnp.asarray(action, jnp.int32))
        state, ts = env.step(state, jnp.asarray(action, jnp.int32), key)
    return np.asarray(networks.agent(carry, ts)[1].q)


PATHS = {"1": [], "2A": [[0, 0]], "2B": [[1, 0]]}


def test_team_values_are_read_at_the_end_of_each_path(two_step: Game) -> None:
    env = make_env("two-step")
    networks = Networks(Agent(env.spec, key=jax.random.key(1), hidden=8), VDN())
    tables = read_tables(env, networks, two_step).q_tot
    for state, path in PATHS.items():
        q = utilities_on_the_way(networks, env, path)
        np.testing.assert_allclose(tables[state], q[0][:, None] + q[1][None], atol=1e-6)


def test_utilities_are_read_where_there_is_no_team_value(two_step: Game) -> None:
    env = make_env("two-step")
    networks = Networks(Agent(env.spec, key=jax.random.key(2), hidden=8, kind="mlp"), IQL())
    tables = read_tables(env, networks, two_step).q_tot
    for state, path in PATHS.items():
        np.testing.assert_allclose(tables[state], utilities_on_the_way(networks, env, path), atol=1e-6)


def test_joint_values_are_a_table_with_the_first_agent_in_rows(two_step: Game) -> None:
    env = OneAgent(make_env("two-step"))
    networks = Networks(Agent(env.spec, key=jax.random.key(3), hidden=8, kind="mlp"), IQL())
    tables = read_tables(env, networks, two_step).q_tot
    for state, path in {"1": [], "2A": [[0]], "2B": [[2]]}.items():  # the joint action (1, 0) is number 2
        q = utilities_on_the_way(networks, env, path)
        np.testing.assert_allclose(tables[state], q[0].reshape(2, 2), atol=1e-6)


def test_an_unrestricted_value_has_tables_of_its_own(two_step: Game) -> None:
    env = make_env("two-step")
    mixer = build_mixer(RunConfig(method="qtran-base", agent=AgentConfig(hidden=8)), env.spec, jax.random.key(4))
    assert isinstance(mixer, QTRANBase)
    networks = Networks(Agent(env.spec, key=jax.random.key(1), hidden=8), mixer)
    q_tot, central = read_tables(env, networks, two_step)
    assert central is not None
    for state, path in PATHS.items():
        q = utilities_on_the_way(networks, env, path)
        difference = q_tot[state] - (q[0][:, None] + q[1][None])  # V(s)
        np.testing.assert_allclose(difference, difference[0, 0], atol=1e-6)
        assert np.abs(central[state] - q_tot[state]).max() > 1e-3
    (_, ts), action = env.reset(jax.random.key(0)), jnp.array([1, 0])
    _, out = networks.agent(networks.agent.initial_carry(), ts)
    np.testing.assert_allclose(central["1"][1, 0], mixer.joint_value(ts.state, out.hidden, action), rtol=1e-5)


def test_a_limit_is_written_out() -> None:
    game = tabulate(make_env("mmdp/game-1"), ("1", "0"))
    assert game.limit == 100
    assert game.successor["1"] == {(0, 0): "1", (0, 1): "1", (1, 0): "1", (1, 1): "0"}
    assert set(game.successor["0"].values()) == {"0"}
    assert game.play({"1": (0, 0), "0": (0, 0)}) == 100
