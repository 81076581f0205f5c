"""Guesses of the others' policies: by hand, what they converge to, and what they keep out of each other's way."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array
from scipy.optimize import minimize

from comarl.algos.inferring import Central, InferringMADDPG, apart
from comarl.algos.offpolicy import Networks, OffPolicyState, Optimisers
from comarl.algos.relaxed import GumbelDraw, Relaxed, SoftDraw, Tanh
from comarl.envs.base import make_timestep
from comarl.errors import ComarlError
from comarl.experiments.build import build_env, build_maddpg
from comarl.experiments.config import RunConfig, with_settings
from comarl.experiments.presets import OF_METHOD, resolve
from comarl.memory.base import Batch
from comarl.nets.inferred import InferredPolicies
from comarl.types import EnvSpec, TimeStep, Trajectory
from tests.probes import (
    Aim,
    Forbidden,
    Lottery,
    make_driver,
    random_parameters,
    random_trajectory,
    stepped_logits,
    train,
    uniform,
)

N, A, OBS, STATE = 3, 3, 4, 2
SPEC = EnvSpec("probe/three", N, OBS, STATE, A, 3)
STEPS, BATCH = 5, 4
KEY = jax.random.key(0)
PAIRS = [(i, j) for i in range(N) for j in range(N) if i != j]


def rule(spec: EnvSpec = SPEC, **settings: Any) -> InferringMADDPG:
    config = resolve("maddpg", "two-step", {"hidden": 8, "infer_policies": True})
    algorithm = build_maddpg(with_settings(config, settings), spec)
    assert isinstance(algorithm, InferringMADDPG)
    return algorithm


RULE = rule(twin=True, gamma=0.9, guess_entropy=0.3)
ONLINE, TARGET = (random_parameters(lambda: RULE.init(KEY).online, seed) for seed in (1, 2))
SEQUENCES = uniform(random_trajectory(0, ONLINE.actor, steps=STEPS, batch=BATCH, obs=OBS, state=STATE))._replace(
    weight=jnp.linspace(0.2, 1.0, BATCH)
)


def test_every_array_of_the_state_can_be_written() -> None:
    """Orbax writes none without numbers."""
    assert all(x.size for x in jax.tree.leaves(jax.eval_shape(RULE.init, KEY)))


def layers(x: np.ndarray, mlp: Any, which: int) -> np.ndarray:
    """A stacked MLP's answer, by hand."""
    for depth, layer in enumerate(mlp.layers):
        x = x @ np.asarray(layer.weight[which]) + np.asarray(layer.bias[which])
        x = np.maximum(x, 0) if depth < len(mlp.layers) - 1 else x
    return x


