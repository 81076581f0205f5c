"""Exported policies act as the team acted, in every format, and every method's policies can be exported."""

import functools
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.algos.base import Policy
from comarl.algos.ppo import PPOPolicy
from comarl.algos.qlearning import QPolicy
from comarl.algos.relaxed import GumbelDraw, SoftDraw, Tanh
from comarl.algos.stochastic import Draws, StochasticPolicy
from comarl.errors import ComarlError
from comarl.execution.manifest import Format
from comarl.execution.solo import solos
from comarl.execution.team import ExportedTeam, load_team
from comarl.execution.write import Origin, write_team
from comarl.experiments.build import build_algorithm
from comarl.experiments.config import RunConfig, with_settings
from comarl.experiments.methods import METHODS
from comarl.nets.agents import Agent
from comarl.nets.cells import CELLS
from comarl.nets.distributions import Gaussian
from comarl.nets.ensemble import Ensemble
from comarl.training.baselines import RandomPolicy
from comarl.types import EnvSpec, TimeStep
from tests.probes import random_parameters

T, B, N, A, D = 6, 16, 3, 4, 5
SPEC = EnvSpec("x", N, D, 2, A, 10, agent_types=(0, 1, 0))
VECTORS = EnvSpec("x", N, D, 2, A, 10, agent_types=(0, 1, 0), continuous=True)
FORMATS: tuple[Format, ...] = get_args(Format)
ORIGIN = Origin("some", "x", 3)


class Case(NamedTuple):
    """A policy, and the names of the files that agents 0, 1 and 2 should have, without their endings."""

    policy: Policy
    spec: EnvSpec
    files: tuple[str, ...]


def agents(spec: EnvSpec, **options: Any) -> Agent:
    return random_parameters(lambda: Agent(spec, key=jax.random.key(1), **{"hidden": 7, **options}))


def acting(acting_: Any, spec: EnvSpec = SPEC, **options: Any) -> StochasticPolicy:
    return StochasticPolicy(agents(spec, **options), acting_)


EACH, SOME, ONE = ("agent_0", "agent_1", "agent_2"), ("type_0", "type_1", "type_0"), ("team",) * N
BARE = {"last_action": False, "agent_id": False}
EPSILON = jnp.zeros(())
TEAMS = {
    "values, GRU": lambda: Case(QPolicy(agents(SPEC), EPSILON), SPEC, EACH),
    "values, LSTM, per type": lambda: Case(
        QPolicy(agents(SPEC, kind="lstm", sharing="type", agent_id=False), EPSILON), SPEC, SOME
    ),
    "values, normalised, no memory": lambda: Case(
        QPolicy(agents(SPEC, kind="mlp", layer_norm=True, **BARE), EPSILON), SPEC, ONE
    ),
    "logits, per agent": lambda: Case(acting(Draws(), sharing="agent", agent_id=False), SPEC, EACH),
    "soft draws, minGRU": lambda: Case(acting(GumbelDraw(), kind="mingru"), SPEC, EACH),
    "Gaussian, LSTM": lambda: Case(
        acting(Draws(Gaussian.of), VECTORS, kind="lstm", outputs_per_action=2, agent_id=False), VECTORS, ONE
    ),
    "tanh, GRU": lambda: Case(acting(Tanh(), VECTORS), VECTORS, EACH),
    "corners, no memory": lambda: Case(acting(SoftDraw(), VECTORS, kind="mlp", **BARE), VECTORS, ONE),
}


def observations() -> TimeStep:
    """``[T, B, ...]``: what is seen and what is available at random; some episodes end, all at once in step 4."""
    keys = jax.random.split(jax.random.key(5), 3)
    avail = jax.random.bernoulli(keys[1], 0.6, (T, B, N, A)).at[..., 2].set(True)
    return TimeStep(
        obs=jax.random.normal(keys[0], (T, B, N, D)),
        state=jnp.zeros((T, B, 2)),
        avail=avail,
        reward=jnp.zeros((T, B, N)),
        discount=jnp.ones((T, B)),
        first=jnp.zeros((T, B), bool).at[0].set(True).at[4].set(True),
        last=jnp.zeros((T, B), bool),
    )


