"""MADDPG and DDPG: by hand, on probes, and through which actions the gradients go."""

import dataclasses
import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.algos.maddpg import MADDPG
from comarl.algos.offpolicy import Networks, OffPolicyState, Optimisers
from comarl.algos.relaxed import GumbelDraw, SoftDraw, Tanh
from comarl.algos.stochastic import StochasticPolicy
from comarl.envs.base import Env
from comarl.envs.games.matrix import PAYOFFS, MatrixGame
from comarl.envs.registry import make_env
from comarl.experiments.build import build_maddpg
from comarl.experiments.config import with_settings
from comarl.experiments.presets import OF_METHOD, resolve
from comarl.memory.base import Batch
from comarl.nets.critics import ActionCritic
from comarl.nets.distributions import chosen, log_probabilities, sample
from comarl.nets.layers import MLP
from comarl.types import EnvSpec, TimeStep
from tests.probes import (
    Forbidden,
    Limit,
    Lottery,
    Recall,
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
KEY = jax.random.key(0)


def rule(method: str = "maddpg", spec: EnvSpec = SPEC, **settings: Any) -> MADDPG:
    return build_maddpg(with_settings(resolve(method, "two-step", {"hidden": 8}), settings), spec)


def draw_networks(algorithm: MADDPG, seed: int = 0) -> Networks:
    return random_parameters(lambda: algorithm.init(KEY).online, seed)


def draw_batch(networks: Networks, seed: int = 0) -> Batch:
    trajectory = random_trajectory(seed, networks.actor, steps=STEPS, batch=BATCH, obs=OBS, state=STATE)
    return uniform(trajectory)._replace(weight=jnp.linspace(0.2, 1.0, BATCH))


def value(critic: ActionCritic, i: int, obs: np.ndarray, action: np.ndarray) -> float:
    """Q_i(x, u) of all observations ``[N, D]`` and actions ``[N, A]``."""
    x = np.concatenate([obs.reshape(-1), action.reshape(-1), np.eye(N)[i]])
    *hidden, last = critic.net.module.layers
    for layer in hidden:
        x = np.maximum(x @ np.asarray(layer.weight[i]) + np.asarray(layer.bias[i]), 0)
    return float(x @ np.asarray(last.weight[i])[:, 0] + np.asarray(last.bias[i])[0])


def start(algorithm: MADDPG, networks: Any) -> Optimisers:
    return Optimisers(algorithm.optimiser.init(networks.actor), algorithm.optimiser.init(networks.critic))


# Agents with a memory, so that it matters where the target's begins.
MEMORY: dict[str, Any] = {"cell": "gru", "last_action": True, "gamma": 0.9}
TWIN = rule(**MEMORY, twin=True)
ONLINE, TARGET = draw_networks(TWIN, 1), draw_networks(TWIN, 2)
SEQUENCES = draw_batch(ONLINE)
EYE = np.eye(A)


def slow_targets(target: Networks, batch: Batch, key: Array, gamma: float) -> np.ndarray:
    """r_i + γ d min over critics of Q_i'(x', u'), anywhere."""
    ts: TimeStep = jax.tree.map(np.asarray, batch.trajectory.ts)
    logits = np.asarray(stepped_logits(target.actor, batch.trajectory))[1:]
    p = np.where(ts.avail[1:], np.exp(logits), 0)
    # The same key on the same probabilities makes the same draw.
    log_p = jnp.log(jnp.maximum(p / p.sum(-1, keepdims=True), 1e-30))
    drawn = EYE[np.asarray(sample(log_p, key))]
    y = np.zeros((STEPS, BATCH, N))
    for t, b, i in np.ndindex(y.shape):
        v = min(value(critic, i, ts.obs[t + 1, b], drawn[t, b]) for critic in target.critic)
        y[t, b, i] = ts.reward[t + 1, b, i] + gamma * ts.discount[t + 1, b] * v
    return y


def test_targets_and_the_critics_loss_equal_the_slow_ones() -> None:
    ts, action, key = SEQUENCES.trajectory.ts, np.asarray(SEQUENCES.trajectory.action), jax.random.key(3)
    assert (ts.last[1:] & (ts.discount[1:] == 0)).any()
    assert (ts.last[1:-1] & (ts.discount[1:-1] == 1)).any()
    y = slow_targets(TARGET, SEQUENCES, key, 0.9)
    np.testing.assert_allclose(jax.jit(TWIN.targets)(TARGET, SEQUENCES, key), y, rtol=1e-4, atol=1e-4)
    squares, errors = [], {b: [] for b in range(BATCH)}
    for t, b in np.ndindex(STEPS, BATCH):
        if ts.last[t, b]:
            continue
        q = [[value(c, i, np.asarray(ts.obs[t, b]), EYE[action[t, b]]) for i in range(N)] for c in ONLINE.critic]
        squares.append(float(SEQUENCES.weight[b]) * ((np.array(q) - y[t, b]) ** 2).sum(0).mean())
        errors[b].append(np.abs(np.array(q[0]) - y[t, b]).mean())
    loss, (metrics, error) = jax.jit(TWIN.critic_loss)(ONLINE.critic, jnp.asarray(y, jnp.float32), SEQUENCES)
    np.testing.assert_allclose(loss, np.mean(squares), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.mean(np.concatenate(list(errors.values()))), rtol=1e-4)
    np.testing.assert_allclose(error, [0.9 * np.max(e) + 0.1 * np.mean(e) for e in errors.values()], rtol=1e-4)


PLAIN = rule()
NETWORKS = draw_networks(PLAIN, 4)
PLAIN_BATCH = draw_batch(NETWORKS, 5)


@jax.jit
def slope(actor: Any, critics: Any, batch: Batch, key: Array = KEY) -> Any:
    """Of the policies' loss."""
    return jax.grad(PLAIN.actor_loss, has_aux=True)(actor, critics, batch, key)[0]


def test_actions_that_are_not_available_are_nowhere() -> None:
    """What critics say of them reaches neither targets nor losses nor gradients."""
    trajectory = PLAIN_BATCH.trajectory
    avail = trajectory.ts.avail.at[..., 0].set(True).at[..., 2].set(False)
    batch = PLAIN_BATCH._replace(
        trajectory=trajectory._replace(ts=trajectory.ts._replace(avail=avail), action=jnp.minimum(trajectory.action, 1))
    )
    rows = jnp.array([N * OBS + j * A + 2 for j in range(N)])
    weight = lambda critic: critic.net.module.layers[0].weight  # noqa: E731
    (critic,) = NETWORKS.critic
    other = eqx.tree_at(weight, critic, weight(critic).at[:, rows].add(100.0))

    def all_of(critic: ActionCritic) -> Any:
        y = jax.jit(PLAIN.targets)(Networks(NETWORKS.actor, (critic,)), batch, KEY)
        return y, jax.jit(PLAIN.critic_loss)((critic,), y, batch), slope(NETWORKS.actor, (critic,), batch)

    jax.tree.map(np.testing.assert_array_equal, all_of(critic), all_of(other))


SHOWN: list[tuple[np.ndarray, np.ndarray | None]] = []


class Spy(ActionCritic):
    """Writes down which actions it is shown."""

    def __call__(self, ts: TimeStep, action: Array, own: Array | None = None) -> Array:
        SHOWN.append((np.asarray(action), None if own is None else np.asarray(own)))
        return jnp.zeros(action.shape[:-1])


def hard(action: np.ndarray) -> bool:
    return bool(((action == 0) | (action == 1)).all() and (action.sum(-1) == 1).all())


@pytest.mark.parametrize("straight_through", [False, True])
def test_soft_actions_are_where_the_gradient_passes_and_hard_ones_elsewhere(straight_through: bool) -> None:
    algorithm = dataclasses.replace(PLAIN, actions=GumbelDraw(straight_through=straight_through))
    spy = Spy(SPEC, key=KEY, sees="observations")
    SHOWN.clear()
    y = algorithm.targets(Networks(NETWORKS.actor, (spy,)), PLAIN_BATCH, KEY)
    algorithm.critic_loss((spy,), y, PLAIN_BATCH)
    algorithm.actor_loss(NETWORKS.actor, (spy,), PLAIN_BATCH, KEY)
    (drawn, none), (replayed, none_too), (others, own) = SHOWN
    assert none is none_too is None
    assert own is not None
    assert hard(drawn)
    for done in (replayed, others):
        np.testing.assert_array_equal(done, EYE[np.asarray(PLAIN_BATCH.trajectory.action)])
    np.testing.assert_allclose(own.sum(-1), 1, rtol=1e-5)
    choice = np.asarray(PLAIN_BATCH.trajectory.ts.avail[:-1].sum(-1) > 1)
    if straight_through:
        np.testing.assert_allclose(own, np.round(own), atol=1e-6)
    else:
        assert ((own[choice] > 0) & (own[choice] < 1)).any(-1).all()


def tabled_critic(table: np.ndarray, spec: EnvSpec) -> ActionCritic:
    """Q_i of two agents: ``table[u_1, u_2]`` for one-hot actions, and linear in the own one.

    A hidden unit for each joint action (a, b) is relu(u_1a + u_2b - 1): the share of the own action where the other's
    is one-hot.
    """
    actions = table.shape[0]
    pairs = list(itertools.product(range(actions), repeat=2))
    critic = random_parameters(lambda: ActionCritic(spec, key=KEY, sees="observations", hidden=len(pairs)))
    first = np.zeros((2, 2 * spec.obs_dim + 2 * actions + 2, len(pairs)), np.float32)
    for unit, (a, b) in enumerate(pairs):
        first[:, 2 * spec.obs_dim + a, unit] = first[:, 2 * spec.obs_dim + actions + b, unit] = 1
    weights = [first, np.stack([np.eye(len(pairs))] * 2), np.stack([table.reshape(-1, 1)] * 2)]
    biases = [np.full((2, len(pairs)), -1), np.zeros((2, len(pairs))), np.zeros((2, 1))]
    layers = tuple(
        eqx.tree_at(lambda x: (x.weight, x.bias), layer, (jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32)))
        for layer, w, b in zip(critic.net.module.layers, weights, biases, strict=True)
    )
    return eqx.tree_at(lambda c: c.net.module.layers, critic, layers)


