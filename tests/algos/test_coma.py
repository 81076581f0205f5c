"""COMA: by hand and by enumeration, on probes, and what each part may look at."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from comarl.algos.coma import COMA, Central, COMAState, Notes, Steps
from comarl.envs.base import Env
from comarl.envs.games.matrix import PAYOFFS
from comarl.envs.registry import make_env
from comarl.experiments.build import build_coma
from comarl.experiments.config import with_settings
from comarl.experiments.presets import resolve
from comarl.nets.agents import Agent
from comarl.training.ondevice import ChunkLog, RunState
from comarl.types import EnvSpec, TimeStep, Trajectory
from tests.probes import (
    Delayed,
    Forbidden,
    Lottery,
    annotating,
    make_driver,
    random_parameters,
    random_trajectory,
    uniform,
)

OBS, STATE = 4, 3
SPEC = Lottery().spec


def rule(spec: EnvSpec = SPEC, **settings: Any) -> COMA:
    """With plain gradient steps, so that a step is seen as what it is."""
    small = {"hidden": 8, "critic_hidden": 8, "cell": "mlp"}
    algorithm = build_coma(with_settings(resolve("coma", "two-step", small), settings), spec)
    descent = optax.sgd(0.1)
    return COMA(**(vars(algorithm) | {"actor_optimiser": descent, "critic_optimiser": descent}))


def random_state(algorithm: COMA) -> COMAState:
    """As after some updates: the target lags behind."""
    fresh = lambda: algorithm.init(jax.random.key(0))  # noqa: E731
    actor, critic, target = (
        random_parameters(make, seed)
        for seed, make in enumerate(
            (lambda: fresh().actor, lambda: fresh().critic.online, lambda: fresh().critic.online)
        )
    )
    target = None if algorithm.target_update == "none" else target
    central = Central(critic, target, algorithm.critic_optimiser.init(critic), jnp.zeros((), jnp.int32))
    return COMAState(actor, algorithm.actor_optimiser.init(actor), central)


def collected(seed: int, state: COMAState, steps: int = 7, batch: int = 5) -> Trajectory:
    return random_trajectory(seed, state.actor, steps=steps, batch=batch, obs=OBS, state=STATE)


def joint_steps(trajectory: Trajectory) -> Steps:
    """The steps acted on, and what was done before each."""
    before = jnp.concatenate([trajectory.carry.last_action[None], trajectory.action])[:-1]
    return Steps(jax.tree.map(lambda x: x[:-1], trajectory.ts), before, trajectory.action)


GAME = make_env("matrix/qplex-1")
PAYOFF = np.array(PAYOFFS["qplex-1"], np.float32)
JOINT = np.array(list(itertools.product(range(3), repeat=2)))
"""Each joint action once: no sampling error."""
TRUE_Q = np.stack([PAYOFF.T[JOINT[:, 1]], PAYOFF[JOINT[:, 0]]], axis=1)
"""Q_i(·, u_-i) of each joint action ``[9, N, A]``."""


def one_step_each(actor: Agent, epsilon: Array) -> Trajectory:
    """The game played once with each joint action, side by side."""
    _, ts = GAME.reset(jax.random.key(0))
    first = jax.tree.map(lambda x: jnp.broadcast_to(x, (9, *x.shape)), ts)
    last = first._replace(first=jnp.zeros(9, bool), last=jnp.ones(9, bool), discount=jnp.zeros(9))
    both: TimeStep = jax.tree.map(lambda x, y: jnp.stack([x, y]), first, last)
    carry = jax.tree.map(lambda x: jnp.zeros((9, *x.shape), x.dtype), actor.initial_carry())
    notes = Notes(jnp.broadcast_to(epsilon, (1, 9, 2)), jnp.zeros((1, 9, 2)))
    return Trajectory(both, jnp.asarray(JOINT[None], jnp.int32), carry, notes)


def test_expected_gradient_is_the_policy_gradient() -> None:
    """E_u[Σ_i ∇ log π_i(u_i) A_i(u)] = ∇ Σ_u π(u) Q(u), exactly: the baseline changes nothing (lemma 1)."""
    algorithm = rule(GAME.spec, sharing="agent")
    actor = random_state(algorithm).actor
    _, ts = GAME.reset(jax.random.key(0))

    def probabilities(actor: Agent, epsilon: Array) -> Array:
        """Of the joint actions, written out."""
        logits = actor(actor.initial_carry(), ts)[1].q
        p = (1 - epsilon) * jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True) + epsilon / 3
        return p[0, JOINT[:, 0]] * p[1, JOINT[:, 1]]

    def average_loss(actor: Agent, epsilon: Array) -> Array:
        """Each joint action's loss, as often as it is played."""
        played = one_step_each(actor, epsilon)
        apart = jax.tree.map(lambda x: x[:, :, None], played._replace(carry=None))
        carry = jax.tree.map(lambda x: x[:, None], played.carry)
        lose = lambda x, carry, q: algorithm.loss(actor, q, x._replace(carry=carry))[0]  # noqa: E731
        losses = jax.vmap(lose, in_axes=(1, 0, 1))(apart, carry, jnp.asarray(TRUE_Q[None, :, None]))
        return jnp.sum(jax.lax.stop_gradient(probabilities(actor, epsilon)) * losses)

    ours = jax.jit(jax.grad(average_loss))
    theirs = jax.jit(jax.grad(lambda a, epsilon: jnp.sum(probabilities(a, epsilon) * PAYOFF.ravel())))
    for epsilon in map(jnp.asarray, (0.0, 0.4)):
        # The loss is a mean over the two agents, and falls where the value rises.
        pairs = (ours(actor, epsilon), theirs(actor, epsilon))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(-2 * x, y, rtol=1e-3, atol=1e-5), *pairs)
        assert np.abs(pairs[0].body.module.head.bias).max() > 0.01


