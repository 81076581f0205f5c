"""Central values of joint actions: by hand, against themselves, and what they look at."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.base import make_timestep
from comarl.nets.agents import Agent
from comarl.nets.critics import ActionCritic, CounterfactualCritic, JointValue, SeesActing
from comarl.nets.sharing import Sharing
from comarl.types import EnvSpec, TimeStep, Trajectory
from tests.by_hand import joint_value, network, random_joint, tabled
from tests.probes import random_parameters, random_trajectory

N, A, S, H, WIDTH = 3, 4, 5, 6, 7
KEY = jax.random.key(0)

value = jax.jit(lambda net, state, memory, action: net(state, memory, action))


def make() -> JointValue:
    return JointValue(N, A, S, H, hidden=WIDTH, key=KEY)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_its_equation(seed: int) -> None:
    net, joint = random_parameters(make, seed), random_joint(seed, agents=N, actions=A, state=S, hidden=H)
    state, memory = np.asarray(joint.ts.state, float), np.asarray(joint.hidden, float)
    by_hand = joint_value(net, state, memory, joint.action.tolist())
    np.testing.assert_allclose(value(net, joint.ts.state, joint.hidden, joint.action), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_alternatives_are_one_call_each(seed: int) -> None:
    net, joint = random_parameters(make, seed), random_joint(seed, agents=N, actions=A, state=S, hidden=H)
    together = jax.jit(lambda net: net.alternatives(joint.ts.state, joint.hidden, joint.action))(net)
    assert together.shape == (N, A)
    for i in range(N):
        for a in range(A):
            alone = value(net, joint.ts.state, joint.hidden, joint.action.at[i].set(a))
            np.testing.assert_allclose(together[i, a], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 2)], ids=["two agents", "three agents"])
def test_it_can_hold_any_table(shape: tuple[int, ...]) -> None:
    table = np.random.default_rng(0).normal(size=shape)
    net = tabled(table)
    for action in np.ndindex(shape):
        got = value(net, jnp.ones(1), jnp.ones((len(shape), 1)), jnp.array(action))
        np.testing.assert_allclose(got, table[action], rtol=1e-5)


@jax.jit
def interaction(net: JointValue, memory: Array) -> Array:
    """The share of the variance over joint actions of two agents that no sum of their own values has."""
    joint_actions = jnp.array(list(itertools.product(range(3), repeat=2)))
    table = jax.vmap(lambda u: net(jnp.ones(1), memory, u))(joint_actions).reshape(3, 3)
    table = table - table.mean()
    additive = jnp.add(table.mean(1, keepdims=True) + 0 * table, table.mean(0, keepdims=True) + 0 * table)
    return jnp.sum((table - additive) ** 2) / jnp.sum(table**2)


def test_it_does_not_begin_additive_in_the_actions() -> None:
    """A sum of the agents' values is a saddle of the fit: the gradient of what is missing vanishes there.

    Embeddings of ±1 move ReLUs across their kinks. With the ±1/√64 of a linear layer the median share of the
    interaction over initialisations is fifteen times smaller, and a table like QTRAN's own is then often not learned.
    """

    @jax.jit
    def shares(scale: Array, key: Array) -> Array:
        net_key, memory_key = jax.random.split(key)
        net = JointValue(2, 3, 1, 64, hidden=64, key=net_key)
        net = eqx.tree_at(lambda m: m.action, net, net.action * scale)
        return interaction(net, jnp.tanh(jax.random.normal(memory_key, (2, 64))))

    drawn = jax.random.split(KEY, 50)
    as_drawn, as_linear = (np.median(jax.vmap(shares, (None, 0))(jnp.asarray(x), drawn)) for x in (1.0, 1 / 8))
    assert as_drawn > 0.04
    assert as_linear < as_drawn / 4
    net = JointValue(2, 3, 1, 64, hidden=64, key=KEY)
    np.testing.assert_array_equal(np.abs(net.action), 1)
    assert 0 < (np.asarray(net.action) > 0).mean() < 1


D = 2
SPEC = EnvSpec("x", N, D, S, A, 10, agent_types=(0, 1, 0))


def counterfactual(sharing: Sharing = "shared") -> tuple[CounterfactualCritic, Trajectory, Array]:
    """The critic, a trajectory, and what was done before each of its first steps."""
    net = random_parameters(lambda: CounterfactualCritic(SPEC, key=KEY, hidden=WIDTH, sharing=sharing), 1)
    agent = random_parameters(lambda: Agent(SPEC, key=KEY, kind="mlp", hidden=2))
    trajectory = random_trajectory(0, agent, steps=5, batch=2, obs=D, state=S)
    before = jnp.concatenate([trajectory.carry.last_action[None], trajectory.action])[:-1]
    return net, trajectory._replace(ts=jax.tree.map(lambda x: x[:-1], trajectory.ts)), before


ask = jax.jit(lambda net, ts, before, action: net(ts, before, action))


@pytest.mark.parametrize("sharing", ["shared", "agent", "type"])
def test_counterfactual_values_are_their_equation(sharing: Sharing) -> None:
    """One network of the state, all last actions, the agent's observation, the others' actions and its index."""
    net, trajectory, before = counterfactual(sharing)
    got = ask(net, trajectory.ts, before, trajectory.action)
    ts = jax.tree.map(np.asarray, trajectory.ts)
    assert ts.first.any()
    owner = {"shared": None, "agent": (0, 1, 2), "type": (0, 1, 0)}[sharing]
    for t, b, i in np.ndindex(5, 2, N):
        own = net.net.module if owner is None else jax.tree.map(lambda w, i=i: w[owner[i]], net.net.module)
        x = [*ts.state[t, b]]
        for j in range(N):
            x += [float(a == before[t, b, j] and not ts.first[t, b]) for a in range(A)]
        x += [*ts.obs[t, b, i]]
        for j in range(N):
            x += [float(j != i and a == trajectory.action[t, b, j]) for a in range(A)]
        x += [float(j == i) for j in range(N)]
        np.testing.assert_allclose(got[t, b, i], network(own, np.array(x)), rtol=1e-4, atol=1e-4)


def test_an_agents_row_has_the_others_actions_and_not_its_own() -> None:
    net, trajectory, before = counterfactual()
    as_is = ask(net, trajectory.ts, before, trajectory.action)
    for i in range(N):
        moved = ask(net, trajectory.ts, before, trajectory.action.at[..., i].add(1) % A)
        np.testing.assert_array_equal(moved[..., i, :], as_is[..., i, :])
        others = np.delete(np.arange(N), i)
        assert (np.asarray(moved)[..., others, :] != np.asarray(as_is)[..., others, :]).any(-1).all()


def test_a_row_has_the_agents_own_observation_the_state_and_everyones_last_action() -> None:
    net, trajectory, before = counterfactual()
    ts, as_is = trajectory.ts, ask(net, trajectory.ts, before, trajectory.action)

    def changed(ts: TimeStep, before: Array) -> np.ndarray:
        """Whose rows are others now, at steps that begin no episode and at those that do."""
        moved = np.asarray(ask(net, ts, before, trajectory.action) != as_is).any(-1)
        return np.stack([moved[~np.asarray(ts.first)].any(0), moved[np.asarray(ts.first)].any(0)])

    np.testing.assert_array_equal(changed(ts._replace(state=ts.state + 1), before), True)
    np.testing.assert_array_equal(changed(ts._replace(obs=ts.obs.at[..., 0, :].add(1)), before), [[1, 0, 0]] * 2)
    np.testing.assert_array_equal(changed(ts, before.at[..., 0].add(1) % A), [[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("sharing", ["shared", "agent", "type"])
@pytest.mark.parametrize("sees", ["observations", "state", "own"])
def test_values_of_actions_are_those_of_each_agents_network(sees: SeesActing, sharing: Sharing) -> None:
    """By hand; and where an agent does something else for its own value, the others' values do not know."""
    critic = random_parameters(lambda: ActionCritic(SPEC, key=KEY, sees=sees, hidden=WIDTH, sharing=sharing))
    owner = {"shared": None, "agent": (0, 1, 2), "type": (0, 1, 0)}[sharing]
    draw = np.random.default_rng(0)
    obs, state = draw.normal(size=(N, D)), draw.normal(size=S)
    action, own = draw.dirichlet(np.ones(A), size=(2, N))
    ts = make_timestep(jnp.asarray(obs, jnp.float32), jnp.asarray(state, jnp.float32), num_actions=A)
    of = jax.jit(lambda *actions: critic(ts, *actions))
    got = of(jnp.asarray(action, jnp.float32), jnp.asarray(own, jnp.float32))
    np.testing.assert_allclose(of(jnp.asarray(own, jnp.float32)), of(*[jnp.asarray(own, jnp.float32)] * 2), rtol=1e-5)
    for i in range(N):
        joint = action.copy()
        joint[i] = own[i]
        acting = own[i] if sees == "own" else joint.reshape(-1)
        x = np.concatenate(
            [{"observations": obs.reshape(-1), "state": state, "own": obs[i]}[sees], acting, np.eye(N)[i]]
        )
        layers = critic.net.module.layers
        for number, layer in enumerate(layers):
            weight, bias = (np.asarray(w if owner is None else w[owner[i]]) for w in (layer.weight, layer.bias))
            x = x @ weight + bias
            x = x if number == len(layers) - 1 else np.maximum(x, 0)
        np.testing.assert_allclose(got[i], x[0], rtol=1e-4, atol=1e-5)
