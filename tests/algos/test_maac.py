"""MAAC: by hand, by enumeration, on games whose soft values are known, and what each part may look at."""

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.algos.maac import MAAC
from comarl.algos.offpolicy import Networks, OffPolicyState, Optimisers
from comarl.algos.stochastic import StochasticPolicy
from comarl.envs.base import Env
from comarl.envs.games.matrix import MatrixGame
from comarl.experiments.build import build_maac
from comarl.experiments.config import with_settings
from comarl.experiments.presets import OF_METHOD, resolve
from comarl.memory.base import Batch
from comarl.nets.attention_critic import Attended, AttentionCritic
from comarl.nets.distributions import sample
from comarl.types import EnvSpec, TimeStep
from tests.probes import (
    Forbidden,
    Limit,
    Lottery,
    make_driver,
    played,
    random_parameters,
    random_trajectory,
    stepped_logits,
    train,
    uniform,
)

SPEC = Lottery().spec
N, A, OBS, STATE = SPEC.num_agents, SPEC.num_actions, 4, 3
STEPS, BATCH = 7, 5
GAMMA, ALPHA = 0.9, 0.3
KEY = jax.random.key(0)


def rule(spec: EnvSpec = SPEC, **settings: Any) -> MAAC:
    small = {"hidden": 8, "critic_hidden": 8, "critic_heads": 2}
    return build_maac(with_settings(resolve("maac", "two-step", small), settings), spec)


def draw_networks(algorithm: MAAC, seed: int = 0) -> Networks:
    return random_parameters(lambda: algorithm.init(KEY).online, seed)


def draw_batch(networks: Networks, seed: int = 0) -> Batch:
    trajectory = random_trajectory(seed, networks.actor, steps=STEPS, batch=BATCH, obs=OBS, state=STATE)
    return uniform(trajectory)._replace(weight=jnp.linspace(0.2, 1.0, BATCH))


def begin(algorithm: MAAC, online: Any, target: Networks | None) -> OffPolicyState:
    optimisers = Optimisers(algorithm.optimiser.init(online.actor), algorithm.optimiser.init(online.critic))
    return OffPolicyState(online, target, optimisers, jnp.zeros((), jnp.int32))


# Agents with a memory, so that it matters where the target's begins.
SETTINGS: dict[str, Any] = {"cell": "gru", "last_action": True, "gamma": GAMMA, "entropy_temperature": ALPHA}
RULE = rule(**SETTINGS, attention_penalty=0.2)
ONLINE, TARGET = draw_networks(RULE, 1), draw_networks(RULE, 2)
SEQUENCES = draw_batch(ONLINE)

ask = jax.jit(lambda critic, ts, action: critic(ts, action))


def slow_targets(target: Networks, batch: Batch, key: Array, td_lambda: float = 0.0) -> np.ndarray:
    """From the last step to the first, one agent at a time."""
    trajectory = batch.trajectory
    ts: TimeStep = jax.tree.map(np.asarray, trajectory.ts)
    p = np.where(ts.avail, np.exp(np.asarray(stepped_logits(target.actor, trajectory), float)), 0)
    log_p = np.log(np.maximum(p / p.sum(-1, keepdims=True), 1e-30))
    # The same key on the same probabilities makes the same draw.
    drawn = sample(jnp.asarray(log_p[1:], jnp.float32), key)
    q = np.asarray(ask(target.critic, jax.tree.map(lambda x: x[1:], trajectory.ts), drawn).q)
    y = np.zeros((STEPS, BATCH, N))
    for b, i in np.ndindex(BATCH, N):
        for t in reversed(range(STEPS)):
            a = int(drawn[t, b, i])
            v = q[t, b, i, a] - ALPHA * log_p[t + 1, b, i, a]
            if td_lambda and t + 1 < STEPS and not ts.last[t + 1, b]:
                done = int(trajectory.action[t + 1, b, i])
                v = (1 - td_lambda) * v + td_lambda * (y[t + 1, b, i] - ALPHA * log_p[t + 1, b, i, done])
            y[t, b, i] = ts.reward[t + 1, b, i] + GAMMA * ts.discount[t + 1, b] * v
    return y


@pytest.mark.parametrize("td_lambda", [0.0, 0.6])
def test_targets_are_soft_returns(td_lambda: float) -> None:
    ts = SEQUENCES.trajectory.ts
    assert (ts.last[1:] & (ts.discount[1:] == 0)).any()
    assert (ts.last[1:-1] & (ts.discount[1:-1] == 1)).any()
    got = jax.jit(rule(**SETTINGS, td_lambda=td_lambda).targets)(TARGET, SEQUENCES, KEY)
    y = slow_targets(TARGET, SEQUENCES, KEY, td_lambda)
    real = ~np.asarray(ts.last[:-1])
    np.testing.assert_allclose(np.asarray(got)[real], y[real], rtol=1e-4, atol=1e-4)


