"""Who meets whom, and what comes of it: runs made by hand, whose agents do what they are told."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.build import build_algorithm
from comarl.experiments.config import to_json
from comarl.experiments.crossplay import cross_play, load_meeting, split
from comarl.experiments.evaluating import evaluate
from comarl.experiments.folder import load_config, write_json
from comarl.experiments.presets import resolve
from comarl.spec import EnvSpec
from comarl.training import checkpoint
from tests.probes import random_parameters, spec

CHASE, LOTTERY = "tests.probes:Chase", "tests.probes:Lottery"
SMALL: dict[str, Any] = {"hidden": 4, "num_envs": 2, "length": 4, "critic_hidden": 4}


def make_run(folder: Path, method: str, env: str, seeds: int = 2, **settings: Any) -> Path:
    """A finished run of random networks: what a training would leave, but for what nobody reads here."""
    config = resolve(method, env, {"seeds": seeds} | SMALL | settings)
    algorithm = build_algorithm(config, make_env(env).spec)
    folder.mkdir()
    write_json(folder / "config.json", to_json(config))
    for seed in range(seeds):
        state = random_parameters(lambda: algorithm.init(jax.random.key(0)), seed)
        checkpoint.save(folder / f"seed_{seed}", state)
    return folder


def tell(run: Path, plans: Sequence[Any]) -> None:
    """Have each seed's agents do that, if they can, whatever they see; a number is for agents with one network."""
    config = load_config(run)
    algorithm = build_algorithm(config, make_env(config.env).spec)
    for seed, actions in enumerate(plans):
        state = jax.tree.map(jnp.zeros_like, random_parameters(lambda: algorithm.init(jax.random.key(0))))
        told = jnp.broadcast_to(jax.nn.one_hot(jnp.array(actions), 3), head_bias(state).shape)
        checkpoint.save(run / f"seed_{seed}", eqx.tree_at(head_bias, state, told))


def head_bias(state: Any) -> Any:
    """Of the agents of a method with policies or with values; of an ensemble's all."""
    agents = state.online.actor if hasattr(state.online, "actor") else state.online.agent
    return getattr(agents, "agents", agents).body.module.head.bias


def test_what_hunters_and_prey_that_never_met_come_to(tmp_path: Path) -> None:
    """Two steps: a catch earns each hunter 1 and costs the prey 10, the second hunter has 1 more at every step.

    The teams are of two runs, one with sub-policies. The second team's prey is told to do what it cannot: it does 0.
    """
    runs = [make_run(tmp_path / "one", "maddpg", CHASE), make_run(tmp_path / "two", "maddpg", CHASE, 1, sub_policies=2)]
    plans = [[0, 0, 1], [1, 2, 2], [0, 1, 1]]
    tell(runs[0], plans[:2])
    tell(runs[1], plans[2:])
    result = cross_play(runs, episodes=3)
    prey = [1, 0, 1]
    catches = np.array([[sum(a == target for a in plan[:2]) for target in prey] for plan in plans])
    assert set(catches.ravel()) == {0, 1, 2}
    hunters, hunted = result["sides"]
    assert (hunters["name"], hunters["agents"], hunted["name"], hunted["agents"]) == ("hunters", [1, 2], "prey", [3])
    np.testing.assert_array_equal(hunters["scores"], 2 * catches + 1)
    np.testing.assert_array_equal(hunted["scores"], -20 * catches)
    assert (result["rows"], result["columns"]) == ("hunters", "prey")
    assert [(Path(team["run"]).name, team["seed"]) for team in result["teams"]] == [("one", 0), ("one", 1), ("two", 0)]


@pytest.mark.parametrize("sampled", [False, True])
def test_a_team_with_itself_has_the_scores_of_its_evaluation(tmp_path: Path, sampled: bool) -> None:
    run = make_run(tmp_path / "run", "maddpg", CHASE, sub_policies=2)
    hunters, prey = (np.diag(side["scores"]) for side in cross_play([run], 8, sampled=sampled)["sides"])
    own = evaluate(run, 8)["sampled" if sampled else "return"]["per_seed"]
    np.testing.assert_allclose((2 * hunters + prey) / 3, own, atol=2e-4)


