"""The unrestricted joint value, by hand, against itself, and what its initialisation is for; values of actions."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.base import make_timestep
from comarl.nets.critics import ActionCritic, JointValue, SeesActing
from comarl.nets.sharing import Sharing
from comarl.types import EnvSpec
from tests.by_hand import joint_value, random_joint, tabled
from tests.probes import random_parameters

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


SPEC = EnvSpec("x", N, 2, S, A, 10)


@pytest.mark.parametrize("sharing", ["shared", "agent"])
@pytest.mark.parametrize("sees", ["observations", "state", "own"])
def test_values_of_actions_are_those_of_each_agents_network(sees: SeesActing, sharing: Sharing) -> None:
    """By hand; and where an agent does something else for its own value, the others' values do not know."""
    critic = random_parameters(lambda: ActionCritic(SPEC, key=KEY, sees=sees, hidden=WIDTH, sharing=sharing))
    draw = np.random.default_rng(0)
    obs, state = draw.normal(size=(N, 2)), draw.normal(size=S)
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
            weight, bias = (np.asarray(w if sharing == "shared" else w[i]) for w in (layer.weight, layer.bias))
            x = x @ weight + bias
            x = x if number == len(layers) - 1 else np.maximum(x, 0)
        np.testing.assert_allclose(got[i], x[0], rtol=1e-4, atol=1e-5)