TS = observations()


def trained_actions(policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """What the policy does greedily step by step in training's own way, and what its heads gave ``[T, B, N, ...]``."""
    act = jax.jit(jax.vmap(lambda carry, ts: policy.act(carry, ts, jax.random.key(0), False)))
    start = carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *x.shape)), policy.initial_carry())
    actions: list[jax.Array] = []
    for t in range(T):
        carry, action = act(carry, jax.tree.map(lambda x, t=t: x[t], TS))
        actions.append(action)
    agent: Agent = policy.agent if isinstance(policy, QPolicy) else policy.actor  # type: ignore[attr-defined]
    outputs = agent.unroll(start, TS, jnp.stack(actions[:-1]))[1].q
    return np.stack(actions), np.asarray(outputs)


def play(team: ExportedTeam, obs: np.ndarray, avail: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, Any]:
    """The exported team's actions, and what each of its agents chose them by ``[T, B, N, ...]``."""
    actions: list[np.ndarray] = []
    grounds: list[dict[str, np.ndarray]] = []
    for t in range(len(obs)):
        if first[t].any():
            team.reset()
        actions.append(team.act(obs[t], avail[t]))
        grounds.append({name: np.stack([a.grounds[name] for a in team.agents], 1) for name in team.agents[0].grounds})
    return np.stack(actions), {name: np.stack([g[name] for g in grounds]) for name in grounds[0]}


def grounds_by_hand(policy: Policy, outputs: np.ndarray, avail: np.ndarray) -> dict[str, np.ndarray]:
    """From what the heads gave, in numpy."""
    if isinstance(policy, QPolicy):
        return {"values": np.where(avail, outputs, -1e9)}
    kind = policy.acting  # type: ignore[attr-defined]
    if isinstance(kind, Tanh):
        return {}
    if isinstance(kind, Draws) and kind.distribution == Gaussian.of:
        return {"mean": outputs[..., :A], "std": np.exp(-1 + 2 * np.tanh(outputs[..., A:] / 2))}
    e = np.where(avail, np.exp(outputs), 0.0)
    return {"probabilities": e / e.sum(-1, keepdims=True)}


