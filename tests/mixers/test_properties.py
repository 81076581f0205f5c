"""What holds of every factorised mixer, for random parameters, states and utilities."""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Array

from comarl.algos.qlearning import Networks, QLearning, greedy
from comarl.envs.base import make_timestep
from comarl.mixers.base import FactoredMixer, Joint, mask_unavailable
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from comarl.mixers.vdn import VDN, VDNS
from comarl.nets.agents import Agent
from comarl.types import EnvSpec
from tests.probes import random_parameters

N, A, S, E = 3, 3, 2, 4
KEY = jax.random.key(0)
MIXERS: dict[str, Callable[[], FactoredMixer]] = {
    "vdn": VDN,
    "vdn-s": lambda: VDNS(S, embed=E, key=KEY),
    "qmix": lambda: QMIX(N, S, embed=E, hyper_hidden=5, key=KEY),
    "qmix-icml": lambda: QMIX(N, S, embed=E, hyper_layers=1, key=KEY),
    "qmix-ns": lambda: QMIXNS(N, embed=E, key=KEY),
    "qmix-lin": lambda: QMIXLin(N, S, embed=E, hyper_hidden=5, key=KEY),
}
AGENT = random_parameters(lambda: Agent(EnvSpec("x", N, 1, S, A, 1), key=KEY, kind="mlp", hidden=2))
JOINT_ACTIONS = jnp.array(list(itertools.product(range(A), repeat=N)))

every_mixer = pytest.mark.parametrize("name", MIXERS)
seeds = st.integers(0, 2**31)
floats = st.floats(-20, 20, width=32)
utilities = hnp.arrays(np.float32, (N, A), elements=floats)
states = hnp.arrays(np.float32, S, elements=floats)
# Action 0 of agent 0, 1 of agent 1, 2 of agent 2 are always there: nobody is left without.
masks = hnp.arrays(bool, (N, A)).map(lambda m: m | np.eye(N, A, dtype=bool))
some = settings(max_examples=40)


def make_joint(q: Any, avail: Any, state: Any, action: Array) -> Joint:
    ts = make_timestep(jnp.zeros((N, 1)), jnp.asarray(state), avail=jnp.asarray(avail))
    return Joint(mask_unavailable(jnp.asarray(q), ts), action, jnp.zeros((N, 1)), ts)


@jax.jit
def table(mixer: FactoredMixer, q: Array, avail: Array, state: Array) -> tuple[Array, Array, Array]:
    """Q_tot of every joint action, the greedy joint action and its Q_tot."""
    joint = make_joint(q, avail, state, jnp.zeros(N, jnp.int32))
    best = greedy(q, joint.ts)
    return jax.vmap(lambda u: mixer(joint._replace(action=u)))(JOINT_ACTIONS), best, mixer(joint._replace(action=best))


@jax.jit
def slopes(mixer: FactoredMixer, q: Array, state: Array) -> Array:
    """∂Q_tot/∂Q_i of one joint action."""
    joint = make_joint(q, jnp.ones((N, A), bool), state, jnp.zeros(N, jnp.int32))
    return jax.grad(lambda q: mixer(joint._replace(q=q)))(joint.q)[:, 0]


@every_mixer
@some
@given(seeds, utilities, states)
def test_monotone_in_every_utility(name: str, seed: int, q: np.ndarray, state: np.ndarray) -> None:
    slope = slopes(random_parameters(MIXERS[name], seed), q, state)
    assert (slope >= 0).all()
    if name.startswith("vdn"):
        np.testing.assert_array_equal(slope, 1)


@every_mixer
@some
@given(seeds, utilities, masks, states)
def test_igm(name: str, seed: int, q: np.ndarray, avail: np.ndarray, state: np.ndarray) -> None:
    """Individual-global-max: each agent's own best available action is, jointly, the best available joint action."""
    values, best, value_of_best = table(random_parameters(MIXERS[name], seed), q, avail, state)
    agents = np.arange(N)
    assert avail[agents, best].all()
    possible = avail[agents, np.asarray(JOINT_ACTIONS)].all(-1)
    best_possible = np.asarray(values)[possible].max()
    np.testing.assert_allclose(value_of_best, best_possible, rtol=1e-4, atol=1e-3)


