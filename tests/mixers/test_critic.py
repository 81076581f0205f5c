"""A mixer over critics: one value of the team, climbed by everybody at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.mixers.critic import FactoredCritic
from comarl.mixers.qmix import QMIX
from comarl.mixers.vdn import VDN
from comarl.nets.critics import ActionCritic
from comarl.types import EnvSpec, TimeStep
from tests.probes import random_parameters

KEY = jax.random.key(0)
T, B, N, D, S, A = 3, 2, 3, 4, 2, 5
SPEC = EnvSpec("x", N, D, S, A, 10)
OWN = random_parameters(lambda: ActionCritic(SPEC, key=KEY, sees="own", hidden=8), 0)
MONOTONE = random_parameters(lambda: QMIX(N, SPEC.state_dim, embed=4, hyper_layers=1, key=KEY), 1)
TS = TimeStep(
    obs=jax.random.normal(KEY, (T, B, N, D)),
    state=jax.random.normal(KEY, (T, B, S)),
    avail=jnp.ones((T, B, N, A), bool),
    reward=jnp.zeros((T, B, N)),
    discount=jnp.ones((T, B)),
    first=jnp.zeros((T, B), bool),
    last=jnp.zeros((T, B), bool),
)
ACTION, NOW = jax.random.uniform(KEY, (2, T, B, N, A))


def test_every_agent_has_the_teams_value() -> None:
    """With VDN it is the sum of what each critic says, step by step."""
    q = jax.jit(FactoredCritic(OWN, VDN()).__call__)(TS, ACTION)
    each = OWN(TS, ACTION)
    for t, b in np.ndindex(T, B):
        np.testing.assert_allclose(q[t, b], [float(each[t, b].sum())] * N, rtol=1e-5)


def test_a_mixer_sees_the_state_of_each_step() -> None:
    q = FactoredCritic(OWN, MONOTONE)(TS, ACTION)
    other = FactoredCritic(OWN, MONOTONE)(TS._replace(state=TS.state.at[0, 0].add(1.0)), ACTION)
    changed = np.asarray(q != other).any(-1)
    np.testing.assert_array_equal(changed, np.arange(T * B).reshape(T, B) == 0)


@pytest.mark.parametrize("mixer", [VDN(), MONOTONE], ids=["vdn", "qmix"])
def test_all_agents_do_what_they_would_do_now(mixer: VDN | QMIX) -> None:
    """Not one agent alone: what was replayed has no part in the value that the policies climb."""
    critic = FactoredCritic(OWN, mixer)
    np.testing.assert_array_equal(critic(TS, ACTION, NOW), critic(TS, NOW))
    slope = jax.grad(lambda own: critic(TS, ACTION, own)[0, 0, 0])(NOW)
    assert (np.abs(slope[0, 0]).sum(-1) > 0).all()
    np.testing.assert_array_equal(slope[1:], 0.0)
    np.testing.assert_array_equal(slope[:, 1:], 0.0)


def test_an_agents_slope_is_its_critics_times_the_mixers() -> None:
    """∂Q_tot/∂u_i = ∂g/∂Q_i · ∂Q_i/∂u_i: with QMIX never against the agent's own critic."""
    joint = jax.grad(lambda own: FactoredCritic(OWN, MONOTONE)(TS, ACTION, own)[..., 0].sum())(NOW)
    alone = jax.grad(lambda own: OWN(TS, own).sum())(NOW)
    # Where all of an agent's ReLUs are closed both slopes are 0.
    weight = jnp.sum(joint * alone, -1) / jnp.maximum(jnp.sum(alone**2, -1), 1e-12)
    np.testing.assert_allclose(joint, weight[..., None] * alone, atol=1e-5)
    assert (np.asarray(weight) >= 0).all()