def test_the_critics_loss_equals_the_slow_one() -> None:
    trajectory = SEQUENCES.trajectory
    y = np.random.default_rng(0).normal(size=(STEPS, BATCH, N))
    losses, errors, squares = [], {b: [] for b in range(BATCH)}, []
    for t, b in np.ndindex(STEPS, BATCH):
        if trajectory.ts.last[t, b]:
            continue
        said = ask(ONLINE.critic, *jax.tree.map(lambda x, at=(t, b): x[at], (trajectory.ts, trajectory.action)))
        error = np.array([said.q[i, trajectory.action[t, b, i]] for i in range(N)]) - y[t, b]
        logits = np.asarray(said.logits)
        penalty = np.array([(np.delete(logits[i], i, axis=-1) ** 2).mean(-1).sum() for i in range(N)])
        losses.append(float(SEQUENCES.weight[b]) * (error**2 + 0.2 * penalty).sum())
        squares.append(float(SEQUENCES.weight[b]) * penalty.mean())
        errors[b].append(np.abs(error).mean())
    loss, (metrics, error) = jax.jit(RULE.critic_loss)(ONLINE.critic, jnp.asarray(y, jnp.float32), SEQUENCES)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(metrics["squared_logits"], np.mean(squares), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.mean(np.concatenate(list(errors.values()))), rtol=1e-4)
    np.testing.assert_allclose(error, [0.9 * np.max(e) + 0.1 * np.mean(e) for e in errors.values()], rtol=1e-4)


class Tabled(AttentionCritic):
    """Q_i of two agents from a table for each, ``[2, A, A]`` by both actions, whatever is perceived."""

    table: Array

    def __init__(self, table: np.ndarray, spec: EnvSpec):
        super().__init__(spec, key=KEY, heads=1, hidden=1)
        self.table = jnp.asarray(table, jnp.float32)

    def __call__(self, ts: TimeStep, action: Array) -> Attended:
        rows = self.table[0].T[action[..., 1]], self.table[1][action[..., 0]]
        nothing = jnp.zeros((*action.shape, 1, 2))
        return Attended(jnp.stack(rows, axis=-2), nothing, nothing)


PAIRS = np.array(list(itertools.product(range(3), repeat=2)))


def test_expected_gradient_is_that_of_soft_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all joint actions by their probability: ∇_i E[Q_i(a) - α log π_i(a_i)], and none of the others' J.

    By hand, with q_i(a) = Σ_b π_j(b) Q_i(a, b) and z_i(a) = q_i(a) - α log π_i(a), ∂J_i/∂θ_ia = π_i(a) (z_i(a) - Σ_b
    π_i(b) z_i(b)).
    """
    alpha, weight = 0.7, 0.1
    table = np.random.default_rng(0).normal(size=(2, 3, 3)) * 3
    game = MatrixGame("probe/two", table[0])
    algorithm = rule(game.spec, entropy_temperature=alpha, logit_weight=weight)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: algorithm.init(KEY).online.actor)
    )
    theta = np.array([[0.5, -1.0, 0.2], [0.0, 0.3, -0.4]])
    actor = eqx.tree_at(lambda a: a.body.module.head.bias, zeros, jnp.asarray(theta, jnp.float32))
    pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
    # An episode for each joint action, which counts as often as it is drawn.
    batch = played(game, actor, [[[0, 0]]] * 9)
    batch = batch._replace(weight=jnp.asarray(9 * pi[0][PAIRS[:, 0]] * pi[1][PAIRS[:, 1]], jnp.float32))
    monkeypatch.setattr("comarl.algos.maac.sample", lambda log_p, key: jnp.asarray(PAIRS[None], jnp.int32))
    got = jax.jit(jax.grad(algorithm.actor_loss, has_aux=True))(actor, Tabled(table, game.spec), batch, KEY)[0]
    z = np.stack([table[0] @ pi[1], table[1].T @ pi[0]]) - alpha * np.log(pi)
    want = pi * (z - (pi * z).sum(-1, keepdims=True))
    want -= weight * 2 * theta / 3  # mean over the actions of θ²
    np.testing.assert_allclose(got.body.module.head.bias, -want, rtol=1e-4, atol=1e-5)


def test_a_baseline_spares_variance() -> None:
    """Where the own action does not matter, no draw moves the policy."""
    table = np.stack([np.tile([1.0, -5.0, 3.0], (3, 1)), np.tile([[1.0], [-5.0], [3.0]], (1, 3))])
    game = MatrixGame("probe/other", table[0])
    algorithm = rule(game.spec, entropy_temperature=0.0, logit_weight=0.0)
    actor = draw_networks(algorithm).actor
    batch = played(game, actor, [[[0, 0]]] * 4)
    got = jax.jit(jax.grad(algorithm.actor_loss, has_aux=True))(actor, Tabled(table, game.spec), batch, KEY)[0]
    for gradient in jax.tree.leaves(got):
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_what_all_critics_share_moves_as_far_for_each_agent() -> None:
    """Its gradient is divided by the agents' number, and that of their own parts is as it is."""
    gradient = random_parameters(lambda: RULE.init(KEY).online.critic)
    scaled = RULE.scaled(gradient)
    for got, whole in zip(*map(jax.tree.leaves, (scaled.attention, gradient.attention)), strict=True):
        np.testing.assert_allclose(got, whole / N, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, scaled.head, gradient.head)