def log_softmax(logits: np.ndarray, avail: np.ndarray) -> np.ndarray:
    logits = np.where(avail, logits, -np.inf)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def guess(guesses: InferredPolicies, i: int, j: int, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Log μ̂_i^j(· | o_j) at one moment of all observations and what is available, ``[N, ...]``."""
    return log_softmax(layers(obs[j], guesses.net.module, PAIRS.index((i, j))), avail[j])


def test_targets_ask_guesses_of_the_others_and_the_own_policy() -> None:
    ts: TimeStep = jax.tree.map(np.asarray, SEQUENCES.trajectory.ts)
    own_key, guess_key = jax.random.split(KEY)
    # The same noise on the same logits makes the same draws.
    noise = np.asarray(jax.random.gumbel(own_key, (STEPS, BATCH, N, A)))
    their_noise = np.asarray(jax.random.gumbel(guess_key, (STEPS, BATCH, len(PAIRS), A)))
    logits = np.asarray(stepped_logits(TARGET.actor, SEQUENCES.trajectory))[1:]
    y = np.zeros((STEPS, BATCH, N))
    for t, b, i in np.ndindex(y.shape):
        obs, avail = ts.obs[t + 1, b], ts.avail[t + 1, b]
        joint = np.zeros((N, A))
        for j in range(N):
            if i == j:
                noisy = log_softmax(logits[t, b, i], avail[i]) + noise[t, b, i]
            else:
                noisy = guess(TARGET.critic.guesses, i, j, obs, avail) + their_noise[t, b, PAIRS.index((i, j))]
            joint[j, noisy.argmax()] = 1
        x = np.concatenate([obs.reshape(-1), joint.reshape(-1), np.eye(N)[i]])
        v = min(layers(x, critic.net.module, i)[0] for critic in TARGET.critic.values)
        y[t, b, i] = ts.reward[t + 1, b, i] + 0.9 * ts.discount[t + 1, b] * v
    np.testing.assert_allclose(jax.jit(RULE.targets)(TARGET, SEQUENCES, KEY), y, rtol=1e-4, atol=1e-4)


def test_the_guesses_loss_and_distance_equal_the_slow_ones() -> None:
    ts: TimeStep = jax.tree.map(np.asarray, SEQUENCES.trajectory.ts)
    action, weight = np.asarray(SEQUENCES.trajectory.action), np.asarray(SEQUENCES.weight)
    logits = np.asarray(stepped_logits(ONLINE.actor, SEQUENCES.trajectory))
    losses, distances = [], []
    for t, b in np.ndindex(STEPS, BATCH):
        for i, j in PAIRS:
            if ts.last[t, b] or ts.avail[t, b, j].sum() < 2:
                continue
            log_q = guess(ONLINE.critic.guesses, i, j, ts.obs[t, b], ts.avail[t, b])
            free = ts.avail[t, b, j]
            entropy = -(np.exp(log_q[free]) * log_q[free]).sum()
            losses.append(-weight[b] * (log_q[action[t, b, j]] + 0.3 * entropy))
            log_p = log_softmax(logits[t, b, j], free)
            distances.append((np.exp(log_p[free]) * (log_p[free] - log_q[free])).sum())
    assert 0 < len(losses) < STEPS * BATCH * len(PAIRS)
    y = jnp.ones((STEPS, BATCH, N))
    loss, (metrics, _) = jax.jit(RULE.critic_loss)(ONLINE.critic, y, SEQUENCES)
    np.testing.assert_allclose(metrics["guess_loss"], np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(loss, metrics["critic_loss"] + metrics["guess_loss"], rtol=1e-5)
    _, more = jax.jit(RULE.actor_loss)(ONLINE.actor, ONLINE.critic, SEQUENCES, KEY)
    np.testing.assert_allclose(more["guess_divergence"], np.mean(distances), rtol=1e-4)


def test_guesses_and_critics_keep_out_of_each_others_way() -> None:
    """Gradients are apart, clipping too, and the guesses reach the actors through nothing but the targets."""

    @jax.jit
    def slopes(networks: Networks, y: Array) -> Any:
        by_critic = jax.grad(RULE.critic_loss, has_aux=True)(networks.critic, y, SEQUENCES)[0]
        return by_critic, jax.grad(RULE.actor_loss, has_aux=True)(networks.actor, networks.critic, SEQUENCES, KEY)[0]

    y = jnp.ones((STEPS, BATCH, N))
    other = eqx.tree_at(lambda n: n.critic.guesses, ONLINE, TARGET.critic.guesses)
    (before, actor), (after, actor_after) = slopes(ONLINE, y), slopes(other, y)
    jax.tree.map(np.testing.assert_array_equal, (before.values, actor), (after.values, actor_after))
    assert all(np.any(np.asarray(x)) for x in jax.tree.leaves(before.guesses))
    farther, _ = slopes(ONLINE, 100 * y)
    jax.tree.map(np.testing.assert_array_equal, before.guesses, farther.guesses)

    clipped = apart(optax.clip_by_global_norm(0.1))
    scaled: Central = eqx.tree_at(lambda c: c.values, before, jax.tree.map(lambda x: 1e6 * x, before.values))
    for gradient in (before, scaled):
        step, _ = clipped.update(gradient, clipped.init(ONLINE.critic))
        for part in (step.values, step.guesses):
            np.testing.assert_allclose(optax.tree.norm(part), 0.1, rtol=1e-4)


# One moment of one state, many times over: what agent j does has known frequencies.
FREQUENCIES = np.array([0.7, 0.2, 0.1])


def observed(action: np.ndarray, spec: EnvSpec) -> Batch:
    """Single steps ``[B, N]`` or ``[B, N, A]``, after which episodes end."""
    moments = [{"first": True}, {"terminated": True}]
    one = [make_timestep(jnp.ones((N, OBS)), jnp.ones(STATE), num_actions=A, **m) for m in moments]
    ts: TimeStep = jax.tree.map(lambda *x: jnp.stack(x)[:, None].repeat(len(action), 1), *one)
    form = spec.action_form
    carry = jax.eval_shape(rule(spec).init, KEY).online.actor.initial_carry()
    carry = jax.tree.map(lambda x: jnp.zeros((len(action), *x.shape), x.dtype), carry)
    return uniform(Trajectory(ts, jnp.asarray(action[None], form.dtype), carry))


def fitted(algorithm: InferringMADDPG, batch: Batch) -> np.ndarray:
    """What the guesses give ``[P, A]`` once they have converged."""
    optimiser = optax.adam(0.02)

    @jax.jit
    def fit() -> Array:
        def step(state: Any, _: None) -> tuple[Any, None]:
            guesses, moments = state
            change, moments = optimiser.update(jax.grad(algorithm.guess_loss)(guesses, batch), moments)
            return (optax.apply_updates(guesses, change), moments), None

        guesses: Any = random_parameters(lambda: InferredPolicies(SPEC, key=KEY, hidden=8))
        (guesses, _), _ = jax.lax.scan(step, (guesses, optimiser.init(guesses)), length=600)
        return guesses(batch.trajectory.ts.obs[0, 0])

    return np.asarray(fit())


def optimum(frequencies: np.ndarray, bonus: float) -> np.ndarray:
    """The q that least -Σ f log q - λ H(q) has, by another route than gradients through networks."""

    def loss(logits: np.ndarray) -> float:
        log_q = log_softmax(logits, np.ones(A, bool))
        return -(frequencies @ log_q) + bonus * (np.exp(log_q) @ log_q)

    q = np.exp(log_softmax(minimize(loss, np.zeros(A), tol=1e-10).x, np.ones(A, bool)))
    # With a multiplier for Σ q = 1 the slope is 0 where f = q [1 + λ (log q + H(q))].
    np.testing.assert_allclose(q * (1 + bonus * (np.log(q) - q @ np.log(q))), frequencies, atol=1e-4)
    return q


@pytest.mark.parametrize("bonus", [0.0, 0.5])
def test_guesses_become_the_frequencies_and_flatter_ones_with_the_bonus(bonus: float) -> None:
    steps = np.repeat(np.arange(A), np.rint(10 * FREQUENCIES).astype(int))
    action = np.stack([np.roll(steps, shift) for shift in range(N)], axis=1)
    logits = fitted(rule(guess_entropy=bonus), observed(action, SPEC))
    want = optimum(FREQUENCIES, bonus)
    got = np.exp(log_softmax(logits, np.ones(A, bool)))
    np.testing.assert_allclose(got, np.tile(want, (len(PAIRS), 1)), atol=2e-3)
    if bonus:
        assert want.max() < FREQUENCIES.max() - 0.05


VECTORS = dataclasses.replace(SPEC, continuous=True)


@pytest.mark.paper
@pytest.mark.parametrize("actions", [SoftDraw(2.0), Tanh(0.05)], ids=lambda x: type(x).__name__)
def test_guesses_of_vectors_become_the_policies_behind_them(actions: Relaxed) -> None:
    """At a temperature of 2 the mean soft draw of these is (.50, .29, .21)."""
    outputs = np.log(FREQUENCIES) * np.array([[1.0], [0.5], [0.0]])  # one for each agent
    everything = jnp.ones((2000, N, A), bool)
    drawn = actions.draw(jnp.tile(jnp.asarray(outputs, jnp.float32), (2000, 1, 1)), everything, KEY)
    algorithm = dataclasses.replace(rule(VECTORS, guess_entropy=0.0), actions=actions)
    got = jnp.asarray(fitted(algorithm, observed(np.asarray(drawn), VECTORS)))
    truth = jnp.asarray(outputs[[j for _, j in PAIRS]], jnp.float32)
    assert float(actions.divergence(truth, got, everything[0, :1].repeat(len(PAIRS), 0)).max()) < 3e-3


def test_likelihoods_are_those_of_draws_and_padding_counts_for_nothing() -> None:
    outputs = jnp.array([[0.3, -0.2, 9.0]])
    avail = jnp.array([[True, True, False]])
    p = np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()
    hard, soft = jnp.array([[0.0, 1.0, 0.0]]), jnp.array([[-0.6, -0.4, 0.0]])
    for actions, done in ((GumbelDraw(), hard), (SoftDraw(), soft)):
        np.testing.assert_allclose(actions.log_likelihood(outputs, avail, done), np.log(p[1:]), rtol=1e-5)
        np.testing.assert_allclose(actions.entropy(outputs, avail), -p @ np.log(p), rtol=1e-5)
        np.testing.assert_allclose(actions.divergence(outputs, 0 * outputs, avail), p @ np.log(p / 0.5), rtol=1e-5)
    squares = (np.tanh([0.3, -0.2]) - [-0.6, -0.4]) ** 2
    np.testing.assert_allclose(Tanh().log_likelihood(outputs, avail, soft), -squares.sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(
        Tanh().divergence(outputs, 0 * outputs, avail), (np.tanh([0.3, -0.2]) ** 2).sum() / 2, rtol=1e-5
    )


def test_an_update_moves_everything_and_targets_of_guesses_follow() -> None:
    algorithm = dataclasses.replace(RULE, optimiser=apart(optax.sgd(0.1)), target_tau=0.25)
    optimisers = Optimisers(algorithm.optimiser.init(ONLINE.actor), algorithm.optimiser.init(ONLINE.critic))
    state = OffPolicyState(ONLINE, TARGET, optimisers, jnp.zeros((), jnp.int32))
    after = jax.jit(algorithm.update)(state, SEQUENCES, KEY)
    slope = jax.jit(jax.grad(algorithm.guess_loss))(ONLINE.critic.guesses, SEQUENCES)
    stepped = jax.tree.map(lambda w, g: w - 0.1 * g, ONLINE.critic.guesses, slope)
    polyak = jax.tree.map(lambda new, old: 0.25 * new + 0.75 * old, stepped, TARGET.critic.guesses)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, after.state.online.critic.guesses, stepped)
    jax.tree.map(close, after.state.target.critic.guesses, polyak)


LOOP: dict[str, Any] = OF_METHOD["maddpg"] | {
    "gamma": 0.5, "target_tau": 0.1, "grad_clip": 10.0, "num_envs": 16, "length": 6, "hidden": 16, "batch_size": 16,
    "buffer_steps": 9600, "infer_policies": True,
}  # fmt: skip


@pytest.mark.paper
def test_the_whole_loop_learns_with_guesses() -> None:
    _, log = train(Forbidden(), "maddpg", 100, **LOOP)
    np.testing.assert_array_equal(log.evaluation.returns, 10)
    assert log.metrics["guess_divergence"][-1] < 0.3


@pytest.mark.parametrize(
    "options", [{}, {"vector_policy": "softmax"}, {"twin": True, "target_update": "none"}], ids=str
)
def test_the_whole_loop_fits_together(options: dict[str, Any]) -> None:
    env = Aim() if "vector_policy" in options else Lottery()
    driver = make_driver(env, "maddpg", **LOOP | options)
    run = jax.eval_shape(driver.init, 0)
    after, log = jax.eval_shape(driver.chunk, run)
    assert jax.tree.structure(after) == jax.tree.structure(run)
    assert {"guess_loss", "guess_divergence", "critic_loss", "policy_loss"} < set(log.metrics)


def test_there_must_be_somebody_to_guess() -> None:
    config = with_settings(RunConfig(method="maddpg", env="tests.probes:Recall"), {"infer_policies": True})
    with pytest.raises(
        ComarlError, match=r"^--infer-policies guesses what other .* probe/recall has a single one: leave it"
    ):
        build_env(config)
