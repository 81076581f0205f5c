"""Qatten against the paper's equations, written as loops over single numbers."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.mixers.base import Attentive, Joint
from comarl.mixers.qatten import KEY_SIZE, Qatten
from comarl.types import EnvSpec
from tests.by_hand import KEY, dot, network, part, random_joint, softmax
from tests.probes import random_parameters

N, A, S, D, HEADS = 3, 4, 6, 5, 2
BY_OBSERVATION = EnvSpec("x", N, D, S, A, 1)
BY_STATE = EnvSpec("x", N, D, S, A, 1, units=((4, 6), (0, 2), (1, 3)))

value = jax.jit(lambda mixer, joint: mixer(joint))
attention = jax.jit(lambda mixer, joint: mixer.attention(joint))


def make(seed: int = 0, spec: EnvSpec = BY_OBSERVATION, **options: Any) -> Qatten:
    return random_parameters(lambda: Qatten(spec, heads=HEADS, embed=7, hyper_hidden=8, key=KEY, **options), seed)


def case(seed: int) -> Joint:
    return random_joint(seed, agents=N, actions=A, state=S, obs=D)


def with_choice(joint: Joint, choice: list[bool]) -> Joint:
    """Every agent has its own action, and those with a choice have all others too."""
    avail = jnp.asarray(choice)[:, None] | joint.taken
    return joint._replace(ts=joint.ts._replace(avail=avail))


def logits_by_hand(mixer: Qatten, joint: Joint) -> np.ndarray:
    """q_h(s)·k_h(unit_i), ``[heads, N]``."""
    s, obs, chosen = (np.asarray(x, float) for x in (joint.ts.state, joint.ts.obs, joint.chosen))
    logits = np.zeros((HEADS, N))
    for h, i in itertools.product(range(HEADS), range(N)):
        head = part(mixer.heads, h)
        unit = s[slice(*mixer.units[i])] if mixer.units else obs[i]
        if mixer.nonlinear_keys:
            unit = np.array([*unit, chosen[i]])
        middle = np.array([max(x, 0.0) for x in network(head.query_in, s)])
        logits[h, i] = dot(network(head.query_out, middle), network(head.key, unit))
    return logits


def weights_by_hand(mixer: Qatten, joint: Joint) -> np.ndarray:
    """α_{h,i}; those without a choice get none where they are masked, unless nobody has one."""
    counts = [not mixer.mask_dead or sum(row) > 1 for row in joint.ts.avail.tolist()]
    counts = counts if any(counts) else [True] * N
    weights = np.zeros((HEADS, N))
    for h, logits in enumerate(logits_by_hand(mixer, joint)):
        some = [i for i in range(N) if counts[i]]
        weights[h, some] = softmax([logits[i] / math.sqrt(32) for i in some])
    return weights


def total_by_hand(mixer: Qatten, joint: Joint) -> float:
    s, chosen = np.asarray(joint.ts.state, float), np.asarray(joint.chosen, float)
    w = [1.0] * HEADS if mixer.w is None else [abs(x) for x in network(mixer.w, s)]
    weights = weights_by_hand(mixer, joint)
    return sum(w[h] * weights[h, i] * chosen[i] for h in range(HEADS) for i in range(N)) + network(mixer.c, s)[0]


OPTIONS: dict[str, dict[str, Any]] = {
    "weighted": {},
    "units of the state": {"spec": BY_STATE},
    "plain": {"weighted_heads": False},
    "nonlinear": {"nonlinear_keys": True},
    "nonlinear, units": {"nonlinear_keys": True, "spec": BY_STATE},
    "masked": {"mask_dead": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_its_equation(name: str) -> None:
    assert KEY_SIZE == 32
    for seed in range(3):
        mixer, joint = make(seed, **OPTIONS[name]), case(seed)
        if mixer.mask_dead:
            joint = with_choice(joint, [True, False, True])
        np.testing.assert_allclose(value(mixer, joint), total_by_hand(mixer, joint), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(attention(mixer, joint), weights_by_hand(mixer, joint), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(attention(mixer, joint).sum(-1), 1, rtol=1e-5)
    assert isinstance(mixer, Attentive)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_loss_holds_the_squares_of_the_unscaled_logits(penalty: float) -> None:
    mixer, joint = make(1, logit_penalty=penalty), case(1)
    loss, metrics = jax.jit(lambda m: m.loss(joint, jnp.asarray(2.0)))(mixer)
    squares = sum(sum(x**2 for x in row) / N for row in logits_by_hand(mixer, joint))
    np.testing.assert_allclose(metrics["squared_logits"], squares, rtol=1e-4)
    np.testing.assert_allclose(loss, (total_by_hand(mixer, joint) - 2) ** 2 + penalty * squares, rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], abs(total_by_hand(mixer, joint) - 2), rtol=1e-4)


def test_the_target_is_q_tot() -> None:
    mixer, joint = make(), case(0)
    np.testing.assert_allclose(jax.jit(lambda m: m.bootstrap(joint))(mixer), value(mixer, joint), rtol=1e-6)


@pytest.mark.parametrize("choice", [[True, False, True], [False, False, True], [False, False, False]], ids=str)
def test_who_has_no_choice_has_no_weight(choice: list[bool]) -> None:
    """Unless nobody has one: then all count as if there were no mask. Gradients are finite either way."""
    mixer, joint = make(2, mask_dead=True), with_choice(case(2), choice)
    weights = attention(mixer, joint)
    if any(choice):
        np.testing.assert_array_equal(weights > 0, [choice] * HEADS)
    else:
        np.testing.assert_allclose(weights, attention(make(2), joint), rtol=1e-5)
    by_mixer, by_q = jax.jit(jax.grad(lambda m, q: m(joint._replace(q=q)), argnums=(0, 1)))(mixer, joint.q)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(by_mixer))
    np.testing.assert_array_equal(by_q.any(-1), choice if any(choice) else [True] * N)


@jax.jit
def table(mixer: Qatten, joint: Joint) -> jax.Array:
    """Q_tot of every joint action, ``[A, A, A]``."""
    joint_actions = jnp.array(list(np.ndindex(A, A, A)))
    return jax.vmap(lambda u: mixer(joint._replace(action=u)))(joint_actions).reshape(A, A, A)


def test_in_one_state_it_is_a_weighted_vdn() -> None:
    """Q_tot = Σ_i k_i Q_i(u_i) + c with the same k for every joint action: what VDN can fit, no more."""
    mixer = make(3)
    joint = random_joint(3, agents=N, actions=A, state=S, obs=D, all_available=True)
    k = np.abs(network(mixer.w, np.asarray(joint.ts.state))) @ attention(mixer, joint)
    assert (k > 0).all()
    q, c = np.asarray(joint.q), network(mixer.c, np.asarray(joint.ts.state))[0]
    fit = [sum(k[i] * q[i, u[i]] for i in range(N)) + c for u in np.ndindex(A, A, A)]
    np.testing.assert_allclose(table(mixer, joint), np.reshape(fit, (A, A, A)), rtol=1e-4, atol=1e-4)


def test_utilities_in_the_keys_can_break_igm() -> None:
    """Which is why they are an option: a low utility that falls further can lose its weight faster than it falls."""
    blank = jax.tree.map(jnp.zeros_like, make(nonlinear_keys=True))
    # Head 0 alone counts, and its scaled logit is Q_i: one query component of √32 on one key component of Q_i.
    mixer = eqx.tree_at(
        lambda m: (m.heads.query_in.bias, m.heads.query_out.weight, m.heads.key.weight, m.w.layers[-1].bias),
        blank,
        (
            blank.heads.query_in.bias.at[:, 0].set(1.0),
            blank.heads.query_out.weight.at[:, 0, 0].set(math.sqrt(32)),
            blank.heads.key.weight.at[:, -1, 0].set(1.0),
            jnp.array([1.0, 0.0]),
        ),
    )
    joint = random_joint(0, agents=N, actions=A, state=S, obs=D, all_available=True)
    joint = joint._replace(q=jnp.full((N, A), -50.0).at[0].set(5.0).at[1, :2].set(jnp.array([0.0, -1.0])))
    values = table(mixer, joint)[0, :2, 0]
    # Agent 1's 0 against its -1, beside a 5: (0 e⁰ + 5 e⁵)/(e⁰ + e⁵) is less than (-e⁻¹ + 5 e⁵)/(e⁻¹ + e⁵).
    by_hand = [(x * math.exp(x) + 5 * math.exp(5)) / (math.exp(x) + math.exp(5)) for x in (0, -1)]
    np.testing.assert_allclose(values, by_hand, rtol=1e-4)
    assert joint.greedy[1] == 0
    assert values[0] < values[1]