PAIRS = list(itertools.product(range(3), repeat=2))


def test_gradient_of_a_game_of_two() -> None:
    """With Q = r, noise g and y = softmax((log π + g) / τ), ∂(y·r)/∂θ_a is y_a (r(a, u_j) - y·r) / τ."""
    env, temperature, weight = make_env("matrix/qplex-1"), 0.5, 0.1
    assert isinstance(env, MatrixGame)
    algorithm = rule(spec=env.spec, gumbel_temperature=temperature, logit_weight=weight)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: algorithm.init(KEY).online.actor)
    )
    theta = np.array([[0.5, -1.0, 0.2], [0.0, 0.3, -0.4]], np.float32)
    actor = eqx.tree_at(lambda a: a.body.module.head.bias, zeros, jnp.asarray(theta))
    payoff = np.array(PAYOFFS["qplex-1"])
    critics = (tabled_critic(payoff, env.spec),)
    batch = played(env, actor, [[pair] for pair in PAIRS])  # the others' actions without sampling error
    np.testing.assert_allclose(
        critics[0](*algorithm._before(batch))[0, :, 0], payoff.reshape(-1), rtol=1e-5
    )  # the table stands
    got = jax.jit(jax.grad(algorithm.actor_loss, has_aux=True))(actor, critics, batch, KEY)[0]
    noise = np.asarray(jax.random.gumbel(KEY, (1, 9, 2, 3)))[0]
    want = np.zeros((2, 3))
    for episode, joint in enumerate(PAIRS):
        for i in range(2):
            r = payoff[:, joint[1]] if i == 0 else payoff[joint[0]]
            y = np.exp((theta[i] + noise[episode, i]) / temperature)
            y /= y.sum()
            want[i] -= y * (r - y @ r) / temperature / 9 / 2  # a mean over episodes and agents
    want += weight * 2 * theta / 6  # mean over agents and actions of θ²
    np.testing.assert_allclose(got.body.module.head.bias, want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n", range(1, 7))
def test_plain_policy_gradients_rarely_point_the_right_way(n: int) -> None:
    """Proposition 1 of Lowe et al. 2017: n agents must all choose 1, and choose it with probability 1/2.

    The estimate of one episode, R ∇log π(u), has a positive inner product with ∇J in a share of .5^n of episodes.
    """
    joint = jnp.array(list(itertools.product(range(2), repeat=n)), jnp.int32)  # all, each with probability .5^n
    logits, free = jnp.zeros((n, 2)), jnp.ones((n, 2), bool)

    def log_pi(logits: Array, action: Array) -> Array:
        return chosen(log_probabilities(logits, free), action).sum()

    np.testing.assert_allclose(jax.vmap(log_pi, (None, 0))(logits, joint), np.log(0.5**n), rtol=1e-5)
    reward = joint.all(-1).astype(jnp.float32)
    estimates = reward[:, None, None] * jax.vmap(jax.grad(log_pi), (None, 0))(logits, joint)
    gradient = estimates.mean(0)
    assert np.abs(gradient).max() > 0
    right = (estimates * gradient[None]).sum((1, 2)) > 0
    assert right.mean() == 0.5**n


@pytest.mark.parametrize(("critic_sees", "sees"), [("observations", (True, False)), ("state", (False, True))])
def test_critics_see_what_they_are_to_see(critic_sees: str, sees: tuple[bool, bool]) -> None:
    algorithm = rule(critic_sees=critic_sees)
    networks = draw_networks(algorithm, 6)
    ts = PLAIN_BATCH.trajectory.ts

    @jax.jit
    def q(ts: TimeStep) -> Array:
        before, done = algorithm._before(PLAIN_BATCH._replace(trajectory=PLAIN_BATCH.trajectory._replace(ts=ts)))
        return networks.critic[0](before, done)

    changed = [ts._replace(obs=ts.obs + 1), ts._replace(state=ts.state + 1)]
    assert tuple(bool((q(ts) != q(other)).any()) for other in changed) == sees


def test_settings_reach_the_rule() -> None:
    wanted: dict[str, Any] = {"logit_weight": 0.5, "gamma": 0.8}
    wanted |= {"team_reward": "sum", "burn_in": 2, "stored_state": False, "target_update": "hard", "target_tau": 0.3}
    algorithm = rule(cell="gru", **wanted, twin=True, straight_through=True, gumbel_temperature=0.5, target_interval=7)
    assert {name: getattr(algorithm, name) for name in wanted} == wanted
    assert (algorithm.actions, algorithm.target_interval) == (GumbelDraw(0.5, True), 7)
    vectors = dataclasses.replace(SPEC, continuous=True)
    assert rule(spec=vectors, exploration_noise=0.3).actions == Tanh(0.3)
    assert rule(spec=vectors, vector_policy="softmax", gumbel_temperature=0.5).actions == SoftDraw(0.5)
    networks: Networks = jax.eval_shape(algorithm.init, KEY).online
    assert [critic.sees for critic in networks.critic] == ["observations"] * 2
    assert [layer.weight.shape for layer in networks.critic[0].net.module.layers] == [(2, 16, 8), (2, 8, 8), (2, 8, 1)]
    (own,) = jax.eval_shape(rule("ddpg").init, KEY).online.critic
    assert own.sees == "own"
    assert isinstance(own.net.module, MLP)


# Probes, with γ = 1/2.


@functools.partial(jax.jit, static_argnums=0)
def improve(algorithm: MADDPG, networks: Networks, batch: Batch) -> Networks:
    """Many updates on one batch."""

    def one(state: OffPolicyState, key: Array) -> tuple[OffPolicyState, None]:
        return algorithm.update(state, batch, key).state, None

    begin = OffPolicyState(networks, networks, start(algorithm, networks), jnp.zeros((), jnp.int32))
    return jax.lax.scan(one, begin, jax.random.split(KEY, 400))[0].online


def fit(algorithm: MADDPG, env: Env, plans: list[Any]) -> tuple[Networks, np.ndarray]:
    """What is learned from these episodes, and the values of what is done in them ``[T, B, N]``."""
    networks = draw_networks(algorithm)
    batch = played(env, networks.actor, plans)
    networks = improve(algorithm, networks, batch)
    return networks, np.asarray(networks.critic[0](*algorithm._before(batch)))


def greedy(networks: Networks, env: Env) -> list[int]:
    policy = StochasticPolicy(networks.actor)
    return policy.act(policy.initial_carry(), env.reset(KEY)[1], KEY, explore=False)[1].tolist()


SMALL: dict[str, Any] = {"gamma": 0.5, "target_tau": 0.1, "grad_clip": 10.0}


def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not() -> None:
    endless, ending = Limit(3, terminates=False), Limit(3, terminates=True)
    algorithm, plans = rule(spec=endless.spec, **SMALL), [[[0]] * 3, [[1]] * 3]
    np.testing.assert_allclose(fit(algorithm, endless, plans)[1], 2.0, atol=0.05)
    countdown = np.array([1.75, 1.5, 1.0])
    np.testing.assert_allclose(fit(algorithm, ending, plans)[1][:, 0, 0], countdown, atol=0.05)


@pytest.mark.parametrize("method", ["maddpg", "ddpg"])
def test_unavailable_actions_are_not_hoped_for(method: str) -> None:
    """See Forbidden: both steps look alike, and 10 u_i is every value; a target that hoped for more would say 15."""
    env = Forbidden()
    plans = [[pair, (0, 0)] for pair in itertools.product(range(2), repeat=2)]
    networks, q = fit(rule(method, spec=env.spec, **SMALL), env, plans)
    # Critics that see their agent alone are the same to both steps of those who do 0, and theirs is a mean near 0.
    np.testing.assert_allclose(q[0], 10.0 * np.array(plans)[:, 0], atol=0.3)
    assert greedy(networks, env) == [1, 1]


def test_a_team_agrees_on_the_best() -> None:
    """From all joint actions alike, where each agent's action is worth what the others' make of it."""
    game = MatrixGame("probe/agree", np.array([[6.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 0.0, 3.0]]))
    networks, q = fit(rule(spec=game.spec, **SMALL), game, [[pair] for pair in PAIRS])
    np.testing.assert_allclose(q[0, :, 0], game.payoff.reshape(-1), atol=0.3)
    assert greedy(networks, game) == [1, 1]


def test_mixed_critics_fit_what_is_monotone_and_the_team_finds_its_best() -> None:
    """The two-step game's risky half: monotone and not additive."""
    game = MatrixGame("probe/monotone", np.array([[0.0, 1.0], [1.0, 8.0]]))
    plans = [[pair] for pair in itertools.product(range(2), repeat=2)]
    networks, q = fit(rule("facmac", spec=game.spec, **SMALL), game, plans)
    np.testing.assert_allclose(q[0, :, 0], game.payoff.reshape(-1), atol=0.3)
    np.testing.assert_array_equal(q[..., 0], q[..., 1])
    assert greedy(networks, game) == [1, 1]


class Told(Recall):
    """Recall with a state that names the cue at every step: what critics without a memory need."""

    def reset(self, key: Array) -> tuple[Any, TimeStep]:
        state, ts = super().reset(key)
        return state, ts._replace(state=2.0 * state[0][None] - 1.0)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, TimeStep]:
        state, ts = super().step(state, action, key)
        return state, ts._replace(state=2.0 * state[0][None] - 1.0)


