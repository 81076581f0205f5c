"""QTRAN's losses as loops over single numbers, where their gradients go, and what they promise when they are 0."""

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Array

from comarl.envs.base import make_timestep
from comarl.mixers.base import Joint
from comarl.mixers.qtran import AbstractQTRAN, QTRANAlt, QTRANBase
from comarl.nets.critics import JointValue
from comarl.nets.layers import MLP
from tests.by_hand import KEY, joint_value, network, random_joint, tabled
from tests.probes import random_parameters

N, A, S, H = 3, 4, 5, 2
Y = 0.7
FORMS: dict[str, type[AbstractQTRAN]] = {"base": QTRANBase, "alt": QTRANAlt}
both_forms = pytest.mark.parametrize("form", FORMS)


def make(form: str, seed: int = 0, *, state_value: bool = True, opt: float = 1.0, nopt: float = 1.0) -> Any:
    def build() -> AbstractQTRAN:
        central = JointValue(N, A, S, H, hidden=6, key=KEY)
        return FORMS[form](central, MLP((S, 6, 1), key=KEY) if state_value else None, opt, nopt)  # pyright: ignore

    return random_parameters(build, seed)


def case(seed: int) -> Joint:
    return random_joint(seed, agents=N, actions=A, state=S, hidden=H)


def q_joint(mixer: AbstractQTRAN, joint: Joint, u: Sequence[int]) -> float:
    return joint_value(mixer.joint_value, np.asarray(joint.ts.state), np.asarray(joint.hidden), u)


def q_prime(mixer: AbstractQTRAN, joint: Joint, u: Sequence[int]) -> float:
    """Σ_i Q_i(u_i) + V(s)."""
    v = 0.0 if mixer.state_value is None else network(mixer.state_value, np.asarray(joint.ts.state))[0]
    return sum(float(joint.q[i, u[i]]) for i in range(N)) + v


def greedy_by_hand(joint: Joint) -> list[int]:
    return [max((a for a in range(A) if joint.ts.avail[i, a]), key=lambda a, i=i: joint.q[i, a]) for i in range(N)]


def losses_by_hand(form: str, mixer: AbstractQTRAN, joint: Joint) -> tuple[float, float, float]:
    """L_td, L_opt and L_nopt."""
    u, greedy = joint.action.tolist(), greedy_by_hand(joint)
    td = (q_joint(mixer, joint, u) - Y) ** 2
    opt = (q_prime(mixer, joint, greedy) - q_joint(mixer, joint, greedy)) ** 2
    if form == "base":
        return td, opt, min(q_prime(mixer, joint, u) - q_joint(mixer, joint, u), 0.0) ** 2
    nopt = 0.0
    for i in range(N):
        alternatives = [[*u[:i], a, *u[i + 1 :]] for a in range(A) if joint.ts.avail[i, a]]
        nopt += min(q_prime(mixer, joint, x) - q_joint(mixer, joint, x) for x in alternatives) ** 2 / N
    return td, opt, nopt