def test_gradient_of_a_game_of_two() -> None:
    """Both play uniformly: ∂J/∂θ_i(a) = (1 - ε) π(a) (E[r | a_i = a] - E[r])."""
    algorithm = rule(GAME.spec, sharing="agent")
    actor = jax.tree.map(jnp.zeros_like, random_state(algorithm).actor)
    played = one_step_each(actor, jnp.asarray(0.4))
    gradient = jax.jit(jax.grad(lambda a: algorithm.loss(a, jnp.asarray(TRUE_Q[None]), played)[0]))(actor)
    gain = PAYOFF - PAYOFF.mean()
    for agent, others in ((0, 1), (1, 0)):
        np.testing.assert_allclose(
            gradient.body.module.head.bias[agent], -0.6 / 3 * gain.mean(others) / 2, rtol=1e-4, atol=1e-5
        )


def test_loss_is_its_equation() -> None:
    """-log π(u) (Q(u) - Σ_a π(a) Q(a)) and -w H, over real steps of agents with a choice; π with its floor."""
    algorithm = rule(entropy_weight=0.1)
    state = random_state(algorithm)
    trajectory = collected(1, state)
    draw = np.random.default_rng(1)
    epsilon, q = draw.random((7, 5, 2)), draw.normal(size=(7, 5, 2, 3))
    notes = Notes(jnp.asarray(epsilon, jnp.float32), jnp.zeros((7, 5, 2)))
    lose = jax.jit(lambda q: algorithm.loss(state.actor, q, trajectory._replace(notes=notes)))
    got, metrics = lose(jnp.asarray(q, jnp.float32))
    before = jax.tree.map(np.asarray, joint_steps(trajectory).ts)
    unroll = jax.jit(lambda: state.actor.unroll(trajectory.carry, trajectory.ts, trajectory.action)[1].q)
    logits = np.asarray(unroll(), float)
    losses, entropies, advantages = [], [], []
    for t, b, i in np.ndindex(7, 5, 2):
        free = before.avail[t, b, i]
        if before.last[t, b] or free.sum() == 1:
            continue
        p = np.where(free, np.exp(logits[t, b, i]), 0)
        p = (1 - epsilon[t, b, i]) * p / p.sum() + epsilon[t, b, i] * free / free.sum()
        taken = int(trajectory.action[t, b, i])
        advantages.append(q[t, b, i, taken] - p @ q[t, b, i])
        losses.append(-np.log(p[taken]) * advantages[-1])
        entropies.append(-np.sum(p[free] * np.log(p[free])))
    np.testing.assert_allclose(metrics["policy_loss"], np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], np.mean(entropies), rtol=1e-4)
    np.testing.assert_allclose(metrics["advantage"], np.mean(np.abs(advantages)), rtol=1e-4)
    np.testing.assert_allclose(got, np.mean(losses) - 0.1 * np.mean(entropies), rtol=1e-4)


