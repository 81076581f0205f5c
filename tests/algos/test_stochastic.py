"""How agents with policies act."""

import jax
import jax.numpy as jnp
import numpy as np

from comarl.algos.stochastic import StochasticPolicy
from comarl.envs.base import make_timestep
from comarl.nets.agents import Agent
from comarl.types import EnvSpec
from tests.probes import random_parameters

SPEC = EnvSpec("x", 2, 3, 1, 4, 10)
POLICY = StochasticPolicy(random_parameters(lambda: Agent(SPEC, key=jax.random.key(0), hidden=5)))
AVAIL = jnp.array([[True, True, False, True], [False, True, True, False]])
TS = make_timestep(jnp.ones((2, 3)), jnp.ones(1), avail=AVAIL, first=True)


@jax.jit
def explored(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    act = lambda key: POLICY.act(POLICY.initial_carry(), TS, key, explore=True)  # noqa: E731
    carry, action = jax.vmap(act)(keys)
    return carry.last_action, action


def test_actions_are_drawn_from_the_softmax_over_what_is_available_and_remembered() -> None:
    logits = np.asarray(POLICY.actor(POLICY.initial_carry(), TS)[1].q)
    p = np.where(AVAIL, np.exp(logits), 0)
    p /= p.sum(-1, keepdims=True)
    remembered, action = map(np.asarray, explored(jax.random.split(jax.random.key(1), 20_000)))
    np.testing.assert_array_equal(remembered, action)
    got = [[(action[:, i] == a).mean() for a in range(4)] for i in range(2)]
    np.testing.assert_allclose(got, p, atol=0.015)  # four standard errors
    np.testing.assert_array_equal(np.asarray(got)[~np.asarray(AVAIL)], 0)


def test_evaluation_is_greedy_whatever_the_key() -> None:
    logits = np.asarray(POLICY.actor(POLICY.initial_carry(), TS)[1].q)
    best = np.where(AVAIL, logits, -np.inf).argmax(-1)
    act = jax.jit(lambda key: POLICY.act(POLICY.initial_carry(), TS, key, explore=False))
    for seed in range(20):
        carry, action = act(jax.random.key(seed))
        np.testing.assert_array_equal(action, best)
        np.testing.assert_array_equal(carry.last_action, best)
