"""QPLEX against the paper's equations, written as loops over single numbers, and where its gradients go."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.mixers.base import Attentive, Joint
from comarl.mixers.qplex import QPLEX
from tests.by_hand import KEY, network, part, random_joint, sigmoid
from tests.probes import random_parameters

N, A, S, KERNELS = 3, 4, 5, 2

value = jax.jit(lambda mixer, joint: mixer(joint))
attention = jax.jit(lambda mixer, joint: mixer.attention(joint))


def make(seed: int = 0, *, layers: int = 1, stop_gradient: bool = True) -> QPLEX:
    options: dict[str, Any] = {"kernels": KERNELS, "kernel_layers": layers, "hidden": 6, "stop_gradient": stop_gradient}
    return random_parameters(lambda: QPLEX(N, A, S, **options, key=KEY), seed)


def case(seed: int) -> Joint:
    return random_joint(seed, agents=N, actions=A, state=S)


def shares_by_hand(mixer: QPLEX, s: np.ndarray, u: Sequence[int]) -> np.ndarray:
    """What each kernel adds to each λ_i, ``[kernels, N]``."""
    joint_action = [float(u[i] == a) for i in range(N) for a in range(A)]
    shares = np.zeros((KERNELS, N))
    for k in range(KERNELS):
        kernel = part(mixer.kernels, k)
        key = abs(network(kernel.key, s)[0]) + 1e-10
        agent, action = network(kernel.agent, s), network(kernel.action, np.array([*s, *joint_action]))
        for i in range(N):
            shares[k, i] = key * sigmoid(agent[i]) * sigmoid(action[i])
    return shares


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_is_its_equation(layers: int, seed: int) -> None:
    mixer, joint = make(seed, layers=layers), case(seed)
    s, q, avail = (np.asarray(x) for x in (joint.ts.state, joint.q, joint.ts.avail))
    u = joint.action.tolist()
    shares = shares_by_hand(mixer, s, u)
    w, b = network(mixer.w, s), network(mixer.b, s)
    total = 0.0
    for i in range(N):
        scale = abs(w[i]) + 1e-10
        chosen = scale * q[i, u[i]] + b[i]
        best = scale * max(q[i, a] for a in range(A) if avail[i, a]) + b[i]
        total += chosen + (sum(shares[:, i]) - 1) * (chosen - best)
    np.testing.assert_allclose(value(mixer, joint), total, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attention(mixer, joint), shares, rtol=1e-4, atol=1e-6)
    assert (attention(mixer, joint) > 0).all()
    assert isinstance(mixer, Attentive)


@jax.jit
def slopes(mixer: QPLEX, joint: Joint) -> tuple[QPLEX, jax.Array]:
    """By the parameters, and by the utilities ``[N, A]``."""
    return jax.grad(lambda mixer, q: mixer(joint._replace(q=q)), argnums=(0, 1))(mixer, joint.q)


def scales(mixer: QPLEX, joint: Joint) -> np.ndarray:
    return np.abs(network(mixer.w, np.asarray(joint.ts.state))) + 1e-10


def not_greedy(seed: int) -> Joint:
    """A joint step in which everything is available and nobody takes his best action."""
    joint = random_joint(seed, agents=N, actions=A, state=S, all_available=True)
    return joint._replace(action=jnp.argmin(joint.q, axis=-1).astype(jnp.int32))


def test_beside_the_advantages_utilities_learn_as_in_vdn() -> None:
    """With advantages that are constants, the slopes are those of Σ_i (w_i Q_i + b_i)."""
    mixer, joint = make(1), not_greedy(1)
    by_mixer, by_q = slopes(mixer, joint)
    taken = np.asarray(joint.taken)
    np.testing.assert_allclose(by_q, taken * scales(mixer, joint)[:, None], rtol=1e-4, atol=1e-6)

    def additive(mixer: QPLEX) -> jax.Array:
        s = joint.ts.state
        return (jnp.abs(mixer.w(s)) * joint.chosen + mixer.b(s)).sum()

    expected = jax.grad(additive)(mixer)
    for ours, theirs in ((by_mixer.w, expected.w), (by_mixer.b, expected.b)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_lambda_learns_from_the_advantages() -> None:
    """Its slopes are Σ_i A_i ∂λ_i: something where an agent could do better, nothing where all are greedy."""
    mixer, joint = make(1), not_greedy(1)
    gaps = scales(mixer, joint) * np.asarray(joint.chosen - joint.best)
    by_kernels = slopes(mixer, joint)[0].kernels
    expected = jax.grad(lambda m: (m.attention(joint).sum(0) * jnp.asarray(gaps, jnp.float32)).sum())(mixer).kernels
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), by_kernels, expected)
    assert all(leaf.any() for leaf in jax.tree.leaves(by_kernels))
    greedy = slopes(mixer, joint._replace(action=joint.greedy))[0].kernels
    assert not any(leaf.any() for leaf in jax.tree.leaves(greedy))


def test_lambda_is_what_attention_shows() -> None:
    """Without the constant, ∂Q_tot/∂Q_i is λ_i w_i at the action taken and (1 - λ_i) w_i at the greedy one."""
    mixer, joint = make(2, stop_gradient=False), not_greedy(2)
    lambda_, scale = attention(mixer, joint).sum(0), scales(mixer, joint)
    by_q, agents = slopes(mixer, joint)[1], np.arange(N)
    np.testing.assert_allclose(by_q[agents, joint.action], lambda_ * scale, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_q[agents, joint.greedy], (1 - lambda_) * scale, rtol=1e-4, atol=1e-5)
    same_parameters = make(2)
    np.testing.assert_array_equal(value(mixer, joint), value(same_parameters, joint))
    assert not np.allclose(slopes(same_parameters, joint)[1], by_q)


def test_the_greedy_joint_action_is_worth_the_sum_of_the_agents_best() -> None:
    mixer, joint = make(3), case(3)
    best = scales(mixer, joint) * np.asarray(joint.best) + network(mixer.b, np.asarray(joint.ts.state))
    np.testing.assert_allclose(value(mixer, joint._replace(action=joint.greedy)), best.sum(), rtol=1e-4)


def test_it_is_not_monotone() -> None:
    """λ looks at the joint action, so that of two actions the one of lower utility can be worth more to the team."""
    blank = jax.tree.map(jnp.zeros_like, make())
    sees_action_1 = jnp.zeros((KERNELS, S + N * A, N)).at[:, S + 1, 0].set(20.0)
    kernels = eqx.tree_at(
        lambda k: (k.key.layers[0].bias, k.agent.layers[0].bias, k.action.layers[0].weight),
        blank.kernels,
        (jnp.ones((KERNELS, 1)), jnp.full((KERNELS, N), 20.0), sees_action_1),
    )
    mixer = eqx.tree_at(lambda m: (m.w.layers[-1].bias, m.kernels), blank, (jnp.ones(N), kernels))
    q = jnp.zeros((N, A)).at[0].set(jnp.array([3.0, 2.0, 1.5, 0.0]))
    joint = random_joint(0, agents=N, actions=A, state=S, all_available=True)._replace(q=q)
    values = [float(value(mixer, joint._replace(action=jnp.array([a, 0, 0])))) for a in range(A)]
    # λ_0 is 2 σ(20) σ(20) = 2 (two kernels) for action 1 and 2 σ(20) σ(0) = 1 for others; Q_tot = 3 + λ_0 A_0.
    np.testing.assert_allclose(values, [3, 3 - 2 * 1, 3 - 1 * 1.5, 3 - 1 * 3], atol=1e-4)
    assert values[2] > values[1]