@pytest.mark.parametrize("target_update", ["hard", "none"])
def test_targets_are_lambda_returns_of_the_actions_taken(target_update: str) -> None:
    """By the target network, for the team's reward; what will be done at the last step is forced here."""
    algorithm = rule(gamma=0.9, td_lambda=0.7, team_reward="sum", target_update=target_update)
    state = random_state(algorithm)
    trajectory = collected(0, state)
    forced = jnp.asarray(np.random.default_rng(9).integers(SPEC.num_actions, size=(5, 2)), jnp.int32)
    only = jax.nn.one_hot(forced, SPEC.num_actions) > 0
    trajectory = trajectory._replace(ts=trajectory.ts._replace(avail=trajectory.ts.avail.at[-1].set(only)))
    notes = annotating(algorithm)(state, trajectory).notes

    action = jnp.concatenate([trajectory.action, forced[None]])
    before = jnp.concatenate([trajectory.carry.last_action[None], trajectory.action])
    critic = state.critic.target or state.critic.online
    q = np.asarray(jax.jit(lambda net: net(trajectory.ts, before, action))(critic), float)
    value = np.take_along_axis(q, np.asarray(action)[..., None], -1)[..., 0]
    ts = jax.tree.map(np.asarray, trajectory.ts)
    steps, batch = trajectory.action.shape[:2]
    for b in range(batch):
        for start in range(steps):
            if ts.last[start, b]:
                continue  # the step into the next episode
            # (1 - λ) Σ_n λ^(n-1) G^(n), the last n-step return with all the weight that is left.
            g, rewards, discount, weight = 0.0, 0.0, 1.0, 1.0
            for t in range(start + 1, steps + 1):
                rewards += discount * ts.reward[t, b].sum()
                discount *= 0.9 * ts.discount[t, b]
                over = t == steps or ts.last[t, b]
                g += weight * (1.0 if over else 0.3) * (rewards + discount * value[t, b])
                weight *= 0.7
                if over:
                    break
            np.testing.assert_allclose(notes.target[start, b], g, rtol=2e-4, atol=2e-4)


def test_what_is_done_at_the_last_step_is_drawn_from_the_policy() -> None:
    """On average over draws the target of the last transition is r + γ Σ_u π(u) Q_i(u), π with its floor."""
    algorithm = rule(gamma=0.9, epsilon_start=0.5, epsilon_end=0.1, epsilon_steps=100, cell="gru")
    state = random_state(algorithm)
    one = collected(3, state, steps=1, batch=1)
    one = one._replace(ts=one.ts._replace(discount=jnp.ones((2, 1)), avail=jnp.ones((2, 1, 2, 3), bool)))
    many: Trajectory = jax.tree.map(lambda x: jnp.repeat(x, 4000, axis=1), one._replace(carry=None))
    many = many._replace(carry=jax.tree.map(lambda x: jnp.repeat(x, 4000, axis=0), one.carry))
    notes = annotating(algorithm, env_steps=50)(state, many).notes
    np.testing.assert_allclose(notes.epsilon, 0.3, rtol=1e-6)

    logits = np.asarray(state.actor.unroll(one.carry, one.ts, one.action)[1].q[-1, 0], float)
    p = 0.7 * np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) + 0.1
    final: TimeStep = jax.tree.map(lambda x: x[-1], one.ts)
    want, each = np.zeros(2), []
    assert state.critic.target is not None
    for u in itertools.product(range(3), repeat=2):
        q = state.critic.target(final, one.action[-1], jnp.array([u], jnp.int32))[0]
        value = np.array([q[0, u[0]], q[1, u[1]]])
        want += p[0, u[0]] * p[1, u[1]] * value
        each.append(value)
    reward = float(one.ts.reward[-1].mean())
    error = 0.9 * np.std(each, axis=0) / np.sqrt(4000)
    assert (np.abs(notes.target[0].mean(0) - (reward + 0.9 * want)) < 5 * error).all()


def slow_fit(algorithm: COMA, critic: Central, steps: Steps, y: Array) -> tuple[Central, list[float]]:
    """Gradient descent at .1, one time step after another from the last, and copies by the number of updates."""

    @jax.jit
    def mean_error(net: Any, now: Steps, y: Array) -> Array:
        q = net(*now)
        taken = sum(jnp.where(now.action == a, q[..., a], 0.0) for a in range(q.shape[-1]))
        weight = jnp.broadcast_to(~now.ts.last[:, None], taken.shape) / ((~now.ts.last).sum() * taken.shape[-1])
        return jnp.sum(weight * (taken - y) ** 2)

    gradient, errors = jax.jit(jax.grad(mean_error)), []
    for t in reversed(range(y.shape[0])):
        now: Steps = jax.tree.map(lambda x, t=t: x[t], steps)
        if now.ts.last.all():
            continue
        errors.append(float(mean_error(critic.online, now, y[t])))
        slope = gradient(critic.online, now, y[t])
        online = jax.tree.map(lambda w, g: w - 0.1 * g, critic.online, slope)
        updates = critic.updates + 1
        target = online if updates % algorithm.target_interval == 0 else critic.target
        critic = Central(online, target, critic.optimiser, updates)
    return critic, errors


