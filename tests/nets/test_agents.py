"""The agents' network: unrolling is stepping, who sees what, whose parameters matter."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.cells import CellKind
from comarl.nets.sharing import Sharing
from comarl.types import EnvSpec, TimeStep
from tests.by_hand import layer_norm
from tests.probes import random_parameters

# As many steps as agents: a swap of the two axes would not show in a shape.
T = N = 3
A, D, H = 2, 4, 5
SPEC = EnvSpec("x", N, D, 1, A, 10, agent_types=(0, 1, 0))
FIRST = jnp.array([False, True, False])


def random_steps(key: Array) -> TimeStep:
    return TimeStep(
        obs=jax.random.normal(key, (T, N, D)),
        state=jnp.zeros((T, 1)),
        avail=jnp.ones((T, N, A), bool),
        reward=jnp.zeros((T, N)),
        discount=jnp.ones(T),
        first=FIRST,
        last=jnp.zeros(T, bool),
    )


TS = random_steps(jax.random.key(1))
ACTION = jnp.array([[0, 1, 1], [1, 0, 1]])


def make(**options: Any) -> Agent:
    return random_parameters(lambda: Agent(SPEC, key=jax.random.key(0), hidden=H, **options))


def dirty_carry(agent: Agent) -> AgentCarry:
    """As in the middle of an episode: something remembered, something done."""
    memory = jax.tree.map(lambda x: 0.1 + jnp.arange(x.size).reshape(x.shape) / x.size, agent.initial_carry().memory)
    return AgentCarry(memory, jnp.array([1, 0, 1]))


KINDS: list[CellKind] = ["gru", "lstm", "mingru", "mlp"]
SHARINGS: list[Sharing] = ["shared", "agent", "type"]
CASES: list[dict[str, Any]] = [
    *[{"kind": kind, "sharing": sharing} for kind in KINDS for sharing in SHARINGS],
    *[
        {"kind": kind, "last_action": last_action, "agent_id": agent_id}
        for kind in KINDS
        for last_action, agent_id in ((False, False), (True, False), (False, True))
    ],
    *[{"kind": kind, "layer_norm": True} for kind in KINDS],
    {"sharing": "type", "layer_norm": True},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(map(str, options.values())))
def test_unrolling_is_stepping(options: dict[str, Any]) -> None:
    agent = make(**options)
    carry = dirty_carry(agent)

    def step(carry: AgentCarry, x: tuple[TimeStep, Array]) -> tuple[AgentCarry, Any]:
        ts, action = x
        memory, out = agent(carry, ts)
        return AgentCarry(memory, action), out

    @jax.jit
    def both() -> Any:
        padded = jnp.concatenate([ACTION, ACTION[:1]])  # what is done at the last step is not asked for
        end, stepped = jax.lax.scan(step, carry, (TS, padded))
        return (end.memory, stepped), agent.unroll(carry, TS, ACTION)

    stepped, unrolled = both()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), stepped, unrolled)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_sequences_is_each_by_itself(kind: CellKind, sharing: Sharing) -> None:
    """As many sequences as steps and agents, with episodes that begin at different times."""
    agent = make(kind=kind, sharing=sharing)
    several = [random_steps(jax.random.key(k)) for k in range(3)]
    several = [ts._replace(first=jnp.roll(FIRST, k)) for k, ts in enumerate(several)]
    carries = [jax.tree.map(lambda x, k=k: (x + k).astype(x.dtype) % 2, dirty_carry(agent)) for k in range(3)]
    actions = [(ACTION + k) % A for k in range(3)]
    stack = lambda trees, axis: jax.tree.map(lambda *x: jnp.stack(x, axis), *trees)  # noqa: E731

    @jax.jit
    def both() -> Any:
        batched = agent.unroll(stack(carries, 0), stack(several, 1), stack(actions, 1))
        each = [agent.unroll(c, ts, a) for c, ts, a in zip(carries, several, actions, strict=True)]
        return batched, (stack([m for m, _ in each], 0), stack([out for _, out in each], 1))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *both())


@jax.jit
def unroll(agent: Agent, carry: AgentCarry, ts: TimeStep, action: Array) -> Any:
    return agent.unroll(carry, ts, action)[1]


def values(agent: Agent, carry: AgentCarry | None = None, ts: TimeStep = TS, action: Array = ACTION) -> Array:
    return unroll(agent, agent.initial_carry() if carry is None else carry, ts, action).q


@pytest.mark.parametrize("normal", [False, True], ids=["plain", "layer norm"])
def test_the_network_by_hand(normal: bool) -> None:
    """Linear, ReLU, memory, Linear of (observation, last action, id); the memory is the feed-forward one here.

    Layer normalisation stands before the ReLU, and after the memory.
    """
    agent = make(kind="mlp", layer_norm=normal)
    body = jax.tree.map(np.asarray, agent.body.module)
    got = values(agent, dirty_carry(agent))
    last_action = np.stack([[1, 0, 1], [9, 9, 9], ACTION[1]])  # the second step is a first one: no last action
    for t in range(T):
        for i in range(N):
            done = [float(last_action[t, i] == a) for a in range(A)]
            x = np.concatenate([TS.obs[t, i], done, np.eye(N)[i]])
            x = x @ body.encoder.weight + body.encoder.bias
            x = np.maximum(layer_norm(body.norms[0], x) if normal else x, 0)
            x = np.maximum(x @ body.cell.linear.weight + body.cell.linear.bias, 0)
            x = layer_norm(body.norms[1], x) if normal else x
            np.testing.assert_allclose(got[t, i], x @ body.head.weight + body.head.bias, rtol=1e-4, atol=1e-5)


def test_what_the_memory_carries_on_is_not_normalised() -> None:
    """Only what is read from it: the memory is the plain cell's on normalised inputs."""
    agent = make(layer_norm=True)
    cell, norms = agent.body.module.cell, agent.body.module.norms
    carry, first = dirty_carry(agent), jax.tree.map(lambda x: x[:1], TS)
    memory, out = jax.jit(lambda: agent.unroll(carry, first, ACTION[:0]))()
    x = agent.body.module.encoder(agent._inputs(first, carry.last_action[None]))
    plain, _ = cell.scan(carry.memory, cell.project(jax.nn.relu(norms[0](x))), jnp.zeros((1, N), bool))
    np.testing.assert_allclose(memory, plain, rtol=1e-4, atol=1e-6)
    assert not np.allclose(memory, out.hidden[0], rtol=1e-2)


