"""What holds of every mixer, for random parameters, states, observations and utilities."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Array

from comarl.algos.qlearning import Networks, greedy
from comarl.algos.targets import next_target
from comarl.envs.base import make_timestep
from comarl.experiments.build import build_mixer
from comarl.experiments.config import RunConfig
from comarl.experiments.methods import METHODS
from comarl.mixers.base import MASKED, AbstractMixer, CentralMixer, Joint, mask_unavailable
from comarl.mixers.iql import IQL
from comarl.mixers.qatten import Qatten
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from comarl.mixers.qplex import QPLEX
from comarl.mixers.qtran import QTRANAlt, QTRANBase
from comarl.mixers.vdn import VDN, VDNS
from comarl.mixers.wqmix import WeightedQMIX
from comarl.nets.agents import Agent
from comarl.nets.critics import JointValue
from comarl.nets.layers import MLP
from comarl.types import EnvSpec
from tests.by_hand import random_joint
from tests.probes import random_parameters

N, A, S, D, H, E = 3, 3, 2, 2, 2, 4
KEY = jax.random.key(0)
SPEC = EnvSpec("x", N, D, S, A, 1)
MONOTONE: dict[str, Callable[[], AbstractMixer]] = {
    "vdn": VDN,
    "vdn-s": lambda: VDNS(S, embed=E, key=KEY),
    "qmix": lambda: QMIX(N, S, embed=E, hyper_hidden=5, key=KEY),
    "qmix-icml": lambda: QMIX(N, S, embed=E, hyper_layers=1, key=KEY),
    "qmix-ns": lambda: QMIXNS(N, embed=E, key=KEY),
    "qmix-lin": lambda: QMIXLin(N, S, embed=E, hyper_hidden=5, key=KEY),
    "qatten": lambda: Qatten(SPEC, heads=2, embed=E, hyper_hidden=5, key=KEY),
    "qatten-masked": lambda: Qatten(SPEC, heads=2, embed=E, hyper_hidden=5, mask_dead=True, key=KEY),
}
"""Those whose Q_tot never falls with a utility."""
FACTORED = MONOTONE | {
    "qplex": lambda: QPLEX(N, A, S, kernels=2, hidden=5, key=KEY),
}
"""Those whose Q_tot is best where every utility is (IGM)."""
EVERY = FACTORED | {
    "qatten-plain": lambda: Qatten(SPEC, heads=2, embed=E, hyper_hidden=5, weighted_heads=False, key=KEY),
    "qplex-deep": lambda: QPLEX(N, A, S, kernels=2, kernel_layers=3, hidden=5, key=KEY),
    "qatten-nonlinear": lambda: Qatten(SPEC, heads=2, embed=E, hyper_hidden=5, nonlinear_keys=True, key=KEY),
    "qplex-no-stop": lambda: QPLEX(N, A, S, kernels=2, hidden=5, stop_gradient=False, key=KEY),
    "qtran-base": lambda: QTRANBase(joint_value(), MLP((S, 5, 1), key=KEY), 1.0, 0.1),
    "qtran-alt": lambda: QTRANAlt(joint_value(), MLP((S, 5, 1), key=KEY), 1.0, 0.1),
    "cw-qmix": lambda: WeightedQMIX(QMIX(N, S, embed=E, hyper_hidden=5, key=KEY), joint_value(), 0.1, False),
    "ow-qmix": lambda: WeightedQMIX(QMIX(N, S, embed=E, hyper_hidden=5, key=KEY), joint_value(), 0.1, True),
}
AGENT = random_parameters(lambda: Agent(SPEC, key=KEY, kind="mlp", hidden=H))
JOINT_ACTIONS = jnp.array(list(itertools.product(range(A), repeat=N)))


def joint_value() -> JointValue:
    return JointValue(N, A, S, H, hidden=5, key=KEY)


monotone_mixers = pytest.mark.parametrize("name", MONOTONE)
factored_mixers = pytest.mark.parametrize("name", FACTORED)
every_mixer = pytest.mark.parametrize("name", EVERY)
seeds = st.integers(0, 2**31)
floats = st.floats(-20, 20, width=32)
utilities = hnp.arrays(np.float32, (N, A), elements=floats)
states = hnp.arrays(np.float32, S, elements=floats)
observations = hnp.arrays(np.float32, (N, D), elements=floats)
# Action 0 of agent 0, 1 of agent 1, 2 of agent 2 are always there: nobody is left without.
masks = hnp.arrays(bool, (N, A)).map(lambda m: m | np.eye(N, A, dtype=bool))
some = settings(max_examples=25)


@functools.cache
def shapes(name: str) -> Any:
    return jax.eval_shape(EVERY[name])


def draw_mixer(name: str, seed: int) -> Any:
    """A mixer with random parameters."""
    return random_parameters(lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes(name)), seed)


def make_joint(q: Any, avail: Any, state: Any, obs: Any, action: Array) -> Joint:
    ts = make_timestep(jnp.asarray(obs), jnp.asarray(state), avail=jnp.asarray(avail))
    # What an agent remembers is what it sees, here.
    return Joint(mask_unavailable(jnp.asarray(q), ts), action, ts.obs, ts)


@jax.jit
def table(mixer: AbstractMixer, q: Array, avail: Array, state: Array, obs: Array) -> tuple[Array, Array, Array]:
    """Q_tot of every joint action, the greedy joint action and its Q_tot."""
    joint = make_joint(q, avail, state, obs, jnp.zeros(N, jnp.int32))
    best = greedy(q, joint.ts)
    return jax.vmap(lambda u: mixer(joint._replace(action=u)))(JOINT_ACTIONS), best, mixer(joint._replace(action=best))


@jax.jit
def slopes(mixer: AbstractMixer, q: Array, state: Array, obs: Array) -> Array:
    """∂Q_tot/∂Q_i of one joint action."""
    joint = make_joint(q, jnp.ones((N, A), bool), state, obs, jnp.zeros(N, jnp.int32))
    return jax.grad(lambda q: mixer(joint._replace(q=q)))(joint.q)[:, 0]


@monotone_mixers
@some
@given(seeds, utilities, states, observations)
def test_monotone_in_every_utility(name: str, seed: int, q: np.ndarray, state: np.ndarray, obs: np.ndarray) -> None:
    slope = slopes(draw_mixer(name, seed), q, state, obs)
    assert (slope >= 0).all()
    if name.startswith("vdn"):
        np.testing.assert_array_equal(slope, 1)


@factored_mixers
@some
@given(seeds, utilities, masks, states, observations)
def test_igm(name: str, seed: int, q: np.ndarray, avail: np.ndarray, state: np.ndarray, obs: np.ndarray) -> None:
    """Individual-global-max: each agent's own best available action is, jointly, the best available joint action."""
    values, best, value_of_best = table(draw_mixer(name, seed), q, avail, state, obs)
    agents = np.arange(N)
    assert avail[agents, best].all()
    possible = avail[agents, np.asarray(JOINT_ACTIONS)].all(-1)
    best_possible = np.asarray(values)[possible].max()
    np.testing.assert_allclose(value_of_best, best_possible, rtol=1e-4, atol=1e-3)


