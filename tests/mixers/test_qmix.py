"""QMIX and its ablations against the papers' equations, written as loops over single numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.base import make_timestep
from comarl.mixers.base import AbstractMixer, Joint
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from tests.by_hand import elu, network
from tests.probes import random_parameters

N, S, E, HYPER = 3, 4, 5, 6
KEY = jax.random.key(0)


def case(seed: int) -> tuple[np.ndarray, np.ndarray, Joint]:
    draw = np.random.default_rng(seed)
    chosen, state = draw.normal(size=N), draw.normal(size=S)
    ts = make_timestep(jnp.zeros((N, 1)), jnp.asarray(state), num_actions=1)
    q = jnp.asarray(chosen, jnp.float32)[:, None]
    return chosen, state, Joint(q, jnp.zeros(N, jnp.int32), jnp.zeros((N, 1)), ts)


def mixed(q: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, v: float) -> float:
    """Rashid et al. 2018, figure 2: two layers with positive weights, ELU between them."""
    total = v
    for e in range(E):
        hidden = b1[e]
        for i in range(N):
            hidden += q[i] * abs(w1[i, e])
        total += elu(hidden) * abs(w2[e])
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layers", [1, 2], ids=["ICML", "JMLR"])
def test_qmix_is_its_equation(layers: int, seed: int) -> None:
    make = lambda: QMIX(N, S, embed=E, hyper_layers=layers, hyper_hidden=HYPER, key=KEY)  # noqa: E731
    mixer = random_parameters(make, seed)
    widths = [layer.weight.shape for layer in mixer.w1.layers]
    assert widths == ([(S, N * E)] if layers == 1 else [(S, HYPER), (HYPER, N * E)])
    assert mixer.b1.weight.shape == (S, E)  # b₁ is linear in the state
    assert [layer.weight.shape for layer in mixer.v.layers] == [(S, E), (E, 1)]
    q, s, joint = case(seed)
    w1 = network(mixer.w1, s).reshape(N, E)
    by_hand = mixed(q, w1, network(mixer.b1, s), network(mixer.w2, s), network(mixer.v, s)[0])
    np.testing.assert_allclose(mixer(joint), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_qmix_ns_is_its_equation(seed: int) -> None:
    mixer = random_parameters(lambda: QMIXNS(N, embed=E, key=KEY), seed)
    q, _, joint = case(seed)
    w1, b1, w2, b2 = (np.asarray(x, float) for x in (mixer.w1, mixer.b1, mixer.w2, mixer.b2))
    np.testing.assert_allclose(mixer(joint), mixed(q, w1, b1, w2, float(b2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_qmix_lin_is_its_equation(seed: int) -> None:
    mixer = random_parameters(lambda: QMIXLin(N, S, embed=E, hyper_hidden=HYPER, key=KEY), seed)
    q, s, joint = case(seed)
    w, b = network(mixer.w, s), network(mixer.b, s)[0]
    by_hand = sum(abs(w[i]) * q[i] for i in range(N)) + b
    np.testing.assert_allclose(mixer(joint), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mixer", "looks_at_the_state"),
    [(QMIX(N, S, key=KEY), True), (QMIXNS(N, key=KEY), False), (QMIXLin(N, S, key=KEY), True)],
    ids=["qmix", "qmix-ns", "qmix-lin"],
)
def test_who_looks_at_the_state(mixer: AbstractMixer, looks_at_the_state: bool) -> None:
    _, _, joint = case(0)
    influence = jax.grad(lambda s: mixer.bootstrap(joint._replace(ts=joint.ts._replace(state=s))))(joint.ts.state)
    assert bool(influence.any()) is looks_at_the_state