PLAIN = rule(entropy_temperature=ALPHA, gamma=GAMMA)
NETWORKS = draw_networks(PLAIN, 4)
PLAIN_BATCH = draw_batch(NETWORKS, 5)


@jax.jit
def slope(actor: Any, critic: AttentionCritic, batch: Batch, key: Array = KEY) -> Any:
    """Of the policies' loss."""
    return jax.grad(PLAIN.actor_loss, has_aux=True)(actor, critic, batch, key)[0]


def test_actions_that_are_not_available_are_nowhere() -> None:
    """What they would be worth and how they would be heard of reaches neither targets nor losses nor gradients."""
    trajectory = PLAIN_BATCH.trajectory
    avail = trajectory.ts.avail.at[..., 0].set(True).at[..., 2].set(False)
    batch = PLAIN_BATCH._replace(
        trajectory=trajectory._replace(ts=trajectory.ts._replace(avail=avail), action=jnp.minimum(trajectory.action, 1))
    )
    critic = NETWORKS.critic
    parts = lambda c: (c.head.module.layers[-1].bias, c.attention.encoder.module.weight)  # noqa: E731
    bias, weight = parts(critic)
    other = eqx.tree_at(parts, critic, (bias.at[:, 2].add(100.0), weight.at[:, OBS + N + 2].add(100.0)))

    def all_of(critic: AttentionCritic) -> Any:
        y = jax.jit(PLAIN.targets)(Networks(NETWORKS.actor, critic), batch, KEY)
        return y, jax.jit(PLAIN.critic_loss)(critic, y, batch), slope(NETWORKS.actor, critic, batch)

    jax.tree.map(np.testing.assert_array_equal, all_of(critic), all_of(other))


def test_settings_reach_the_rule() -> None:
    wanted: dict[str, Any] = {"entropy_temperature": 0.3, "logit_weight": 0.5, "attention_penalty": 0.25, "gamma": 0.8}
    wanted |= {"team_reward": "sum", "burn_in": 2, "stored_state": False, "target_update": "hard", "target_tau": 0.3}
    algorithm = rule(cell="gru", **wanted, target_interval=7)
    assert {name: getattr(algorithm, name) for name in wanted} == wanted
    assert algorithm.target_interval == 7
    networks: Networks = jax.eval_shape(rule(sharing="type").init, KEY).online
    assert networks.critic.attention.heads == 2
    assert networks.critic.head.module.layers[0].weight.shape == (1, 16, 8)
    assert networks.critic.attention.query is not None
    assert jax.eval_shape(rule(uniform_attention=True).init, KEY).online.critic.attention.query is None


def test_each_agent_has_a_clipping_of_its_own() -> None:
    """Losses are sums over the agents, and the global norm is clipped to as many times the setting."""
    algorithm = rule(grad_clip=0.5, lr=1.0)
    gradient = {"w": jnp.full((4,), 100.0)}
    state: Any = algorithm.optimiser.init(gradient)
    moments = algorithm.optimiser.update(gradient, state, gradient)[1][1][0].mu  # Adam's, .1 of the clipped gradient
    np.testing.assert_allclose(np.linalg.norm(moments), 0.1 * 0.5 * N, rtol=1e-4)


# Games whose soft values are known.


@functools.partial(jax.jit, static_argnums=0)
def improve(algorithm: MAAC, networks: Networks, batch: Batch) -> Networks:
    """Many updates on one batch."""

    def one(state: OffPolicyState, key: Array) -> tuple[OffPolicyState, None]:
        return algorithm.update(state, batch, key).state, None

    return jax.lax.scan(one, begin(algorithm, networks, networks), jax.random.split(KEY, 600))[0].online