def close(one: Any, other: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), one, other)


@pytest.mark.parametrize("interval", [3, 100])
def test_the_critic_learns_from_the_last_step_to_the_first(interval: int) -> None:
    """And is copied to its target every so many of its updates. A step at which all episodes are over is none."""
    algorithm = rule(target_interval=interval)
    state = random_state(algorithm)
    trajectory = collected(4, state)
    trajectory = trajectory._replace(ts=trajectory.ts._replace(last=trajectory.ts.last.at[2].set(True)))
    y = jnp.asarray(np.random.default_rng(4).normal(size=trajectory.action.shape), jnp.float32)
    steps = joint_steps(trajectory)
    critic, _, _ = jax.jit(algorithm.fit)(state.critic, steps, y)
    want, errors = slow_fit(algorithm, state.critic, steps, y)
    assert int(critic.updates) == len(errors) == 6
    close((critic.online, critic.target), (want.online, want.target))
    copied = jax.tree.leaves(critic.target)[0] != jax.tree.leaves(state.critic.target)[0]
    assert copied.any() == (interval == 3)


def test_the_actor_follows_the_fitted_critic() -> None:
    algorithm = rule(entropy_weight=0.01)
    state = random_state(algorithm)
    trajectory = annotating(algorithm, env_steps=1000)(state, collected(5, state))
    after = jax.jit(algorithm.update)(state, uniform(trajectory), jax.random.key(0)).state
    steps = joint_steps(trajectory)
    critic, _ = slow_fit(algorithm, state.critic, steps, trajectory.notes.target)
    slope = jax.jit(jax.grad(lambda a: algorithm.loss(a, critic.online(*steps), trajectory)[0]))(state.actor)
    close(after.critic.online, critic.online)
    close(after.actor, jax.tree.map(lambda w, g: w - 0.1 * g, state.actor, slope))
    assert np.abs(after.actor.body.module.head.bias - state.actor.body.module.head.bias).max() > 1e-3


def test_losses_do_not_reach_each_others_networks_nor_across_episodes() -> None:
    algorithm = rule()
    state = random_state(algorithm)
    trajectory = annotating(algorithm)(state, collected(6, state))
    steps, y = joint_steps(trajectory), trajectory.notes.target
    over = steps.ts.last
    assert over.any()

    @jax.jit
    def learn(q: Array, y: Array) -> Any:
        of_actor, of_q = jax.grad(lambda a, q: algorithm.loss(a, q, trajectory)[0], argnums=(0, 1))(state.actor, q)
        return of_actor, of_q, algorithm.fit(state.critic, steps, y)[0].online

    q = jax.jit(state.critic.online.__call__)(*steps)
    of_actor, of_q, critic = learn(q, y)
    assert not np.asarray(of_q).any()  # the critic is no part of the actor's loss
    assert all(np.asarray(x).any() for x in jax.tree.leaves(of_actor))
    # What stands at the end of an episode, where nothing is done, is not learned from.
    elsewhere = jnp.where(over[..., None], 100.0, y), jnp.where(over[..., None, None], 100.0, q)
    actor_too, _, critic_too = learn(elsewhere[1], elsewhere[0])
    jax.tree.map(np.testing.assert_array_equal, (of_actor, critic), (actor_too, critic_too))


def test_who_has_no_choice_counts_for_the_critic_alone() -> None:
    algorithm = rule(entropy_weight=0.5)
    state = random_state(algorithm)
    trajectory = collected(2, state)
    only = jax.nn.one_hot(trajectory.action[..., 0], SPEC.num_actions) > 0
    trajectory = trajectory._replace(ts=trajectory.ts._replace(avail=trajectory.ts.avail.at[:-1, :, 0].set(only)))
    trajectory = annotating(algorithm)(state, trajectory)
    q = jax.jit(state.critic.online.__call__)(*joint_steps(trajectory))
    slope = jax.jit(
        lambda q: jax.grad(lambda a: algorithm.loss(a, q, trajectory)[0])(state.actor).body.module.head.bias
    )
    np.testing.assert_array_equal(slope(q), slope(q.at[..., 0, :].set(100.0)))
    assert np.abs(slope(q) - slope(q.at[..., 1, 0].add(10.0))).max() > 1e-3


