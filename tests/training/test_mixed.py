"""Agents of several teams as one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from comarl.algos.base import Policy
from comarl.algos.stochastic import StochasticPolicy
from comarl.envs.base import Env
from comarl.nets.agents import Agent
from comarl.nets.ensemble import Ensemble
from comarl.training.evaluate import Episodes, evaluation_keys, play
from comarl.training.mixed import MixedTeam
from comarl.types import TimeStep
from tests.probes import Aim, Chase, Lottery, random_parameters

KEYS = evaluation_keys(16)


class Plan:
    """The same actions at every step, raised by a count that begins somewhere and that it remembers."""

    def __init__(self, *actions: int, count: int):
        self.actions, self.count = actions, count

    def initial_carry(self) -> Array:
        return jnp.array(self.count, jnp.int32)

    def act(self, carry: Array, ts: TimeStep, key: Array, explore: bool) -> tuple[Array, Array]:
        return carry + 1, jnp.array(self.actions, jnp.int32) + carry


def test_each_agent_does_what_its_own_team_would_have_it_do() -> None:
    sources = (Plan(0, 1, 2, count=0), Plan(3, 4, 5, count=10), Plan(6, 7, 8, count=20))
    mixture = MixedTeam(sources, jnp.array([0, 1, 1]))
    _, ts = Chase().reset(KEYS[0])
    carry = mixture.initial_carry()
    for step in range(2):
        carry, action = mixture.act(carry, ts, KEYS[0], False)
        np.testing.assert_array_equal(action, [step, 14 + step, 15 + step])
        np.testing.assert_array_equal(carry, [step + 1, step + 11, step + 21])


def recurrent(env: Env, seed: int, policies: int = 1) -> StochasticPolicy:
    """Random agents with memory, or an ensemble of them."""
    make = lambda key: Agent(env.spec, key=key, hidden=4)  # noqa: E731
    key = jax.random.key(0)
    actor = lambda: make(key) if policies == 1 else Ensemble(make, policies, key=key)  # noqa: E731
    return StochasticPolicy(random_parameters(actor, seed))


@jax.jit
def sampled(policy: Any) -> Episodes:
    return play(Lottery(), policy, KEYS, explore=True)


def test_where_agents_do_not_meet_each_fares_as_in_its_own_team() -> None:
    """In the lottery nobody's action matters to anybody else: so memories, masks, turns and draws are each agent's own.

    A mixture of a team with itself is the special case in which all agents come from the same one.
    """
    teams = (recurrent(Lottery(), 0), recurrent(Lottery(), 1, policies=3))
    own = [np.asarray(sampled(team).returns) for team in teams]
    assert (own[0] != own[1]).any(0).all()
    for whose in ([0, 0], [0, 1], [1, 0], [1, 1]):
        mixed = np.asarray(sampled(MixedTeam(teams, jnp.array(whose))).returns)
        np.testing.assert_array_equal(mixed, np.stack([own[k][:, i] for i, k in enumerate(whose)], axis=-1))


class Leaning:
    """Vectors that are all alike."""

    def __init__(self, lean: float):
        self.lean = lean

    def initial_carry(self) -> tuple[()]:
        return ()

    def act(self, carry: tuple[()], ts: TimeStep, key: Array, explore: bool) -> tuple[tuple[()], Array]:
        return (), jnp.full(ts.avail.shape, self.lean)


def test_actions_may_be_vectors() -> None:
    _, ts = Aim().reset(KEYS[0])
    sources: tuple[Policy, ...] = (Leaning(0.5), Leaning(-1.0))
    _, action = MixedTeam(sources, jnp.array([1, 0])).act(((), ()), ts, KEYS[0], False)
    np.testing.assert_array_equal(action, [[-1, -1], [0.5, 0.5]])
