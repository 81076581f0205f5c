"""The attention critic: one agent and one head at a time by hand, and what each agent's values look at."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.base import make_timestep
from comarl.nets.attention_critic import AttentionCritic, share_attention
from comarl.nets.sharing import Sharing
from comarl.types import EnvSpec, TimeStep
from tests.by_hand import dot, network, softmax
from tests.probes import random_parameters

N, D, A, HEADS, HIDDEN = 3, 4, 5, 2, 6
EACH = HIDDEN // HEADS
SPEC = EnvSpec("x", N, D, 2, A, 10, agent_types=(0, 1, 0))
KEY = jax.random.key(0)
OWNER = {"shared": None, "agent": (0, 1, 2), "type": (0, 1, 0)}

ask = jax.jit(lambda critic, ts, action: critic(ts, action))


def make(spec: EnvSpec = SPEC, *, uniform: bool = False, sharing: Sharing = "agent", seed: int = 0) -> AttentionCritic:
    return random_parameters(
        lambda: AttentionCritic(spec, key=KEY, heads=HEADS, hidden=HIDDEN, uniform=uniform, sharing=sharing), seed
    )


def seen(seed: int = 0, agents: int = N) -> tuple[TimeStep, Array]:
    draw = np.random.default_rng(seed)
    ts = make_timestep(jnp.asarray(draw.normal(size=(agents, D)), jnp.float32), jnp.zeros(2), num_actions=A)
    return ts, jnp.asarray(draw.integers(A, size=agents), jnp.int32)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.array([v if v > 0 else 0.01 * v for v in x])


def by_hand(critic: AttentionCritic, obs: np.ndarray, action: list[int], sharing: Sharing) -> tuple[list, np.ndarray]:
    """Q ``[N][A]`` and α ``[N, heads, N]``, with loops over agents, heads and others."""
    owner, attention = OWNER[sharing], critic.attention
    own = lambda net, i: net.module if owner is None else jax.tree.map(lambda w: w[owner[i]], net.module)  # noqa: E731
    ids, acts, agents = np.eye(N), np.eye(A), range(N)
    states = [leaky(network(own(critic.encoder, i), np.concatenate([obs[i], ids[i]]))) for i in agents]
    embedded = [
        leaky(network(own(attention.encoder, j), np.concatenate([obs[j], ids[j], acts[action[j]]]))) for j in agents
    ]
    values, weights = [], np.zeros((N, HEADS, N))
    for i in agents:
        others, heard = [j for j in agents if j != i], []
        for h in range(HEADS):
            part = slice(h * EACH, (h + 1) * EACH)
            share = [1 / len(others)] * len(others)
            if attention.query is not None:
                query = network(attention.query, states[i])[part]
                keys = [network(attention.key, embedded[j])[part] for j in others]
                share = softmax([dot(query, k) / EACH**0.5 for k in keys])
            weights[i, h, others] = share
            heard += [
                sum(w * leaky(network(attention.value, embedded[j])[part]) for w, j in zip(share, others, strict=True))
            ]
        values.append(network(own(critic.head, i), np.concatenate([states[i], *heard])))
    return values, weights


@pytest.mark.parametrize(
    ("sharing", "uniform"), [("shared", False), ("agent", False), ("type", False), ("agent", True)]
)
def test_it_is_its_equation(sharing: Sharing, uniform: bool) -> None:
    critic, (ts, action) = make(uniform=uniform, sharing=sharing), seen()
    got = ask(critic, ts, action)
    values, weights = by_hand(critic, np.asarray(ts.obs, float), action.tolist(), sharing)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.q, values, rtol=1e-4, atol=1e-5)


def test_batches_are_one_joint_step_each() -> None:
    critic = make()
    steps = [seen(seed) for seed in range(6)]
    together = jax.tree.map(lambda *x: jnp.stack(x).reshape(2, 3, *x[0].shape), *steps)
    got = ask(critic, *together)
    assert got.weights.shape == (2, 3, N, HEADS, N)
    for number, (ts, action) in enumerate(steps):
        one = jax.tree.map(lambda x, k=number: x.reshape(6, *x.shape[2:])[k], got)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, ask(critic, ts, action))


def test_an_agents_values_depend_on_the_others_actions_and_not_on_its_own() -> None:
    """And so does its attention."""
    critic, (ts, action) = make(), seen()
    as_is = ask(critic, ts, action)
    for i in range(N):
        moved = ask(critic, ts, action.at[i].add(1) % A)
        others = np.delete(np.arange(N), i)
        for before, after in ((as_is.q, moved.q), (as_is.weights, moved.weights)):
            np.testing.assert_array_equal(before[i], after[i])
            assert (np.asarray(before)[others] != np.asarray(after)[others]).reshape(N - 1, -1).any(-1).all()


def test_an_agents_values_do_not_depend_on_how_it_is_embedded_for_others() -> None:
    critic, (ts, action) = make(), seen()
    weight = lambda c: c.attention.encoder.module.weight  # noqa: E731
    as_is = np.asarray(ask(critic, ts, action).q)
    for i in range(N):
        moved = np.asarray(ask(eqx.tree_at(weight, critic, weight(critic).at[i].add(1.0)), ts, action).q)
        assert (moved != as_is).any(-1).tolist() == [j != i for j in range(N)]


@pytest.mark.parametrize("uniform", [False, True])
def test_attention_is_shared_out_among_the_others(uniform: bool) -> None:
    got = ask(make(uniform=uniform, seed=3), *seen(1))
    np.testing.assert_allclose(got.weights.sum(-1), 1, rtol=1e-5)
    own = np.eye(N, dtype=bool)[:, None].repeat(HEADS, 1)
    for array in (got.weights, got.logits):
        np.testing.assert_array_equal(np.asarray(array)[own], 0)
    assert (np.asarray(got.weights)[~own] > 0).all()
    assert (np.ptp(np.asarray(got.weights)[~own]) == 0) == uniform


def test_uniform_attention_hears_the_mean_of_the_others() -> None:
    attention = make(uniform=True).attention
    draw = np.random.default_rng(0)
    itself = jnp.asarray(draw.normal(size=(N, HIDDEN)), jnp.float32)
    acting = jnp.asarray(draw.normal(size=(N, D + N + A)), jnp.float32)
    heard = attention(itself, acting)[0]
    encoders = [jax.tree.map(lambda w, j=j: w[j], attention.encoder.module) for j in range(N)]
    values = [
        leaky(network(attention.value, leaky(network(e, np.asarray(x))))) for e, x in zip(encoders, acting, strict=True)
    ]
    for i in range(N):
        np.testing.assert_allclose(heard[i], np.delete(values, i, 0).mean(0), rtol=1e-4, atol=1e-5)


def test_who_is_alone_hears_nothing() -> None:
    alone = EnvSpec("x", 1, D, 2, A, 10)
    critic, (ts, action) = make(alone), seen(agents=1)
    q = lambda c: ask(c, ts, action).q  # noqa: E731
    got = ask(critic, ts, action)
    np.testing.assert_array_equal(got.weights, 0)
    deaf = eqx.tree_at(lambda c: c.attention.value.bias, critic, replace_fn=lambda b: b + 5)
    np.testing.assert_array_equal(got.q, q(deaf))
    gradient = jax.grad(lambda c: q(c).sum())(critic)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("uniform", [False, True])
def test_every_parameter_is_learned(uniform: bool) -> None:
    """Each agent's own included: what is asked for is a value of every action of every agent."""
    critic, (ts, action) = make(uniform=uniform), seen()
    gradient = jax.jit(jax.grad(lambda c: (c(ts, action).q ** 2).sum()))(critic)
    assert (gradient.attention.query is None) == uniform
    assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(gradient))
    own = [
        *jax.tree.leaves(gradient.encoder),
        *jax.tree.leaves(gradient.head),
        *jax.tree.leaves(gradient.attention.encoder),
    ]
    assert all(np.asarray(g != 0).reshape(N, -1).any(-1).all() for g in own)


def test_what_is_in_every_agents_value_moves_by_the_mean() -> None:
    gradient = make()
    shared = share_attention(gradient)
    thirds = jax.tree.map(lambda g: g / N, gradient.attention)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), shared.attention, thirds)
    for got, same in ((shared.encoder, gradient.encoder), (shared.head, gradient.head)):
        jax.tree.map(np.testing.assert_array_equal, got, same)


def test_heads_have_equal_parts() -> None:
    with pytest.raises(ValueError, match="heads=4 do not divide hidden=6"):
        AttentionCritic(SPEC, key=KEY, heads=4, hidden=6)