def test_an_agents_loss_moves_no_other_agents_parameters() -> None:
    algorithm = rule(sharing="agent")
    state = random_state(algorithm)
    trajectory = annotating(algorithm)(state, collected(7, state))
    q = jnp.zeros((7, 5, 2, 3)).at[..., 0, 1].set(5.0)  # the second agent's advantages are 0
    gradient = jax.jit(jax.grad(lambda a: algorithm.loss(a, q, trajectory)[0]))(state.actor)
    for leaf in jax.tree.leaves(gradient):
        assert np.abs(leaf[0]).max() > 0
        np.testing.assert_allclose(leaf[1], 0, atol=1e-7)


def test_actions_are_drawn_with_the_floor_and_within_the_masks() -> None:
    """ε falls from 1 to 0 here; without exploration the most probable action is taken, whatever ε is."""
    algorithm = rule(epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=100)
    state = random_state(algorithm)
    ts: TimeStep = jax.tree.map(lambda x: x[0, 0], collected(8, state).ts)
    ts = ts._replace(avail=jnp.array([[True, True, False], [False, True, True]]))
    carry = state.actor.initial_carry()
    logits = state.actor(carry, ts)[1].q

    @jax.jit
    def draws(env_steps: Array) -> tuple[Array, Array]:
        policy = algorithm.policy(state, env_steps)
        act = lambda key, explore: policy.act(carry, ts, key, explore)[1]  # noqa: E731
        keys = jax.random.split(jax.random.key(0), 4000)
        return jax.vmap(lambda k: act(k, True))(keys), act(keys[0], False)

    softmax = np.where(ts.avail, np.exp(logits), 0)
    softmax = softmax / softmax.sum(-1, keepdims=True)
    for env_steps, epsilon in ((0, 1.0), (60, 0.4), (100, 0.0)):
        drawn, greedy = draws(jnp.asarray(env_steps))
        counts = np.stack([np.bincount(drawn[:, i], minlength=3) for i in range(2)]) / 4000
        want = (1 - epsilon) * softmax + epsilon * np.asarray(ts.avail) / 2
        np.testing.assert_allclose(counts, want, atol=0.03)
        np.testing.assert_array_equal(counts[~np.asarray(ts.avail)], 0)
        np.testing.assert_array_equal(greedy, softmax.argmax(-1))
        np.testing.assert_allclose(algorithm.schedules(env_steps)["epsilon"], epsilon, atol=1e-6)


def trained(env: Env, **settings: Any) -> tuple[RunState, ChunkLog]:
    defaults = {
        "learner": "a2c", "epochs": 1, "minibatches": 1, "num_envs": 16, "length": 6, "eval_every": 16 * 6 * 250,
        "lr": 5e-3, "gamma": 0.5, "td_lambda": 0.8, "target_interval": 20, "hidden": 16, "critic_hidden": 32,
        "cell": "mlp", "epsilon_start": 0.5, "epsilon_end": 0.1, "epsilon_steps": 10_000, "entropy_weight": 0.0,
    }  # fmt: skip
    driver = make_driver(env, "coma", **(defaults | settings))
    return jax.jit(lambda: driver.chunk(driver.init(0)))()


def values(run: RunState) -> tuple[TimeStep, np.ndarray]:
    """Of every action, the others keeping theirs, at the steps of the last iteration."""
    steps = joint_steps(run.memory.data.trajectory)
    return steps.ts, np.asarray(run.learner.critic.online(*steps))


def test_values_of_a_delayed_reward() -> None:
    run, _ = trained(Delayed(2), epsilon_steps=16 * 6 * 250)
    ts, q = values(run)
    # One-hot times: γ at the first step, 1 at the second, whatever anybody does.
    time = np.asarray(ts.state.argmax(-1))
    np.testing.assert_allclose(q[time == 0], 0.5, atol=0.05)
    np.testing.assert_allclose(q[time == 1], 1.0, atol=0.05)
    # The floor that was noted is that of the steps before this iteration, the last of 250.
    np.testing.assert_allclose(run.memory.data.trajectory.notes.epsilon, 0.5 - 0.4 * 249 / 250, rtol=1e-5)


def test_the_better_action_is_found() -> None:
    _, log = trained(Forbidden())
    np.testing.assert_array_equal(log.evaluation.returns, 10)