@every_mixer
@some
@given(seeds, utilities, masks, states)
def test_an_unavailable_action_more_changes_nothing(
    name: str, seed: int, q: np.ndarray, avail: np.ndarray, state: np.ndarray
) -> None:
    mixer = random_parameters(MIXERS[name], seed)
    wider_q = np.concatenate([q, np.full((N, 1), 99, np.float32)], axis=1)
    wider_avail = np.concatenate([avail, np.zeros((N, 1), bool)], axis=1)
    for plain, padded in zip(table(mixer, q, avail, state), table(mixer, wider_q, wider_avail, state), strict=True):
        np.testing.assert_allclose(plain, padded, rtol=1e-5, atol=1e-5)


def permuted(mixer: FactoredMixer, order: Array) -> FactoredMixer:
    """The mixer with its agents in another order: the rows of what is ``[N, ...]`` move."""
    if isinstance(mixer, QMIXNS):
        return eqx.tree_at(lambda m: m.w1, mixer, mixer.w1[order])
    if isinstance(mixer, QMIX | QMIXLin):
        where = (lambda m: m.w1.layers[-1]) if isinstance(mixer, QMIX) else (lambda m: m.w.layers[-1])
        by_agent = lambda w: w.reshape(*w.shape[:-1], N, -1)[..., order, :].reshape(w.shape)  # noqa: E731
        return eqx.tree_at(where, mixer, jax.tree.map(by_agent, where(mixer)))
    return mixer


@every_mixer
@some
@given(seeds, utilities, states, st.permutations(range(N)))
def test_the_order_of_the_agents_does_not_matter(
    name: str, seed: int, q: np.ndarray, state: np.ndarray, order: list[int]
) -> None:
    mixer = random_parameters(MIXERS[name], seed)
    everything = np.ones((N, A), bool)
    index = jnp.array(order)
    _, best, value = table(mixer, q, everything, state)
    _, best_permuted, value_permuted = table(permuted(mixer, index), q[order], everything, state)
    np.testing.assert_allclose(value, value_permuted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(best[index], best_permuted)


@every_mixer
def test_every_parameter_is_learned(name: str) -> None:
    """The loss of a few joint steps moves every array of the mixer."""
    mixer = random_parameters(MIXERS[name], 1)
    draw = np.random.default_rng(0)

    @jax.jit
    def gradient(mixer: FactoredMixer, q: Array, state: Array, action: Array) -> Any:
        def loss(mixer: FactoredMixer, q: Array, state: Array, action: Array) -> Array:
            return mixer.loss(make_joint(q, jnp.ones((N, A), bool), state, action), jnp.zeros(()))[0]

        total = lambda m: jax.vmap(loss, in_axes=(None, 0, 0, 0))(m, q, state, action).sum()  # noqa: E731
        return jax.grad(total)(mixer)

    steps = 20
    q, state = draw.normal(size=(steps, N, A)), draw.normal(size=(steps, S))
    result = gradient(mixer, jnp.asarray(q), jnp.asarray(state), jnp.asarray(draw.integers(A, size=(steps, N))))
    assert all(leaf.any() for leaf in jax.tree.leaves(result))
    assert jax.tree.structure(result) == jax.tree.structure(mixer)


@every_mixer
def test_every_parameter_is_copied_to_the_target(name: str) -> None:
    """At once in a hard update, by its share in a soft one."""
    online, target = (Networks(AGENT, random_parameters(MIXERS[name], seed)) for seed in (1, 2))
    for how, tau in (("hard", 1.0), ("soft", 0.25)):
        algorithm = QLearning(
            make_agent=lambda _: AGENT,
            make_mixer=lambda _: online.mixer,
            optimiser=optax.sgd(1.0),
            epsilon=optax.constant_schedule(0.0),
            target_update=how,
            target_interval=3,
            target_tau=0.25,
        )
        new = algorithm._new_target(online, target, jnp.asarray(3))
        for a, b, c in zip(*map(jax.tree.leaves, (new, online, target)), strict=True):
            np.testing.assert_allclose(a, tau * b + (1 - tau) * c, rtol=1e-5, atol=1e-6)
