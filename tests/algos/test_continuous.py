"""PPO and MADDPG where actions are vectors: gradients by hand, padding, and a probe with a known best."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.algos.maddpg import MADDPG
from comarl.algos.ppo import PPO, ActorCritic, PPOPolicy, PPOState
from comarl.algos.value_scale import ValueScale
from comarl.experiments.build import build_maddpg, build_ppo
from comarl.experiments.presets import DEFAULTS, OF_METHOD, resolve
from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.critics import ActionCritic
from comarl.types import TimeStep, Trajectory
from tests.probes import Aim, annotating, random_parameters, train, uniform

ENV = Aim()
KEY = jax.random.key(0)
BARE: dict[str, Any] = {"cell": "mlp", "hidden": 4, "last_action": False, "agent_id": False, "sharing": "agent"}


def ppo(**settings: Any) -> PPO:
    return build_ppo(resolve("mappo", "two-step", BARE | settings), ENV.spec)


def maddpg(**settings: Any) -> MADDPG:
    return build_maddpg(resolve("maddpg", "two-step", BARE | settings), ENV.spec)


def zeros(make: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(make))


def with_bias(actor: Agent, bias: np.ndarray) -> Agent:
    """Agents that give the same numbers whatever they see."""
    return eqx.tree_at(lambda a: a.body.module.head.bias, actor, jnp.asarray(bias, jnp.float32))


def played(action: np.ndarray, carry: Any) -> Trajectory:
    """An episode for each joint action ``[B, N, A]``."""
    number = len(action)
    state, first = jax.vmap(ENV.reset)(jax.random.split(KEY, number))
    last = jax.vmap(ENV.step)(state, jnp.asarray(action, jnp.float32), jax.random.split(KEY, number))[1]
    ts: TimeStep = jax.tree.map(lambda *x: jnp.stack(x), first, last)
    carry = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), carry)
    return Trajectory(ts, jnp.asarray(action, jnp.float32)[None], carry)


def test_gradient_of_a_quadratic_game_by_ppo() -> None:
    """∂/∂μ of -A log π is -A (u - μ) / σ² and ∂/∂log σ is -A (((u - μ) / σ)² - 1), A scaled to variance 1."""
    algorithm = ppo(entropy_weight=0.0, value_weight=0.0)
    networks: ActorCritic = zeros(lambda: algorithm.init(KEY).networks)
    mean = np.array([[0.2, -0.4], [0.1, 0.0]])
    networks = eqx.tree_at(lambda n: n.actor, networks, with_bias(networks.actor, np.concatenate([mean, 0 * mean], -1)))
    # A grid about the means, so that the mean over it is a mean over draws of ±1 standard deviation.
    std = np.exp(-1)
    signs = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    action = np.zeros((len(signs), 2, 2))
    action[:, 0] = mean[0] + std * signs[:, :2]
    action[:, 1, 0] = mean[1, 0] + std * signs[:, 2]
    trajectory = played(action, PPOPolicy(networks).initial_carry())
    state = PPOState(networks, algorithm.optimiser.init(networks), ValueScale.fresh(2))  # pyright: ignore
    trajectory = annotating(algorithm)(state, trajectory)
    gradient = jax.jit(jax.grad(lambda n: algorithm.loss(n, state.scale, trajectory)[0]))(networks)
    reward = ENV.pay(jnp.asarray(action, jnp.float32))
    advantage = np.asarray((reward - reward.mean()) / reward.std())[:, None, None]
    z = (action - mean) / std
    z[:, 1, 1] = 0
    own = np.array([[1, 1], [1, 0]])
    by_mean = -(advantage * z / std).mean(0) / 2 * own  # a mean over the two agents, too
    by_log_std = -(advantage * (z**2 - 1)).mean(0) / 2 * own
    got = gradient.actor.body.module.head.bias
    np.testing.assert_allclose(got, np.concatenate([by_mean, by_log_std], -1), rtol=1e-3, atol=1e-5)
    assert np.abs(by_mean[own == 1]).min() > 0.01


class Quadratic(ActionCritic):
    """Q_i(u) = -Σ_a (u_ia - c_a)² + u_i0 u_j0 over the components that agent i has."""

    def __call__(self, ts: TimeStep, action: Array, own: Array | None = None) -> Array:
        own = action if own is None else own
        apart = jnp.where(ts.avail, (own - jnp.broadcast_to(CENTRE, own.shape)) ** 2, 0.0).sum(-1)
        return own[..., 0] * action[..., ::-1, 0] - apart


CENTRE = np.array([0.5, -0.3], np.float32)
OUTPUTS = np.array([[0.4, -1.0], [-0.7, 3.0]])
OWN = np.array([[True, True], [True, False]])


def test_gradient_of_a_quadratic_game_by_maddpg() -> None:
    """∂Q_i/∂x_ia is (-2 (tanh x_ia - c_a) + [a = 0] u_j0) (1 - tanh² x_ia), the other's action as it was done."""
    weight = 0.1
    algorithm = maddpg(logit_weight=weight)
    actor = with_bias(zeros(lambda: algorithm.init(KEY).online.actor), OUTPUTS)
    done = np.where(OWN, np.random.default_rng(0).uniform(-1, 1, (5, 2, 2)), 0)
    batch = uniform(played(done, actor.initial_carry()))
    critics = (Quadratic(ENV.spec, key=KEY, sees="observations"),)
    got = jax.jit(jax.grad(lambda a: algorithm.actor_loss(a, critics, batch, KEY)[0]))(actor)
    u = np.tanh(OUTPUTS)
    others = done[:, ::-1, :1].mean(0) * [1, 0]
    slope = (-2 * (u - CENTRE) + others) * (1 - u**2)
    by_hand = -slope / 2 + weight * 2 * OUTPUTS / OWN.sum()  # means over agents, and over components
    np.testing.assert_allclose(got.body.module.head.bias, np.where(OWN, by_hand, 0), rtol=1e-4, atol=1e-6)