@monotone_mixers
@some
@given(seeds, utilities, masks, states, observations)
def test_an_unavailable_action_more_changes_nothing(
    name: str, seed: int, q: np.ndarray, avail: np.ndarray, state: np.ndarray, obs: np.ndarray
) -> None:
    mixer = draw_mixer(name, seed)
    wider_q = np.concatenate([q, np.full((N, 1), 99, np.float32)], axis=1)
    wider_avail = np.concatenate([avail, np.zeros((N, 1), bool)], axis=1)
    plain, padded = table(mixer, q, avail, state, obs), table(mixer, wider_q, wider_avail, state, obs)
    for a, b in zip(plain, padded, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def permuted(mixer: AbstractMixer, order: Array) -> AbstractMixer:
    """The mixer with its agents in another order: the rows of what is ``[N, ...]`` move."""

    def outputs(layer: Any) -> Any:
        by_agent = lambda w: w.reshape(*w.shape[:-1], N, -1)[..., order, :].reshape(w.shape)  # noqa: E731
        return jax.tree.map(by_agent, layer)

    def move(where: Callable[[Any], Any]) -> AbstractMixer:
        return eqx.tree_at(where, mixer, tuple(map(outputs, where(mixer))))

    match mixer:
        case QMIXNS():
            return eqx.tree_at(lambda m: m.w1, mixer, mixer.w1[order])
        case QMIX():
            return move(lambda m: (m.w1.layers[-1],))
        case QMIXLin():
            return move(lambda m: (m.w.layers[-1],))
        case QPLEX():
            last = lambda m: tuple(net.layers[-1] for net in (m.w, m.b, m.kernels.agent, m.kernels.action))  # noqa: E731
            sees = lambda m: m.kernels.action.layers[0].weight  # noqa: E731
            moved = eqx.tree_at(last, mixer, tuple(map(outputs, last(mixer))))
            inputs = jnp.concatenate([jnp.arange(S), S + (order[:, None] * A + jnp.arange(A)[None]).reshape(-1)])
            return eqx.tree_at(sees, moved, sees(moved)[:, inputs])
        case _:
            return mixer


@factored_mixers
@some
@given(seeds, utilities, states, observations, st.permutations(range(N)))
def test_the_order_of_the_agents_does_not_matter(
    name: str, seed: int, q: np.ndarray, state: np.ndarray, obs: np.ndarray, order: list[int]
) -> None:
    mixer = draw_mixer(name, seed)
    everything = np.ones((N, A), bool)
    index = jnp.array(order)
    _, best, value = table(mixer, q, everything, state, obs)
    _, best_permuted, value_permuted = table(permuted(mixer, index), q[order], everything, state, obs[order])
    np.testing.assert_allclose(value, value_permuted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(best[index], best_permuted)


SIZES: dict[str, Any] = {"agents": N, "actions": A, "state": S, "obs": D, "hidden": H}
STEPS: Joint = jax.tree.map(lambda *x: jnp.stack(x), *(random_joint(seed, **SIZES) for seed in range(20)))
TAKEN = jax.vmap(lambda joint: joint.taken)(STEPS)


class Slopes(NamedTuple):
    """The loss's gradient, by what it can flow to."""

    mixer: Any
    q: Array
    hidden: Array
    y: Array


@jax.jit
def learn(mixer: AbstractMixer, steps: Joint) -> tuple[Array, Slopes]:
    """The loss of each of some joint steps, and the gradient of their sum."""

    def loss(mixer: AbstractMixer, q: Array, hidden: Array, y: Array) -> tuple[Array, Array]:
        moved = steps._replace(q=q, hidden=hidden)
        losses = jax.vmap(lambda joint, y: mixer.loss(joint, y)[0])(moved, y)
        return losses.sum(), losses

    y = jnp.zeros(len(steps.q))
    gradient, losses = jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(mixer, steps.q, steps.hidden, y)
    return losses, Slopes(*gradient)


@every_mixer
def test_every_parameter_is_learned(name: str) -> None:
    """The loss of a few joint steps moves every array of the mixer."""
    mixer = draw_mixer(name, 1)
    _, gradient = learn(mixer, STEPS)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient.mixer))
    assert jax.tree.structure(gradient.mixer) == jax.tree.structure(mixer)