@both_forms
@pytest.mark.parametrize("state_value", [True, False], ids=["with V", "without V"])
def test_losses_are_their_equations(form: str, state_value: bool) -> None:
    loss_of = jax.jit(lambda mixer, joint: mixer.loss(joint, jnp.asarray(Y)))
    signs = set()
    for seed in range(6):
        mixer, joint = make(form, seed, state_value=state_value, opt=2.0, nopt=3.0), case(seed)
        td, opt, nopt = losses_by_hand(form, mixer, joint)
        loss, metrics = loss_of(mixer, joint)
        np.testing.assert_allclose(metrics["td_error"] ** 2, td, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(metrics["opt_loss"], opt, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(metrics["nopt_loss"], nopt, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(loss, td + 2 * opt + 3 * nopt, rtol=1e-3, atol=1e-4)
        signs.add(nopt > 0)
    assert signs == ({True, False} if form == "base" else {True})


def test_values_of_a_joint_action() -> None:
    """Q_tot is what is executed, Q'; the target is made of Q_jt."""
    mixer, joint = make("base", 1), case(1)
    u = joint.action.tolist()
    np.testing.assert_allclose(mixer(joint), q_prime(mixer, joint, u), rtol=1e-4)
    np.testing.assert_allclose(mixer.bootstrap(joint), q_joint(mixer, joint, u), rtol=1e-4)
    np.testing.assert_array_equal(mixer.bootstrap(joint), mixer.central(joint))


@both_forms
def test_actions_that_are_not_available_do_not_matter(form: str) -> None:
    """In the least gap of QTRAN-alt, above all: the masked utility of one would be the least always."""
    mixer, joint = make(form, 4), case(4)
    assert not joint.ts.avail.all()
    changed = eqx.tree_at(
        lambda m: m.joint_value.action,
        mixer,
        jnp.where(joint.ts.avail[..., None], mixer.joint_value.action, 99.0),
    )
    loss = jax.jit(lambda m: m.loss(joint, jnp.asarray(Y))[0])
    np.testing.assert_array_equal(loss(mixer), loss(changed))
    assert loss(mixer) < 1e4


@jax.jit
def gradients(mixer: AbstractQTRAN, joint: Joint) -> tuple[Any, Array, Array]:
    """By the mixer, by the utilities, and by the agents' hidden states where Q_jt reads them."""
    loss = lambda m, q, hidden: m.loss(joint._replace(q=q, hidden=hidden), jnp.asarray(Y))[0]  # noqa: E731
    return jax.grad(loss, argnums=(0, 1, 2))(mixer, joint.q, joint.hidden)


def same(a: Any, b: Any) -> bool:
    return all(np.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@both_forms
def test_q_jt_learns_from_the_target_alone_and_utilities_from_q_jt_alone(form: str) -> None:
    joint = case(2)
    full_mixer, full_q, full_hidden = gradients(make(form, 2), joint)
    td_mixer, td_q, td_hidden = gradients(make(form, 2, opt=0.0, nopt=0.0), joint)
    # The other losses give Q_jt nothing, its inputs included …
    assert same(full_mixer.joint_value, td_mixer.joint_value)
    assert same(full_hidden, td_hidden)
    assert all(x.any() for x in (*jax.tree.leaves(full_mixer.joint_value), full_hidden))
    # … and the temporal difference gives utilities and V nothing but by way of the hidden states.
    assert not any(x.any() for x in (*jax.tree.leaves(td_mixer.state_value), td_q))
    assert all(x.any() for x in (*jax.tree.leaves(full_mixer.state_value), full_q))


def test_slopes_of_the_utilities() -> None:
    """2 (Q'(ū) - Q_jt(ū)) at greedy actions, and 2 min(Q'(u) - Q_jt(u), 0) at those taken."""
    for seed in range(6):
        mixer, joint = make("base", seed), case(seed)
        u, greedy = joint.action.tolist(), greedy_by_hand(joint)
        slope = np.zeros((N, A))
        for i in range(N):
            slope[i, greedy[i]] += 2 * (q_prime(mixer, joint, greedy) - q_joint(mixer, joint, greedy))
            slope[i, u[i]] += 2 * min(q_prime(mixer, joint, u) - q_joint(mixer, joint, u), 0.0)
        np.testing.assert_allclose(gradients(mixer, joint)[1], slope, rtol=1e-3, atol=1e-3)


# Theorem 1 of the paper, on tables of two agents with three actions. Whole numbers, so that 0 is 0.

ALL = jnp.array(list(itertools.product(range(3), repeat=2)))
numbers = st.integers(-20, 20).map(float)
utilities = hnp.arrays(np.float32, (2, 3), elements=numbers)
slacks = hnp.arrays(np.float32, (3, 3), elements=st.integers(0, 9).map(float))
some = settings(max_examples=40)


@jax.jit
def constraint_losses(mixer: AbstractQTRAN, q: Array) -> Array:
    """L_opt + L_nopt at every joint action, ``[3, 3]``."""
    ts = make_timestep(jnp.zeros((2, 1)), jnp.zeros(1), num_actions=3)

    def of(action: Array) -> Array:
        _, metrics = mixer.loss(Joint(q, action, jnp.zeros((2, 1)), ts), jnp.zeros(()))
        return metrics["opt_loss"] + metrics["nopt_loss"]

    return jax.vmap(of)(ALL).reshape(3, 3)


def losses(form: str, q: np.ndarray, v: float, table: np.ndarray) -> np.ndarray:
    state_value: Any = jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(lambda: MLP((1, 1), key=KEY)))
    state_value = eqx.tree_at(lambda m: m.layers[0].bias, state_value, jnp.array([v], jnp.float32))
    return np.asarray(constraint_losses(FORMS[form](tabled(table), state_value, 1.0, 1.0), jnp.asarray(q)))  # pyright: ignore


def allowed(form: str, slack: np.ndarray, greedy: tuple[int, int]) -> np.ndarray:
    """Q' - Q_jt of a pair that keeps the conditions: 0 at ū, and for QTRAN-alt somewhere in every row and column."""
    slack = slack.copy()
    shift = greedy[1] - greedy[0]
    zeros = range(3) if form == "alt" else [greedy[0]]
    for a in zeros:
        slack[a, (a + shift) % 3] = 0
    return slack


@both_forms
@some
@given(utilities, numbers, slacks, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(1, 9))
def test_losses_are_0_exactly_where_the_conditions_hold_and_then_igm_holds(
    form: str, q: np.ndarray, v: float, slack: np.ndarray, elsewhere: tuple[int, int], much: int
) -> None:
    greedy = (int(q[0].argmax()), int(q[1].argmax()))
    slack = allowed(form, slack, greedy)
    additive = q[0][:, None] + q[1][None] + np.float32(v)
    table = additive - slack
    np.testing.assert_array_equal(losses(form, q, v, table), 0)
    assert table[greedy] == table.max()
    # One joint action that Q' undervalues is noticed where it is played, and the greedy one wherever one looks.
    table[elsewhere] = additive[elsewhere] + much
    noticed = losses(form, q, v, table)
    assert noticed[elsewhere] >= much**2
    if elsewhere == greedy:
        assert (noticed >= much**2).all()
    # Overvalued, the greedy one is noticed too; others may be, except that QTRAN-alt wants a 0 beside each.
    table = additive - slack
    table[greedy] -= much
    assert (losses(form, q, v, table) >= much**2).all()


def test_alt_tells_apart_what_base_does_not() -> None:
    """Q' far above Q_jt in a whole row keeps QTRAN-base's conditions and not QTRAN-alt's."""
    q, slack = np.array([[2, 1, 0], [2, 1, 0]], np.float32), np.array([[0, 0, 0], [5, 6, 7], [0, 0, 0]], np.float32)
    table = q[0][:, None] + q[1][None] - slack
    np.testing.assert_array_equal(losses("base", q, 0.0, table), 0)
    # The mean over both agents of the squares of the least gap: agent 1's is 5 in that row, agent 0's is 0 always.
    np.testing.assert_allclose(losses("alt", q, 0.0, table), [[0, 0, 0], [12.5, 12.5, 12.5], [0, 0, 0]], rtol=1e-5)