@pytest.mark.parametrize("env", [LOTTERY, "tests.envs.python_envs:Diary"])
def test_in_a_common_team_each_agent_in_turn_plays_with_the_others_of_another(tmp_path: Path, env: str) -> None:
    """In these worlds, one of which Python steps, agents do not meet: each earns what it earns in its own team."""
    run = make_run(tmp_path / "run", "iql", env, seeds=3)
    if env != LOTTERY:
        tell(run, [0, 1, 2])  # where networks are random all teams do the same
    result = cross_play([run], 8)
    (team,) = result["sides"]
    alone = evaluate(run, 8)
    assert (team["name"], team["agents"], result["score"]) == ("the team", [1, 2], alone["score"])
    own = np.array(alone["return"]["per_seed"])
    assert len(set(own)) > 1
    # Of two agents, either may be the one.
    np.testing.assert_allclose(team["scores"], (own[:, None] + own[None]) / 2, atol=2e-4)


def opposed(agents: int, **more: Any) -> EnvSpec:
    return spec("somewhere", agents, 1, 1, 2, 1, opposed=True, **more)


@pytest.mark.parametrize(
    ("known", "rows", "columns", "first"),
    [
        (opposed(3, sides=("us", "them", "us")), "us", "them", [[1, 0, 1]]),
        (opposed(3, agent_types=(0, 1, 1)), "type 1", "type 2", [[1, 0, 0]]),
        (opposed(2), "agent 1", "agent 2", [[1, 0]]),
        (spec("somewhere", 3, 1, 1, 2, 1), "one agent", "the others", np.eye(3)),
    ],
    ids=["sides", "types", "two agents", "a common team"],
)
def test_split(known: EnvSpec, rows: str, columns: str, first: Any) -> None:
    parts = split(known)
    assert (parts.rows, parts.columns) == (rows, columns)
    np.testing.assert_array_equal(parts.first, np.array(first, bool))
    scored = [[1] * 3] if not known.opposed else [parts.first[0], ~parts.first[0]]
    np.testing.assert_array_equal(list(parts.sides.values()), np.array(scored, bool))


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            opposed(3, agent_types=(0, 1, 2)),
            "cross-play is between two sides, and those of somewhere are type 1, type 2",
        ),
        (opposed(3), "cross-play is between two sides, and those of somewhere are type 1: an environment says in"),
        (spec("somewhere", 1, 1, 1, 2, 1), "somewhere has a single agent, which meets nobody"),
    ],
)
def test_no_two_sides(known: EnvSpec, line: str) -> None:
    with pytest.raises(ComarlError) as error:
        split(known)
    assert str(error.value).startswith(line)


def configured(folder: Path, method: str, env: str, **settings: Any) -> Path:
    """A run folder as far as its configuration goes."""
    folder.mkdir()
    write_json(folder / "config.json", to_json(resolve(method, env, settings)))
    return folder


def refusal(*runs: Path) -> str:
    with pytest.raises(ComarlError) as error:
        load_meeting(runs)
    return str(error.value)


def test_runs_whose_agents_cannot_meet(tmp_path: Path) -> None:
    tag, lone = (
        configured(tmp_path / name, "maddpg", "mpe/simple_tag", seeds=n) for name, n in (("tag", 2), ("lone", 1))
    )
    push = configured(tmp_path / "push", "maddpg", "mpe/simple_push")
    joint = configured(tmp_path / "joint", "joint", "mpe/simple_tag", seeds=2)
    assert refusal(tag, push) == (
        "these runs are of different environments, so that their agents cannot meet "
        f"({tag}: mpe/simple_tag, {push}: mpe/simple_push)"
    )
    assert refusal(tag, tmp_path / "push" / ".." / "tag").endswith("is named twice: its agents meet themselves anyway")
    assert refusal(lone).startswith(f"{lone} holds a single team, which can meet nobody else: name another run of mpe/")
    assert "no agents that act apart" in refusal(tag, joint)
    assert "no config.json" in refusal(tag, tmp_path)
    assert [config.seeds for config in load_meeting([tag, lone])] == [2, 1]


def test_a_seed_that_is_missing_and_no_episodes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "maddpg", CHASE)
    with pytest.raises(ComarlError, match="episodes=0: must be positive"):
        cross_play([run], 0)
    shutil.rmtree(run / "seed_1")
    with pytest.raises(ComarlError, match=r"no saved state in .*seed_1: the training may not have reached its end"):
        cross_play([run], 3)


def test_runs_that_score_a_team_differently(tmp_path: Path) -> None:
    mean, summed = (configured(tmp_path / how, "iql", LOTTERY, team_reward=how) for how in ("mean", "sum"))
    with pytest.raises(ComarlError, match="these runs are scored differently, so that their agents cannot meet"):
        cross_play([mean, summed], 3)