@pytest.mark.parametrize("make", TEAMS.values(), ids=TEAMS)
def test_every_format_acts_as_training_does(make: Any, tmp_path: Path) -> None:
    case: Case = make()
    want, outputs = trained_actions(case.policy)
    obs, avail, first = (np.asarray(x) for x in (TS.obs, TS.avail, TS.first))
    by_hand = grounds_by_hand(case.policy, outputs, avail)
    for format_ in FORMATS:
        manifest = write_team(case.policy, case.spec, tmp_path / format_, format_, ORIGIN)
        team = load_team(tmp_path / format_)
        assert team.manifest == manifest
        if format_ != "safetensors":  # which has a file for each network, whoever it is for
            assert tuple(Path(m.files[0]).stem for m in manifest.agents) == case.files
        got, grounds = play(team, obs, avail, first)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, atol=1e-5 if case.spec.continuous else 0, rtol=0)
        assert set(grounds) == set(by_hand)
        for name, x in by_hand.items():
            np.testing.assert_allclose(grounds[name], x, atol=1e-5, rtol=0, err_msg=name)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def head_by_hand(w: dict[str, np.ndarray], cell: str, x: np.ndarray) -> np.ndarray:
    """What docs/export.md says is computed from the parameters, step by step in numpy: ``[T, inputs]`` of one game."""

    def norm(k: int, y: np.ndarray) -> np.ndarray:
        if f"norms.{k}.scale" not in w:
            return y
        return (y - y.mean()) / np.sqrt(y.var() + 1e-5) * w[f"norms.{k}.scale"] + w[f"norms.{k}.shift"]

    width = w["encoder.bias"].size
    h, c, out = np.zeros(width), np.zeros(width), []
    for now in x:
        e = np.maximum(norm(0, now @ w["encoder.weight"] + w["encoder.bias"]), 0)
        if cell == "mlp":
            h = np.maximum(e @ w["cell.linear.weight"] + w["cell.linear.bias"], 0)
        else:
            a = e @ w["cell.input_map.weight"] + w["cell.input_map.bias"]
        if cell in ("gru", "lstm"):
            b = h @ w["cell.recurrent_weight"]
        if cell == "gru":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3), np.split(b, 3)
            r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
            n = np.tanh(a_n + r * (b_n + w["cell.candidate_bias"]))
            h = n + z * (h - n)
        if cell == "lstm":
            i, f, g, o = np.split(a + b, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        if cell == "mingru":
            z, n = np.split(a, 2)
            h = h + sigmoid(z) * (n - h)
        out.append(norm(1, h) @ w["head.weight"] + w["head.bias"])
    return np.stack(out)


@pytest.mark.parametrize("cell", CELLS)
def test_the_parameters_are_what_the_documents_say(cell: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    policy = QPolicy(agents(SPEC, kind=cell, layer_norm=cell == "gru", last_action=False), EPSILON)
    (name,) = write_team(policy, SPEC, tmp_path / "team", "safetensors", ORIGIN).files
    weights = load_file(tmp_path / "team" / name)
    team = load_team(tmp_path / "team")
    assert [f for f, _ in team.manifest.network.features(D, A)] == ["observation", "agent_id"]
    obs = np.asarray(TS.obs[:4, 0, 1])
    want = head_by_hand(weights, cell, np.concatenate([obs, np.tile([0.0, 1.0, 0.0], (4, 1))], -1))
    for t in range(4):
        team.agents[1].act(obs[t])
        np.testing.assert_allclose(team.agents[1].grounds["values"], want[t], atol=1e-5, rtol=1e-5)


def test_the_number_of_games_is_free() -> None:
    """One by one, as a batch of any shape, agent by agent: the same actions."""
    obs, avail, first = (np.asarray(x) for x in (TS.obs, TS.avail, TS.first))
    team = load_team(exported())
    together, _ = play(team, obs, avail, first)
    alone, _ = play(team, obs[:, 3], avail[:, 3], first)
    np.testing.assert_array_equal(alone, together[:, 3])
    square, _ = play(team, obs.reshape(T, 4, 4, N, D), avail.reshape(T, 4, 4, N, A), first)
    np.testing.assert_array_equal(square.reshape(T, B, N), together)
    second = team.agents[1]
    second.reset()
    by_itself = [second.act(obs[t, 3, 1], avail[t, 3, 1]) for t in range(4)]
    np.testing.assert_array_equal(by_itself, together[:4, 3, 1])


@functools.cache
def exported() -> Path:
    """A folder with the first team, as StableHLO."""
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "team"
    case = TEAMS["values, GRU"]()
    write_team(case.policy, case.spec, folder, "jax", ORIGIN)
    return folder


def test_converting_leaves_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [name for name in dir(jnp) if not name.startswith("_")]
    before = {name: getattr(jnp, name) for name in names}
    case: Case = TEAMS["values, normalised, no memory"]()
    write_team(case.policy, case.spec, tmp_path / "team", "onnx", ORIGIN)
    assert [name for name in names if getattr(jnp, name) is not before[name]] == []
    assert caplog.records == []


def test_what_act_refuses() -> None:
    team = load_team(exported())
    with pytest.raises(ComarlError, match=r"act takes obs \(3, 5\) and avail \(3, 4\), got \(2, 5\) and \(3, 4\)"):
        team.act(np.zeros((2, D)), np.ones((N, A)))
    with pytest.raises(ComarlError, match="at least one available action"):
        team.act(np.zeros((N, D)), np.zeros((N, A)))
    with pytest.raises(ComarlError, match=r"act takes obs \(5,\) and avail \(4,\)"):
        team.agents[0].act(np.zeros((D, 1)))
    team.act(np.zeros((2, N, D)))
    with pytest.raises(ComarlError, match=r"call reset\(\) where episodes begin"):
        team.act(np.zeros((3, N, D)))
    with pytest.raises(ComarlError, match="agent 1 has 1 policies, counted from 0, and not 1"):
        team.reset([0, 1, 0])
    with pytest.raises(ComarlError, match="a choice for each of 3 agents, got 2"):
        team.reset([0, 0])


@pytest.mark.parametrize("format_", ["onnx", "safetensors"])
def test_sub_policies_are_drawn_for_each_episode(format_: Format, tmp_path: Path) -> None:
    one = lambda key: Agent(SPEC, key=key, hidden=4, agent_id=False)  # noqa: E731
    ensemble = random_parameters(lambda: Ensemble(one, 3, key=jax.random.key(2)))
    policy = StochasticPolicy(ensemble, GumbelDraw())
    manifest = write_team(policy, SPEC, tmp_path / "team", format_, ORIGIN)
    files = tuple(f"team_policy_{k}.{format_}" for k in range(3))
    assert [m.files for m in manifest.agents] == [files] * N
    team = load_team(tmp_path / "team")
    obs, avail = np.asarray(TS.obs[:4]), np.asarray(TS.avail[:4])
    for choices in ((0, 0, 0), (2, 0, 1)):
        alone = [jax.tree.map(lambda w, k=k: w[k], ensemble.agents) for k in choices]
        want = np.stack([trained_actions(StochasticPolicy(a))[0][:4, :, i] for i, a in enumerate(alone)], -1)
        team.reset(choices)
        got = np.stack([team.act(obs[t], avail[t]) for t in range(4)])
        np.testing.assert_array_equal(got, want)
    seen = [set[int]() for _ in range(N)]
    for _ in range(40):
        team.reset()
        for i, agent in enumerate(team.agents):
            seen[i].add(agent._programs.index(agent._program))
    assert seen == [{0, 1, 2}] * N


def head_of(method: str, spec: EnvSpec, **settings: Any) -> set[str]:
    config = with_settings(RunConfig(method=method, env="x"), {"learner": METHODS[method].learners[0], **settings})
    algorithm = build_algorithm(config, spec)
    cut = jax.eval_shape(lambda key: solos(algorithm.policy(algorithm.init(key), 0), D), jax.random.key(0))
    assert [len(own) for own in cut] == [config.policy.sub_policies or 1] * N
    return {solo.head for own in cut for solo in own}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "joint"])