def test_targets_are_made_of_what_target_policies_do_without_noise() -> None:
    algorithm = maddpg(exploration_noise=5.0, gamma=0.9)
    networks = zeros(lambda: algorithm.init(KEY).online)
    networks = eqx.tree_at(lambda n: n.actor, networks, with_bias(networks.actor, OUTPUTS))
    networks = eqx.tree_at(lambda n: n.critic, networks, (Quadratic(ENV.spec, key=KEY, sees="observations"),))
    trajectory = played(np.zeros((3, 2, 2)), networks.actor.initial_carry())
    ts = trajectory.ts._replace(discount=jnp.ones_like(trajectory.ts.discount), last=jnp.zeros_like(trajectory.ts.last))
    y = algorithm.targets(networks, uniform(trajectory._replace(ts=ts)), KEY)
    u = np.where(OWN, np.tanh(OUTPUTS), 0)
    q = u[:, 0] * u[::-1, 0] - np.where(OWN, (u - CENTRE) ** 2, 0).sum(-1)
    np.testing.assert_allclose(y[0], np.tile(ts.reward[1, 0] + 0.9 * q, (3, 1)), rtol=1e-5)


@pytest.mark.parametrize("sees", ["maddpg", "ddpg"])
def test_components_that_an_agent_does_not_have_are_nowhere(sees: str) -> None:
    """What the agent's network says of them reaches neither what is done nor targets nor losses."""
    algorithm = build_maddpg(resolve(sees, "two-step", BARE), ENV.spec)
    networks = random_parameters(lambda: algorithm.init(KEY).online)
    other = eqx.tree_at(
        lambda a: a.body.module.head.bias, networks.actor, networks.actor.body.module.head.bias.at[1, 1].add(3)
    )
    trajectory = played(np.where(OWN, 0.3, np.zeros((4, 2, 2))), networks.actor.initial_carry())

    def all_of(actor: Agent) -> Any:
        batch, target = uniform(trajectory), networks.__class__(actor, networks.critic)
        act = algorithm.policy(jax.eval_shape(algorithm.init, KEY)._replace(online=target), 0).act
        ts = jax.tree.map(lambda x: x[0, 0], trajectory.ts)
        done = [act(actor.initial_carry(), ts, KEY, explore)[1] for explore in (True, False)]
        return done, algorithm.targets(target, batch, KEY), algorithm.actor_loss(actor, networks.critic, batch, KEY)

    jax.tree.map(np.testing.assert_array_equal, all_of(networks.actor), all_of(other))


def test_the_previous_vector_is_seen_as_it_is() -> None:
    agent = random_parameters(lambda: Agent(ENV.spec, key=KEY, hidden=4, agent_id=False))
    assert agent.initial_carry().last_action.shape == (2, 2)
    trajectory = played(np.zeros((3, 2, 2)), agent.initial_carry())
    ts = jax.tree.map(lambda x: x[-1:], trajectory.ts)._replace(first=jnp.array([[False, False, True]]))
    before = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (3, 2, 2)), jnp.float32)
    x = agent._inputs(ts, before[None])[0]
    np.testing.assert_array_equal(x[..., :1], ts.obs[0])
    np.testing.assert_array_equal(x[:2, :, 1:], before[:2])
    np.testing.assert_array_equal(x[2, :, 1:], 0)
    carry: Any = AgentCarry(jax.tree.map(lambda h: jnp.stack([h] * 3), agent.initial_carry().memory), before)
    assert agent(carry, jax.tree.map(lambda x: x[0], ts))[1].q.shape == (3, 2, 2)


# A probe: from the first random action to the best one.

SIZES: dict[str, Any] = {"num_envs": 32, "length": 2, "hidden": 16, "cell": "mlp", "team_reward": "mean"}


def test_ppo_hits_the_mark() -> None:
    settings = DEFAULTS["ppo"] | SIZES | {"minibatches": 1, "lr": 0.02, "entropy_weight": 0.0}
    _, log = train(ENV, "mappo", 100, **settings)
    assert float(log.evaluation.returns.min()) > -0.03  # three components, each .1 beside its mark; random about -1.7


@pytest.mark.paper
@pytest.mark.parametrize("vector_policy", ["tanh", "softmax"])
def test_maddpg_hits_the_mark_or_its_nearest_corner(vector_policy: str) -> None:
    settings = OF_METHOD["maddpg"] | SIZES | {"batch_size": 32, "buffer_steps": 6400, "exploration_noise": 0.3}
    _, log = train(ENV, "maddpg", 150, **settings, vector_policy=vector_policy)
    worst = float(log.evaluation.returns.min())
    if vector_policy == "tanh":
        assert worst > -0.05
    else:  # the first agent does either one thing or the other, and the second's one share is always whole
        np.testing.assert_allclose(worst, float(ENV.pay(jnp.array([[1.0, -1.0], [1.0, 0.0]]))), rtol=1e-5)