@every_mixer
def test_gradients_flow_where_they_should(name: str) -> None:
    """To what the agents did and, if a joint value reads them, to their hidden states; never to the target.

    Utilities of other actions have a part only where the method compares: in QTRAN's conditions, and in QPLEX's
    advantages unless these are constants.
    """
    mixer = draw_mixer(name, 1)
    _, gradient = learn(mixer, STEPS)
    assert not gradient.y.any()
    by_agent = gradient.hidden.any((0, 2))
    np.testing.assert_array_equal(by_agent, [isinstance(mixer, CentralMixer)] * N)
    moved, taken, avail, q = (np.asarray(x) for x in (gradient.q != 0, TAKEN, STEPS.ts.avail, STEPS.q))
    best = q == q.max(-1, keepdims=True)
    match name:
        case "qtran-base" | "qplex-no-stop":
            assert (moved & ~taken).any()
            assert not (moved & ~taken & ~best).any()
        case "qtran-alt":  # the least gap is found at any action that is available
            assert (moved & ~taken & ~best).any()
            assert not (moved & ~avail).any()
        case "qatten-masked":
            choice = avail.sum(-1, keepdims=True) > 1
            np.testing.assert_array_equal(moved, taken & (choice | ~choice.any(1, keepdims=True)))
        case _:
            np.testing.assert_array_equal(moved, taken)


def test_no_method_is_left_out() -> None:
    mixers = {
        type(jax.eval_shape(functools.partial(build_mixer, RunConfig(method=name), SPEC), KEY))
        for name, method in METHODS.items()
        if method.values
    }
    assert mixers - {IQL} == {type(shapes(name)) for name in EVERY}
    optimistic = {shapes(name).optimistic for name in EVERY if name.endswith("w-qmix")}
    assert optimistic == {True, False}


@every_mixer
def test_what_stands_in_for_an_unavailable_action_does_not_matter(name: str) -> None:
    """As long as it is low: the number enters neither the loss nor the gradient."""
    assert not STEPS.ts.avail.all()
    mixer, higher = draw_mixer(name, 1), STEPS._replace(q=jnp.where(STEPS.ts.avail, STEPS.q, MASKED / 1000))
    plain, changed = learn(mixer, STEPS), learn(mixer, higher)
    jax.tree.map(np.testing.assert_array_equal, plain, changed)


@every_mixer
def test_every_parameter_is_copied_to_the_target(name: str) -> None:
    """At once in a hard update, by its share in a soft one."""
    online, target = (Networks(AGENT, draw_mixer(name, seed)) for seed in (1, 2))
    for how, tau in (("hard", 1.0), ("soft", 0.25)):
        new = next_target(online, target, jnp.asarray(3), how, 3, 0.25)
        for a, b, c in zip(*map(jax.tree.leaves, (new, online, target)), strict=True):
            np.testing.assert_allclose(a, tau * b + (1 - tau) * c, rtol=1e-5, atol=1e-6)