def test_every_method_can_be_exported(method: str) -> None:
    assert head_of(method, SPEC) == {"values" if METHODS[method].values else "softmax"}
    if METHODS[method].continuous:
        assert head_of(method, VECTORS) == {"gaussian" if METHODS[method].rule == "ppo" else "tanh"}


def test_kinds_of_vectors_and_sub_policies_can_be_exported() -> None:
    assert head_of("maddpg", VECTORS, vector_policy="softmax") == {"corner"}
    assert head_of("maac", SPEC, sub_policies=2) == {"softmax"}


def test_fixed_policies_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match="RandomPolicy cannot be exported: it is not learned"):
        write_team(RandomPolicy(), SPEC, tmp_path / "team", "jax", ORIGIN)
    assert not (tmp_path / "team").exists()


def test_a_policy_with_a_critic_leaves_without_it() -> None:
    algorithm = build_algorithm(with_settings(RunConfig(method="mappo", env="x"), {"learner": "ppo"}), SPEC)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    policy = algorithm.policy(state, 0)
    assert isinstance(policy, PPOPolicy)
    cut = jax.eval_shape(lambda key: solos(algorithm.policy(algorithm.init(key), 0), D), jax.random.key(0))
    sizes = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert sizes(cut[0]) == sizes(policy.networks.actor) < sizes(policy)
