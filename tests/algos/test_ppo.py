"""IPPO, MAPPO and their A2C: by hand, on probes, and what each part may look at."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.algos.ppo import PPO, ActorCritic, Notes, PPOCarry, PPOPolicy, PPOState, squared_error, surrogate
from comarl.algos.value_scale import ValueScale
from comarl.envs.base import Env
from comarl.envs.games.matrix import PAYOFFS
from comarl.envs.registry import make_env
from comarl.experiments.build import build_ppo
from comarl.experiments.config import with_settings
from comarl.experiments.presets import resolve
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.ondevice import OnDevice
from comarl.types import TimeStep, Trajectory
from tests.probes import (
    Delayed,
    Forbidden,
    Limit,
    Lottery,
    Recall,
    annotating,
    make_driver,
    random_parameters,
    random_trajectory,
)

OBS, STATE = 4, 3
SPEC = Lottery().spec


def rule(method: str = "mappo", **settings: Any) -> PPO:
    return build_ppo(with_settings(resolve(method, "two-step", {"hidden": 8}), settings), SPEC)


def random_state(algorithm: PPO, seed: int = 0) -> PPOState:
    networks: ActorCritic = random_parameters(lambda: algorithm.init(jax.random.key(0)).networks, seed)
    return PPOState(networks, algorithm.optimiser.init(networks), ValueScale.fresh(SPEC.num_agents))  # pyright: ignore


def collected(seed: int, state: PPOState, steps: int = 7, batch: int = 5) -> Trajectory:
    """A random trajectory with a carry of the critic, too."""
    trajectory = random_trajectory(seed, state.networks.actor, steps=steps, batch=batch, obs=OBS, state=STATE)
    memory = state.networks.critic.initial_memory()
    memory = jax.tree.map(lambda x: jnp.full((batch, *x.shape), 0.3), memory)
    return trajectory._replace(carry=PPOCarry(trajectory.carry, memory))


def without_notes(algorithm: PPO, state: PPOState, trajectory: Trajectory) -> Any:
    return annotating(algorithm)(state, trajectory).notes


@pytest.mark.parametrize("team_reward", ["sum", "individual"])
def test_advantages_are_the_sums_of_td_errors(team_reward: str) -> None:
    """A_t = Σ_k (γλ)^k δ_{t+k} to the end of the episode (Schulman et al. 2016, eq. 16)."""
    algorithm = rule(gamma=0.9, td_lambda=0.7, team_reward=team_reward)
    state = random_state(algorithm)
    state = state._replace(scale=ValueScale(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]), jnp.ones(())))
    trajectory = collected(0, state)
    notes: Notes = without_notes(algorithm, state, trajectory)
    critic = jax.jit(lambda net, memory, ts: net.unroll(memory, ts)[1])
    value = np.asarray(critic(state.networks.critic, trajectory.carry.critic, trajectory.ts), float)
    value = value * np.array([2.0, 0.5]) + np.array([1.0, -2.0])  # back from the critic's units
    ts = jax.tree.map(np.asarray, trajectory.ts)
    steps, batch = trajectory.action.shape[:2]
    reward = ts.reward if team_reward == "individual" else ts.reward.sum(-1, keepdims=True).repeat(2, -1)
    for b in range(batch):
        for t in range(steps):
            if ts.last[t, b]:
                continue  # the step into the next episode
            advantage, factor = np.zeros(2), 1.0
            for k in range(t, steps):
                follows = 0.9 * ts.discount[k + 1, b] * value[k + 1, b]
                advantage += factor * (reward[k + 1, b] + follows - value[k, b])
                factor *= 0.9 * 0.7
                if ts.last[k + 1, b]:
                    break
            np.testing.assert_allclose(notes.advantage[t, b], advantage, rtol=2e-4, atol=2e-4)
            np.testing.assert_allclose(notes.target[t, b], advantage + value[t, b], rtol=2e-4, atol=2e-4)


def test_before_the_first_update_the_gradient_is_that_of_a2c() -> None:
    algorithm = rule(entropy_weight=0.0, value_weight=0.0)
    state = random_state(algorithm)
    trajectory = annotating(algorithm)(state, collected(1, state))
    before = jax.tree.map(lambda x: x[:-1], trajectory.ts)
    deciding = np.asarray(~before.last[..., None] & (before.avail.sum(-1) > 1))
    advantage = np.asarray(trajectory.notes.advantage)
    scaled = (advantage - advantage[deciding].mean()) / advantage[deciding].std()

    def a2c(networks: ActorCritic) -> Array:
        logits = networks.actor.unroll(trajectory.carry.actor, before, trajectory.action[:-1])[1].q
        p = jnp.where(before.avail, jnp.exp(logits), 0.0)
        taken = jnp.take_along_axis(p, trajectory.action[..., None], -1)[..., 0] / p.sum(-1)
        return -jnp.sum(jnp.where(deciding, jnp.log(taken) * scaled, 0.0)) / deciding.sum()

    def ppo(networks: ActorCritic) -> Array:
        return algorithm.loss(networks, state.scale, trajectory)[0]

    ours, theirs = jax.jit(jax.grad(ppo))(state.networks), jax.jit(jax.grad(a2c))(state.networks)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), ours.actor, theirs.actor)
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(ours.critic))
    assert any(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(ours.actor))


def test_gradient_of_a_game_of_two() -> None:
    """Both play uniformly: ∂J/∂θ_i(a) = π(a) (E[r | a_i = a] - E[r]), here of rewards scaled to variance 1."""
    env = make_env("matrix/qplex-1")
    config = resolve("mappo", "matrix/qplex-1", {"cell": "mlp", "hidden": 4, "sharing": "agent", "entropy_weight": 0.0})
    algorithm = build_ppo(config, env.spec)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: algorithm.init(jax.random.key(0)).networks))
    networks: ActorCritic = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros)
    payoff = np.array(PAYOFFS["qplex-1"], np.float32)
    joint = np.array(list(itertools.product(range(3), repeat=2)))  # each joint action once: no sampling error
    reward = payoff[joint[:, 0], joint[:, 1]]
    _, ts = env.reset(jax.random.key(0))
    first = jax.tree.map(lambda x: jnp.broadcast_to(x, (9, *x.shape)), ts)
    last = first._replace(
        reward=jnp.tile(reward[:, None], (1, 2)),
        discount=jnp.zeros(9),
        first=jnp.zeros(9, bool),
        last=jnp.ones(9, bool),
    )
    both: TimeStep = jax.tree.map(lambda x, y: jnp.stack([x, y]), first, last)
    start = PPOPolicy(networks).initial_carry()
    carry = jax.tree.map(lambda x: jnp.zeros((9, *x.shape), x.dtype), start)
    trajectory = Trajectory(both, jnp.asarray(joint[None], jnp.int32), carry)
    state = PPOState(networks, algorithm.optimiser.init(networks), ValueScale.fresh(2))  # pyright: ignore
    trajectory = annotating(algorithm)(state, trajectory)
    np.testing.assert_allclose(trajectory.notes.log_p, np.log(1 / 3), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda n: algorithm.loss(n, state.scale, trajectory)[0]))(networks)
    advantage = (payoff - payoff.mean()) / payoff.std()
    # The loss is a mean over the two agents, too.
    np.testing.assert_allclose(gradient.actor.body.module.head.bias[0], -advantage.mean(1) / 3 / 2, atol=1e-5)
    np.testing.assert_allclose(gradient.actor.body.module.head.bias[1], -advantage.mean(0) / 3 / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"), [(1, 1.3, False), (-1, 1.3, True), (1, 0.7, True), (-1, 0.7, False)]
)
def test_what_has_moved_far_enough_moves_no_further(advantage: float, ratio: float, moves: bool) -> None:
    slope = jax.grad(lambda x: surrogate(x, jnp.asarray(float(advantage)), 0.2))(jnp.asarray(ratio))
    assert (slope != 0) == moves


def test_values_count_no_further_than_the_clip_and_the_larger_error_counts() -> None:
    value, target, old = jnp.array([2.0, 2.0]), jnp.array([3.0, 0.0]), jnp.array([1.0, 1.0])
    np.testing.assert_allclose(squared_error(value, target, old, 0.0), [1, 4])
    # Held to 1.2: the errors are 1.8² and 1.2².
    np.testing.assert_allclose(squared_error(value, target, old, 0.2), [3.24, 4], rtol=1e-6)


def test_who_has_no_choice_counts_for_the_critic_alone() -> None:
    algorithm = rule(entropy_weight=0.5)
    state = random_state(algorithm)
    trajectory = collected(2, state)
    only = jax.nn.one_hot(trajectory.action[..., 0], SPEC.num_actions) > 0
    avail = trajectory.ts.avail.at[:-1, :, 0].set(only)
    trajectory = annotating(algorithm)(state, trajectory._replace(ts=trajectory.ts._replace(avail=avail)))

    @jax.jit
    def slope(advantage: Array) -> Array:
        notes = trajectory.notes._replace(advantage=advantage)
        gradient = jax.grad(algorithm.loss, has_aux=True)(
            state.networks, state.scale, trajectory._replace(notes=notes)
        )[0]
        return gradient.actor.body.module.head.bias

    advantage = trajectory.notes.advantage
    as_is, of_first = slope(advantage), slope(advantage.at[..., 0].set(100.0))
    np.testing.assert_array_equal(as_is, of_first)
    assert np.abs(as_is - slope(advantage.at[0, :, 1].set(100.0))).max() > 1e-3


@pytest.mark.parametrize(("method", "sees_obs", "sees_state"), [("ippo", True, False), ("mappo", False, True)])
def test_what_critics_and_agents_see(method: str, sees_obs: bool, sees_state: bool) -> None:
    algorithm = rule(method)
    state = random_state(algorithm)
    trajectory = collected(3, state)
    obs = trajectory._replace(ts=trajectory.ts._replace(obs=trajectory.ts.obs + 1))
    world = trajectory._replace(ts=trajectory.ts._replace(state=trajectory.ts.state + 1))
    as_is, other_obs, other_state = (without_notes(algorithm, state, t) for t in (trajectory, obs, world))
    assert bool((as_is.value != other_obs.value).any()) == sees_obs
    assert bool((as_is.value != other_state.value).any()) == sees_state
    # Agents act on their observations, never on the state.
    assert (as_is.log_p != other_obs.log_p).any()
    np.testing.assert_array_equal(as_is.log_p, other_state.log_p)


def test_an_agents_advantage_moves_no_other_agents_parameters() -> None:
    algorithm = rule("ippo", sharing="agent", entropy_weight=0.0, value_weight=0.0)
    state = random_state(algorithm)
    trajectory = annotating(algorithm)(state, collected(4, state))

    def first_agents_part(networks: ActorCritic) -> Array:
        before = jax.tree.map(lambda x: x[:-1], trajectory.ts)
        return networks.actor.unroll(trajectory.carry.actor, before, trajectory.action[:-1])[1].q[..., 0, :].sum()

    gradient = jax.jit(jax.grad(first_agents_part))(state.networks)
    for leaf in jax.tree.leaves(gradient.actor):
        assert np.all(np.asarray(leaf[1]) == 0)


def test_notes_are_what_the_agents_thought_when_they_acted() -> None:
    """With memory, in sequences that begin in the middle of an episode."""
    driver = make_driver(Lottery(), "ippo", learner="ppo", length=2, minibatches=1, num_envs=16)
    start = jax.jit(driver.init)(0)
    algorithm: Any = driver.learner.algorithm
    policy = algorithm.policy(start.learner, 0)
    collect = jax.jit(lambda actors, key: driver.collect(policy, actors, key))
    middle, one, _ = collect(start.actors, jax.random.key(1))
    _, two, _ = collect(middle, jax.random.key(2))
    join = lambda x, y: jnp.concatenate([x[:-1], y])  # noqa: E731
    whole = Trajectory(jax.tree.map(join, one.ts, two.ts), jnp.concatenate([one.action, two.action]), one.carry)
    annotate = annotating(algorithm)
    apart, together = annotate(start.learner, two).notes, annotate(start.learner, whole).notes
    assert not two.ts.first[0].all()
    np.testing.assert_allclose(apart.log_p, together.log_p[2:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apart.value, together.value[2:], rtol=1e-5, atol=1e-6)


def test_unavailable_actions_are_never_taken() -> None:
    algorithm = rule()
    state = random_state(algorithm)
    policy = algorithm.policy(state, 0)
    trajectory = collected(5, state, batch=50)
    carry = jax.tree.map(lambda x: x[0], trajectory.carry)
    ts = jax.tree.map(lambda x: x[0], trajectory.ts)
    for explore in (True, False):
        act = jax.jit(jax.vmap(lambda t, k: policy.act(carry, t, k, explore)[1]))  # noqa: B023
        action = act(ts, jax.random.split(jax.random.key(0), 50))
        assert np.take_along_axis(np.asarray(ts.avail), np.asarray(action)[..., None], -1).all()


def trained(env: Env, method: str = "mappo", chunks: int = 1, **settings: Any) -> tuple[OnDevice, Any]:
    learner = "a2c" if "a2c" in method else "ppo"
    defaults = {"minibatches": 1, "epochs": 4, "num_envs": 16, "length": 6, "lr": 0.01, "eval_every": 16 * 6 * 150}
    defaults |= {"hidden": 16, "cell": "mlp", "gamma": 0.5, "td_lambda": 0.95, "learner": learner, "lr_decay": 1.0}
    driver = make_driver(env, method, **(defaults | settings))
    run, chunk = jax.jit(driver.init)(0), jax.jit(driver.chunk)
    for _ in range(chunks):
        run, _ = chunk(run)
    return driver, run


def values(driver: OnDevice, run: Any) -> np.ndarray:
    """Of the collected steps, in units of the reward, with what was seen."""
    algorithm: Any = driver.learner.algorithm
    policy = algorithm.policy(run.learner, 0)
    _, trajectory, _ = jax.jit(lambda a: driver.collect(policy, a, jax.random.key(7)))(run.actors)
    return annotating(algorithm)(run.learner, trajectory)


def test_values_of_a_delayed_reward() -> None:
    annotated: Any = values(*trained(Delayed(2)))
    ts, value = annotated.ts, np.asarray(annotated.notes.value)
    # One-hot times: γ at the first step, 1 at the second.
    time = np.asarray(ts.state[:-1].argmax(-1))
    np.testing.assert_allclose(value[time == 0], 0.5, atol=0.05)
    np.testing.assert_allclose(value[time == 1], 1.0, atol=0.05)


def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not() -> None:
    annotated: Any = values(*trained(Limit(3, terminates=False)))
    real = ~np.asarray(annotated.ts.last[:-1])
    np.testing.assert_allclose(np.asarray(annotated.notes.value)[real], 2.0, atol=0.1)
    annotated = values(*trained(Limit(3, terminates=True)))
    time = np.asarray(annotated.ts.state[:-1].argmax(-1))
    for step, value in enumerate((1.75, 1.5, 1.0)):
        np.testing.assert_allclose(np.asarray(annotated.notes.value)[time == step], value, atol=0.1)


@pytest.mark.parametrize("method", ["mappo", pytest.param("ia2c", marks=pytest.mark.paper)])
def test_the_better_action_is_found(method: str) -> None:
    driver, run = trained(Forbidden(), method)
    policy = driver.learner.algorithm.policy(run.learner, 0)
    episodes = jax.jit(lambda: play(driver.env, policy, evaluation_keys(4)))()
    np.testing.assert_array_equal(episodes.returns, 10)


@pytest.mark.parametrize("cell", ["gru", pytest.param("mingru", marks=pytest.mark.paper)])
def test_memory_is_used(cell: str) -> None:
    driver, run = trained(Recall(), "ippo", cell=cell, gamma=0.9, eval_every=16 * 6 * 300)
    policy = driver.learner.algorithm.policy(run.learner, 0)
    episodes = jax.jit(lambda: play(driver.env, policy, evaluation_keys(64)))()
    assert float(episodes.outcome["recalled"].mean()) == 1


def test_a_state_is_a_run_alone() -> None:
    """The same seed gives the same bits; another one does not."""
    (_, one), (driver, two) = trained(Delayed(2), chunks=1), trained(Delayed(2), chunks=1)
    jax.tree.map(np.testing.assert_array_equal, one.learner, two.learner)
    other = jax.jit(driver.init)(1)
    assert any(
        np.any(a != b) for a, b in zip(jax.tree.leaves(one.learner), jax.tree.leaves(other.learner), strict=True)
    )


def test_settings_reach_the_rule() -> None:
    algorithm = rule(clip=0.3, value_clip=0.0, entropy_weight=0.02, value_weight=0.7, value_norm=False, gamma=0.8)
    wanted = {"clip": 0.3, "value_clip": 0.0, "entropy_weight": 0.02, "value_weight": 0.7, "value_norm": False}
    assert {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm) if f.name in wanted} == wanted
    assert algorithm.gamma == 0.8
    state = random_state(algorithm)
    state = state._replace(scale=ValueScale(jnp.full(2, 5.0), jnp.full(2, 9.0), jnp.ones(())))
    plain = random_state(algorithm)
    # Without normalisation the scale is never used.
    trajectory = collected(6, state)
    np.testing.assert_array_equal(
        without_notes(algorithm, state, trajectory).value, without_notes(algorithm, plain, trajectory).value
    )
