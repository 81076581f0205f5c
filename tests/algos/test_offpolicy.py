"""What MADDPG and MAAC have in common: the order of an update, whose gradient is whose, and what counts."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from comarl.algos.offpolicy import Networks, OffPolicy, OffPolicyState, Optimisers
from comarl.experiments.build import build_maac, build_maddpg
from comarl.experiments.presets import resolve
from comarl.memory.base import Batch
from tests.probes import Lottery, random_parameters, random_trajectory, uniform

SPEC = Lottery().spec
N, A = SPEC.num_agents, SPEC.num_actions
KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"hidden": 8, "critic_hidden": 8, "critic_heads": 2}


class Case(NamedTuple):
    """A rule and its networks.

    Attributes:
        rule: the rule.
        own: the part of its critics that every agent has of its own.
        networks: drawn, and others for the targets.
    """

    rule: OffPolicy
    own: Callable[[Any], Any]
    networks: Networks
    lagging: Networks


def case(rule: OffPolicy, own: Callable[[Any], Any]) -> Case:
    return Case(rule, own, *(random_parameters(lambda: rule.init(KEY).online, seed) for seed in (4, 6)))


CASES = {
    "maddpg": case(build_maddpg(resolve("maddpg", "two-step", SMALL), SPEC), lambda critic: critic),
    "maac": case(build_maac(resolve("maac", "two-step", SMALL), SPEC), lambda critic: critic.head),
}
BATCH = uniform(random_trajectory(5, CASES["maddpg"].networks.actor, steps=7, batch=5, obs=4, state=3))._replace(
    weight=jnp.linspace(0.2, 1.0, 5)
)
every_rule = pytest.mark.parametrize("name", CASES)


@eqx.filter_jit
def slope(rule: OffPolicy, actor: Any, critic: Any, batch: Batch = BATCH, key: Array = KEY) -> Any:
    """Of the policies' loss."""
    return jax.grad(rule.actor_loss, has_aux=True)(actor, critic, batch, key)[0]


@every_rule
def test_an_update_is_a_step_of_the_critics_and_then_one_of_the_actors_and_targets_follow(name: str) -> None:
    rule, _, networks, lagging = CASES[name]
    algorithm = dataclasses.replace(rule, optimiser=optax.sgd(0.1), target_tau=0.25)
    optimisers = Optimisers(algorithm.optimiser.init(networks.actor), algorithm.optimiser.init(networks.critic))
    state = OffPolicyState(networks, lagging, optimisers, jnp.zeros((), jnp.int32))
    after = jax.jit(algorithm.update)(state, BATCH, KEY)
    target_key, actor_key = jax.random.split(KEY)
    y = jax.jit(rule.targets)(lagging, BATCH, target_key)
    by_critic = rule.scaled(jax.jit(jax.grad(rule.critic_loss, has_aux=True))(networks.critic, y, BATCH)[0])
    critic = jax.tree.map(lambda w, g: w - 0.1 * g, networks.critic, by_critic)
    by_actor = slope(rule, networks.actor, critic, BATCH, actor_key)
    actor = jax.tree.map(lambda w, g: w - 0.1 * g, networks.actor, by_actor)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)  # noqa: E731
    jax.tree.map(close, after.state.online, Networks(actor, critic))
    polyak = jax.tree.map(lambda new, old: 0.25 * new + 0.75 * old, Networks(actor, critic), lagging)
    jax.tree.map(close, after.state.target, polyak)
    assert after.state.updates == 1
    assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves((by_critic, by_actor)))
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves((by_critic, by_actor))))
    np.testing.assert_allclose(after.metrics["grad_norm"], norm, rtol=1e-3)


@every_rule
@pytest.mark.parametrize("changed", range(N))
def test_an_actor_follows_its_own_critic_alone(name: str, changed: int) -> None:
    """Each has parameters of its own here: with other values of one agent, only that agent's gradient is another."""
    rule, own, networks, _ = CASES[name]
    changed_part = jax.tree.map(lambda w: w.at[changed].multiply(1.5), own(networks.critic))
    other = eqx.tree_at(own, networks.critic, changed_part)
    before, after = (slope(rule, networks.actor, critic) for critic in (networks.critic, other))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old[1 - changed], new[1 - changed])
        assert np.any(np.asarray(old[changed] != new[changed]))


@every_rule
def test_who_has_no_choice_counts_for_the_critics_alone(name: str) -> None:
    rule, _, networks, _ = CASES[name]
    trajectory = BATCH.trajectory
    only = jax.nn.one_hot(trajectory.action[..., 0], A) > 0
    ts = trajectory.ts._replace(avail=trajectory.ts.avail.at[:-1, :, 0].set(only))
    bound = BATCH._replace(trajectory=trajectory._replace(ts=ts))
    for gradient in jax.tree.leaves(slope(rule, networks.actor, networks.critic, bound)):
        np.testing.assert_array_equal(gradient[0], 0)
        assert np.any(np.asarray(gradient[1]) != 0)


@every_rule
def test_without_target_networks_none_are_kept(name: str) -> None:
    algorithm = dataclasses.replace(CASES[name].rule, target_update="none")
    state = jax.eval_shape(algorithm.init, KEY)
    assert state.target is None
    after = jax.eval_shape(algorithm.update, state, BATCH, KEY).state
    assert jax.tree.structure(after) == jax.tree.structure(state)