@pytest.mark.parametrize(
    ("kind", "sharing"),
    [("gru", "shared"), ("lstm", "shared"), ("mingru", "shared"), ("mlp", "shared"), ("gru", "type")],
)
def test_every_parameter_is_learned(kind: CellKind, sharing: Sharing) -> None:
    """With layer normalisation, which has all that there is: each array, of each module where there are several."""
    agent = make(kind=kind, sharing=sharing, layer_norm=True)
    gradient = jax.jit(jax.grad(lambda agent: (values(agent, dirty_carry(agent)) ** 2).sum()))(agent)
    modules = 1 if agent.body.owner is None else max(agent.body.owner) + 1
    for leaf in jax.tree.leaves(gradient):
        assert leaf.reshape(modules, -1).any(-1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_remembered_across_a_first_step(kind: CellKind) -> None:
    agent = make(kind=kind)
    clean, dirty = values(agent), values(agent, dirty_carry(agent), action=ACTION.at[0].set(1 - ACTION[0]))
    np.testing.assert_array_equal(clean[1:], dirty[1:])  # the second step is a first one
    assert not np.allclose(clean[0], dirty[0])


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_sees_its_own_observations_alone(kind: CellKind, sharing: Sharing) -> None:
    agent = make(kind=kind, sharing=sharing)
    jacobian = jax.jit(jax.jacobian(lambda obs: values(agent, ts=TS._replace(obs=obs))))(TS.obs)  # [T N A T N D]
    influence = np.abs(jacobian).sum((0, 2, 3, 5))
    assert ((influence > 0) == np.eye(N, dtype=bool)).all()
    over_time = np.abs(jacobian).sum((1, 2, 4, 5)) > 0  # [T, T]: what is known at t of what was seen at t'
    remembers = kind != "mlp"
    # The second step starts an episode, so only the third sees something earlier.
    np.testing.assert_array_equal(over_time, [[1, 0, 0], [0, 1, 0], [0, remembers, 1]])


def test_an_agent_sees_its_own_last_action_alone() -> None:
    agent = make()
    changed = ACTION.at[1, 2].set(1 - ACTION[1, 2])
    differs = (values(agent) != values(agent, action=changed)).any(-1)
    np.testing.assert_array_equal(differs, [[0, 0, 0], [0, 0, 0], [0, 0, 1]])


def alike(**options: Any) -> np.ndarray:
    """Which agents have equal values, if all see the same and have done the same; ``[N, N]``."""
    q = values(make(**options), ts=TS._replace(obs=jnp.broadcast_to(TS.obs[:, :1], TS.obs.shape)), action=ACTION * 0)
    return np.array([[np.allclose(q[:, i], q[:, j], atol=1e-5) for i in range(N)] for j in range(N)])


def test_who_is_alike() -> None:
    everyone, nobody, types = np.ones((N, N)), np.eye(N), np.equal.outer(SPEC.types, SPEC.types)
    np.testing.assert_array_equal(alike(agent_id=False), everyone)
    np.testing.assert_array_equal(alike(agent_id=True), nobody)
    np.testing.assert_array_equal(alike(agent_id=False, sharing="agent"), nobody)
    np.testing.assert_array_equal(alike(agent_id=False, sharing="type"), types)


@pytest.mark.parametrize("sharing", ["agent", "type"])
def test_an_agent_depends_on_its_own_parameters_alone(sharing: Sharing) -> None:
    agent = make(sharing=sharing)
    owner = agent.body.owner
    assert owner is not None
    jacobian = jax.jit(jax.jacobian(lambda a: values(a).sum((0, 2))))(agent)
    for leaf in jax.tree.leaves(jacobian):  # [N, modules, ...]
        influence = np.abs(leaf).sum(tuple(range(2, leaf.ndim))) > 0
        np.testing.assert_array_equal(influence, np.equal.outer(owner, np.unique(owner)))


def test_hidden_states_are_what_the_head_reads() -> None:
    agent = make()
    out = unroll(agent, agent.initial_carry(), TS, ACTION)
    assert out.hidden.shape == (T, N, H)
    np.testing.assert_allclose(agent.body.module.head(out.hidden), out.q, rtol=1e-5, atol=1e-6)


def test_agents_permute_with_their_observations() -> None:
    """Agents that share everything, their id included, are interchangeable."""
    agent, order = make(agent_id=False), jnp.array([2, 0, 1])
    permuted = values(agent, ts=TS._replace(obs=TS.obs[:, order]), action=ACTION[:, order])
    np.testing.assert_allclose(permuted, values(agent)[:, order], rtol=1e-5, atol=1e-6)


def test_one_type_for_all_is_one_module() -> None:
    spec = dataclasses.replace(SPEC, agent_types=())
    agent = jax.eval_shape(lambda: Agent(spec, key=jax.random.key(0), hidden=H, sharing="type"))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(agent)} == {1}