def fit(algorithm: MAAC, env: Env, plans: list[Any]) -> tuple[Networks, np.ndarray, np.ndarray]:
    """What is learned from these episodes, the values of what is done in them, and π there; ``[T, B, N]``."""
    networks = draw_networks(algorithm)
    batch = played(env, networks.actor, plans)
    networks = improve(algorithm, networks, batch)
    ts: TimeStep = jax.tree.map(lambda x: x[:-1], batch.trajectory.ts)
    q = np.asarray(ask(networks.critic, ts, batch.trajectory.action).q)
    done = np.asarray(batch.trajectory.action)[..., None]
    p = np.where(ts.avail, np.exp(np.asarray(stepped_logits(networks.actor, batch.trajectory))[:-1]), 0)
    return networks, np.take_along_axis(q, done, -1)[..., 0], p / p.sum(-1, keepdims=True)


SOFT: dict[str, Any] = {"gamma": 0.5, "target_tau": 0.1, "lr": 0.01, "entropy_temperature": 1.0, "logit_weight": 0.0}


def test_entropy_earns_at_every_step_but_after_the_end() -> None:
    """Both actions are alike, so π is 1/2 each and earns ln 2 whenever there is a next step to act at.

    Endless, Q = 1 + γ (Q + ln 2); with k steps left, Q_k = 1 + γ (Q_{k-1} + ln 2) and Q_1 = 1.
    """
    endless, ending = Limit(3, terminates=False), Limit(3, terminates=True)
    algorithm, plans = rule(endless.spec, **SOFT), [[[0]] * 3, [[1]] * 3]
    _, q, pi = fit(algorithm, endless, plans)
    np.testing.assert_allclose(q, 2 + np.log(2), atol=0.06)
    np.testing.assert_allclose(pi, 0.5, atol=0.06)
    second = 1 + 0.5 * (1 + np.log(2))
    countdown = [1 + 0.5 * (second + np.log(2)), second, 1]
    np.testing.assert_allclose(fit(algorithm, ending, plans)[1][:, 0, 0], countdown, atol=0.06)


def test_policies_become_the_softmax_of_values_over_the_temperature() -> None:
    """r(u) = f_1(u_1) + f_2(u_2): whatever the other does, π_i = softmax(f_i / α), and Q is r."""
    own = np.array([[0.0, 1.0, -0.5], [0.6, 0.0, 0.3]])
    game = MatrixGame("probe/soft", own[0][:, None] + own[1][None])
    algorithm = rule(game.spec, **SOFT | {"entropy_temperature": 0.5, "lr": 0.003})
    # Enough draws of each joint action that the policy hardly trembles.
    _, q, pi = fit(algorithm, game, [[pair] for pair in np.repeat(PAIRS, 12, axis=0)])
    np.testing.assert_allclose(q[0, ::12, 0], game.payoff.reshape(-1), atol=0.15)
    want = np.exp(own / 0.5) / np.exp(own / 0.5).sum(-1, keepdims=True)
    np.testing.assert_allclose(pi[0, 0], want, atol=0.05)


@pytest.mark.paper
def test_unavailable_actions_are_not_hoped_for() -> None:
    """See Forbidden: 10 u_i is every value; a target that hoped for more would say 15."""
    env = Forbidden()
    algorithm = rule(env.spec, **SOFT | {"entropy_temperature": 0.01})
    networks, q, _ = fit(algorithm, env, [[pair, (0, 0)] for pair in itertools.product(range(2), repeat=2)])
    np.testing.assert_allclose(q[0], 10.0 * np.array(list(itertools.product(range(2), repeat=2))), atol=0.5)
    policy = StochasticPolicy(networks.actor)
    assert policy.act(policy.initial_carry(), env.reset(KEY)[1], KEY, explore=False)[1].tolist() == [1, 1]


LOOP: dict[str, Any] = OF_METHOD["maac"] | {
    "num_envs": 16, "length": 6, "hidden": 16, "critic_hidden": 16, "batch_size": 16, "buffer_steps": 9600,
    "gamma": 0.5, "target_tau": 0.1, "lr": 5e-3, "updates": 4,
}  # fmt: skip


@pytest.mark.paper
@pytest.mark.parametrize("options", [{}, {"uniform_attention": True}, {"sharing": "shared"}, {"cell": "gru"}], ids=str)
def test_the_whole_loop_learns(options: dict[str, Any]) -> None:
    _, log = train(Forbidden(), "maac", 100, **LOOP | options)
    np.testing.assert_array_equal(log.evaluation.returns, 10)


def test_the_whole_loop_fits_together() -> None:
    driver = make_driver(Lottery(), "maac", **LOOP)
    run = jax.eval_shape(driver.init, 0)
    after, log = jax.eval_shape(driver.chunk, run)
    assert jax.tree.structure(after) == jax.tree.structure(run)
    critics = {"critic_loss", "td_error", "q", "squared_logits"}
    assert {"loss", "policy_loss", "entropy", "advantage", "grad_norm"} | critics == set(log.metrics)