LOOP: dict[str, Any] = OF_METHOD["maddpg"] | SMALL | {
    "num_envs": 16, "length": 6, "hidden": 16, "batch_size": 16, "buffer_steps": 9600,
}  # fmt: skip


@pytest.mark.paper
@pytest.mark.parametrize("cell", ["gru", "mingru"])
def test_the_whole_loop_learns_with_memory(cell: str) -> None:
    _, log = train(Told(), "maddpg", 300, **LOOP | {"cell": cell, "critic_sees": "state", "gamma": 0.9})
    np.testing.assert_array_equal(log.evaluation.outcome["recalled"], 1)


@pytest.mark.paper
@pytest.mark.parametrize("options", [{"straight_through": True}, {"twin": True}, {"sharing": "shared"}], ids=str)
def test_the_whole_loop_learns_with_options(options: dict[str, Any]) -> None:
    _, log = train(Forbidden(), "maddpg", 100, **LOOP | options)
    np.testing.assert_array_equal(log.evaluation.returns, 10)


def test_the_whole_loop_fits_together() -> None:
    driver = make_driver(Lottery(), "maddpg", **LOOP)
    run = jax.eval_shape(driver.init, 0)
    after, log = jax.eval_shape(driver.chunk, run)
    assert jax.tree.structure(after) == jax.tree.structure(run)
    assert {"loss", "critic_loss", "policy_loss", "td_error", "entropy", "q", "grad_norm"} == set(log.metrics)
