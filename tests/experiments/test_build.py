"""From a configuration to what runs: optimisers against their formulas written out, sizes, and who gets which mixer."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from comarl.envs.one_agent import OneAgent
from comarl.experiments import build
from comarl.experiments.build import (
    build_algorithm,
    build_driver,
    build_env,
    build_mixer,
    build_optimiser,
    build_returns,
    total_updates,
)
from comarl.experiments.config import LearnerConfig, RunConfig, with_settings
from comarl.experiments.methods import METHODS
from comarl.experiments.presets import resolve
from comarl.memory.replay import make_replay
from comarl.mixers.iql import IQL
from comarl.mixers.qatten import Qatten
from comarl.mixers.qmix import QMIX, QMIXNS, QMIXLin
from comarl.mixers.qplex import QPLEX
from comarl.mixers.qtran import QTRANAlt, QTRANBase
from comarl.mixers.vdn import VDN, VDNS
from comarl.mixers.wqmix import WeightedQMIX
from comarl.nets.cells import LSTM
from comarl.returns import n_step, td_lambda
from tests.probes import SMALL, Lottery, make_driver, random_parameters, random_trajectory, uniform

KEY = jax.random.key(0)
STEPS = 6
# Two arrays of parameters, so that the norm is over both; the gradients' norms lie on both sides of the clip at 1.
DRAW = np.random.default_rng(0)
GRADIENTS = [{"w": DRAW.normal(size=3) * 0.1 * 3**k, "b": DRAW.normal(size=2) * 0.1 * 3**k} for k in range(STEPS)]


def clipped(gradient: dict[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
    """Pascanu et al. 2013: g · min(1, limit / ‖g‖), the norm over all parameters together."""
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    return {k: g * min(1.0, limit / norm) for k, g in gradient.items()}


def rmsprop(lr: float) -> list[dict[str, np.ndarray]]:
    """PyTorch's: v ← α v + (1 - α) g², Δ = -lr g / (√v + ε), with α = .99 and ε = 1e-5 outside the root."""
    v, steps = {"w": np.zeros(3), "b": np.zeros(2)}, []
    for gradient in GRADIENTS:
        g = clipped(gradient, 1.0)
        v = {k: 0.99 * v[k] + 0.01 * g[k] ** 2 for k in v}
        steps.append({k: -lr * g[k] / (np.sqrt(v[k]) + 1e-5) for k in v})
    return steps


def adam(lr: float) -> list[dict[str, np.ndarray]]:
    """Kingma and Ba 2015, algorithm 1, with β = (.9, .999) and ε = 1e-8."""
    m, v, steps = {"w": np.zeros(3), "b": np.zeros(2)}, {"w": np.zeros(3), "b": np.zeros(2)}, []
    for t, gradient in enumerate(GRADIENTS, start=1):
        g = clipped(gradient, 1.0)
        m = {k: 0.9 * m[k] + 0.1 * g[k] for k in m}
        v = {k: 0.999 * v[k] + 0.001 * g[k] ** 2 for k in v}
        steps.append({k: -lr * (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8) for k in m})
    return steps


@pytest.mark.parametrize(("name", "formula"), [("rmsprop", rmsprop), ("adam", adam)])
def test_optimiser_is_its_formula_after_clipping_by_global_norm(name: Any, formula: Any) -> None:
    norms = [np.sqrt((g["w"] ** 2).sum() + (g["b"] ** 2).sum()) for g in GRADIENTS]
    assert min(norms) < 1 < max(norms)
    optimiser = build_optimiser(LearnerConfig(optimiser=name, lr=0.01, grad_clip=1.0))
    update = jax.jit(optimiser.update)
    state = optimiser.init({"w": jnp.zeros(3), "b": jnp.zeros(2)})
    for gradient, want in zip(GRADIENTS, formula(0.01), strict=True):
        change, state = update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradient), state)
        for k in want:
            np.testing.assert_allclose(change[k], want[k], rtol=1e-4)


def radam(gradients: np.ndarray, lr: float) -> np.ndarray:
    """Liu et al. 2020, algorithm 2, with β = (.9, .999): rectified from ρ_t = 5 on, before that momentum alone.

    ρ_t = ρ_∞ - 2 t β₂ᵗ / (1 - β₂ᵗ); the paper's code takes 5 where its text says 4, and so does optax.
    """
    m = v = 0.0
    steps, rho_inf = [], 2 / (1 - 0.999) - 1
    for t, g in enumerate(gradients.astype(np.float64), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        rho = rho_inf - 2 * t * 0.999**t / (1 - 0.999**t)
        if rho >= 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            steps.append(-lr * r * m_hat / (np.sqrt(v_hat) + 1e-8))
        else:
            steps.append(-lr * m_hat)
    return np.array(steps)


def test_radam_is_its_formula() -> None:
    gradients = (DRAW.normal(size=200) * 0.3 + 0.5).astype(np.float32)
    optimiser = build_optimiser(LearnerConfig(optimiser="radam", lr=0.01))
    _, got = jax.lax.scan(lambda s, g: optimiser.update(g, s)[::-1], optimiser.init(jnp.zeros(())), gradients)
    want = radam(gradients, 0.01)
    np.testing.assert_allclose(got[:5], want[:5], rtol=1e-4)
    assert abs(want[5]) < abs(want[4]) / 10  # the rectified steps begin small
    # ρ_t is the difference of two numbers near 2000, each good to 1e-7 and the second divided by 1 - β₂ᵗ: what is
    # left of it near 5 is good to some hundredths in single precision, and much better later.
    np.testing.assert_allclose(got[5:], want[5:], rtol=0.05)
    np.testing.assert_allclose(got[100:], want[100:], rtol=2e-3)


def test_rmsprop_keeps_epsilon_outside_the_root() -> None:
    """Seen where gradients are tiny: |Δ| = lr g / (.1 g + 1e-5), against lr g / √(.01 g² + 1e-5)."""
    optimiser = build_optimiser(LearnerConfig(optimiser="rmsprop", lr=1.0))
    change, _ = optimiser.update(jnp.asarray(1e-4), optimiser.init(jnp.asarray(0.0)))
    np.testing.assert_allclose(change, -1e-4 / (1e-5 + 1e-5), rtol=1e-4)


@pytest.mark.parametrize(
    ("schedule", "decay", "left"),
    [
        ("exponential", 1.0, [1, 1, 1]),
        ("exponential", 0.01, [1, 0.1, 0.01]),
        ("linear", 1.0, [1, 1, 1]),
        ("linear", 0.2, [1, 0.6, 0.2]),
        ("linear", 0.0, [1, 0.5, 0]),
    ],
)
def test_learning_rate_falls_over_the_updates(
    schedule: Literal["exponential", "linear"], decay: float, left: list[float]
) -> None:
    """With a constant gradient each step of Adam is the learning rate itself."""
    config = LearnerConfig(optimiser="adam", lr=0.5, lr_decay=decay, lr_schedule=schedule)
    optimiser = build_optimiser(config, updates=10)
    state = optimiser.init(jnp.asarray(0.0))
    changes = []
    for _ in range(11):
        change, state = optimiser.update(jnp.asarray(2.0), state)
        changes.append(float(change))
    np.testing.assert_allclose([changes[0], changes[5], changes[10]], -0.5 * np.array(left), rtol=1e-4)


def test_updates_of_a_whole_training() -> None:
    sizes = {"num_envs": 4, "length": 6, "updates": 2}
    config = with_settings(RunConfig(), sizes | {"steps": 240, "learning_starts": 48})
    assert total_updates(config) == 2 * (240 - 48) / 24
    assert total_updates(with_settings(config, {"steps": 50})) == 1


CLASSES = {
    "iql": IQL,
    "vdn": VDN,
    "vdn-s": VDNS,
    "qmix": QMIX,
    "qmix-ns": QMIXNS,
    "qmix-lin": QMIXLin,
    "qplex": QPLEX,
    "qatten": Qatten,
    "qtran-base": QTRANBase,
    "qtran-alt": QTRANAlt,
    "cw-qmix": WeightedQMIX,
    "ow-qmix": WeightedQMIX,
    "joint": IQL,
}


def mixer_of(method: str, **settings: Any) -> Any:
    """The mixer for 2 agents with 3 actions, 4 features of an observation and 3 of the state."""
    config = with_settings(RunConfig(method=method), settings)
    return jax.eval_shape(lambda: build_mixer(config, Lottery().spec, KEY))


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.values])
def test_every_method_has_its_mixer(method: str) -> None:
    assert type(mixer_of(method)) is CLASSES[method]


@pytest.mark.parametrize(
    ("method", "sees"),
    [("ippo", "observation"), ("mappo", "state"), ("ia2c", "observation"), ("maa2c", "state")],
)
def test_every_policy_has_its_critic(method: str, sees: str) -> None:
    config = with_settings(resolve(method, "two-step", {}), {"hidden": 5, "sharing": "agent"})
    networks: Any = jax.eval_shape(lambda: build_algorithm(config, Lottery().spec).init(KEY).networks)
    assert networks.critic.sees == sees
    # Its own features and its index; a network per agent.
    assert networks.critic.body.module.encoder.weight.shape == (2, (3 if sees == "state" else 4) + 2, 5)
    assert networks.actor.body.module.head.weight.shape == (2, 5, 3)


def test_settings_of_coma_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[int] = []
    monkeypatch.setattr(build, "build_optimiser", lambda config, n: (updates.append(n), optax.sgd(0.1))[1])
    settings = {"hidden": 5, "critic_hidden": 7, "sharing": "agent", "num_envs": 4, "length": 6, "steps": 240}
    settings |= {"entropy_weight": 0.5, "gamma": 0.8, "team_reward": "sum", "target_update": "soft", "target_tau": 0.3}
    algorithm: Any = build_algorithm(with_settings(resolve("coma", "two-step", {}), settings), Lottery().spec)
    state: Any = jax.eval_shape(algorithm.init, KEY)
    # The state, the observation, the others' and the last actions, the index; a network per agent.
    inputs = 3 + 4 + 2 * 2 * 3 + 2
    assert widths(state.critic.online.net.module) == [(2, inputs, 7), (2, 7, 7), (2, 7, 3)]
    assert state.actor.body.module.head.weight.shape == (2, 5, 3)
    assert updates == [10, 60]  # the critic learns once for each of the 6 time steps
    assert (algorithm.entropy_weight, algorithm.gamma, algorithm.team_reward) == (0.5, 0.8, "sum")
    assert (algorithm.target_update, algorithm.target_interval, algorithm.target_tau) == ("soft", 200, 0.3)
    assert algorithm.returns.keywords == {"lambda_": 0.8}


def widths(net: Any) -> list[tuple[int, ...]]:
    return [layer.weight.shape for layer in net.layers]


def test_settings_of_qmix_arrive() -> None:
    assert widths(mixer_of("qmix", embed=5, hyper_hidden=7).w1) == [(3, 7), (7, 2 * 5)]
    assert widths(mixer_of("qmix", embed=5, hyper_layers=1).w1) == [(3, 2 * 5)]


@pytest.mark.parametrize("method", ["qmix", "qtran-base", "ow-qmix"])
def test_mixers_begin_as_small_as_asked(method: str) -> None:
    usual, small = (
        jax.tree.leaves(build_mixer(with_settings(RunConfig(method=method), {"mixer_scale": x}), Lottery().spec, KEY))
        for x in (1.0, 0.1)
    )
    assert len(usual) > 2
    for large, little in zip(usual, small, strict=True):
        np.testing.assert_allclose(little, 0.1 * large, rtol=1e-6)


def test_the_mixer_of_facmac_begins_small_and_its_critics_as_always() -> None:
    def critic(scale: float) -> Any:
        config = with_settings(resolve("facmac", "two-step", {}), {"mixer_scale": scale})
        algorithm: Any = build_algorithm(config, Lottery().spec)
        return algorithm.init(KEY).online.critic[0]

    usual, small = critic(1.0), critic(0.1)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, usual.own, small.own))
    assert jax.tree.all(jax.tree.map(lambda x, y: jnp.allclose(0.1 * x, y), usual.mixer, small.mixer))


def test_settings_of_qplex_arrive() -> None:
    mixer = mixer_of("qplex", kernels=5, kernel_layers=3, hyper_hidden=7, stop_gradient=False)
    assert not mixer.stop_gradient
    assert widths(mixer.w) == [(3, 7), (7, 2)]
    assert widths(mixer.kernels.action) == [(5, 3 + 2 * 3, 7), (5, 7, 7), (5, 7, 2)]


def test_settings_of_qatten_arrive() -> None:
    mixer = mixer_of("qatten", heads=3, embed=5, hyper_hidden=7, nonlinear_keys=True, mask_dead=True, logit_penalty=0.5)
    assert mixer.heads.key.weight.shape == (3, 4 + 1, 32)
    assert mixer.heads.query_out.weight.shape == (3, 7, 32)
    assert widths(mixer.w) == [(3, 7), (7, 3)]
    assert widths(mixer.c) == [(3, 5), (5, 1)]
    assert (mixer.nonlinear_keys, mixer.mask_dead, mixer.logit_penalty) == (True, True, 0.5)
    assert mixer_of("qatten", weighted_heads=False).w is None


def test_qatten_reads_units_from_the_state_where_they_are() -> None:
    spec = dataclasses.replace(Lottery().spec, units=((0, 1), (1, 2)))
    mixer = jax.eval_shape(lambda: build_mixer(RunConfig(method="qatten"), spec, KEY))
    assert mixer.heads.key.weight.shape == (4, 1, 32)


@pytest.mark.parametrize("method", ["qtran-base", "qtran-alt"])
def test_settings_of_qtran_arrive(method: str) -> None:
    mixer = mixer_of(method, joint_hidden=5, hidden=6, opt_weight=2.0, nopt_weight=3.0)
    assert mixer.joint_value.memory.weight.shape == (6, 5)
    assert widths(mixer.state_value) == [(3, 5), (5, 1)]
    assert (mixer.opt_weight, mixer.nopt_weight) == (2, 3)
    assert mixer_of(method, state_value=False).state_value is None


@pytest.mark.parametrize("method", ["cw-qmix", "ow-qmix"])
def test_settings_of_weighted_qmix_arrive(method: str) -> None:
    mixer = mixer_of(method, embed=4, joint_hidden=5, alpha=0.3)
    assert mixer.monotone.b1.weight.shape == (3, 4)
    assert mixer.joint_value.memory.weight.shape == (64, 5)
    assert (mixer.alpha, mixer.optimistic) == (0.3, method == "ow-qmix")


@pytest.mark.parametrize("method", ["qplex", "qatten", "qtran-alt", "cw-qmix", "joint"])
def test_a_method_learns_with_all_of_its_parameters(method: str) -> None:
    """As configured, from a batch: each array of agent and mixer has a gradient, and the target network none.

    Every mixer by itself is asked in tests/mixers/test_properties.py.
    """
    env: Any = OneAgent(Lottery(), "mean") if method == "joint" else Lottery()
    algorithm: Any = make_driver(env, method, cell="mlp", layer_norm=True, joint_hidden=4).learner.algorithm
    online = random_parameters(lambda: algorithm.init(KEY).online)
    spec = env.spec
    batch = uniform(random_trajectory(0, online.agent, steps=4, batch=8, obs=spec.obs_dim, state=spec.state_dim))
    gradients = jax.jit(jax.grad(lambda *networks: algorithm.loss(*networks, batch)[0], argnums=(0, 1)))
    by_online, by_target = gradients(online, random_parameters(lambda: online, 1))
    assert all(leaf.any() for leaf in jax.tree.leaves(by_online))
    assert not any(leaf.any() for leaf in jax.tree.leaves(by_target))
    assert jax.tree.structure(by_target) == jax.tree.structure(online)  # all of it is copied


def test_an_unknown_method_is_no_mixer() -> None:
    with pytest.raises(ValueError, match="qmux"):
        mixer_of("qmux")


def test_agent_settings_arrive() -> None:
    driver = make_driver(Lottery(), cell="lstm", hidden=6, last_action=False, agent_id=False, sharing="agent")
    agent = jax.eval_shape(driver.learner.algorithm.init, KEY).online.agent
    assert isinstance(agent.body.module.cell, LSTM)
    assert agent.body.module.encoder.weight.shape == (2, 4, 6)  # agents, features of the observation, width
    assert (agent.use_last_action, agent.use_agent_id) == (False, False)


def test_learner_settings_arrive() -> None:
    algorithm: Any = make_driver(
        Lottery(), gamma=0.9, td_lambda=0.3, team_reward="sum", target_update="soft", target_tau=0.2, target_interval=7
    ).learner.algorithm
    got = (algorithm.gamma, algorithm.returns.keywords, algorithm.team_reward)
    assert got == (0.9, {"lambda_": 0.3}, "sum")
    assert (algorithm.target_update, algorithm.target_tau, algorithm.target_interval) == ("soft", 0.2, 7)


def test_options_of_sequences_arrive() -> None:
    options: dict[str, Any] = {"returns": "n_step", "n_step": 3, "stored_state": False, "burn_in": 2}
    algorithm: Any = make_driver(Lottery(), target_update="none", **options).learner.algorithm
    assert algorithm.returns.func is n_step
    assert algorithm.returns.keywords == {"n": 3}
    assert (algorithm.stored_state, algorithm.burn_in, algorithm.target_update) == (False, 2, "none")


def test_updates_of_a_whole_training_on_policy() -> None:
    """An update for each minibatch of each epoch; replay's own number of updates has no part in it."""
    sizes = {"learner": "pqn", "num_envs": 4, "length": 6, "epochs": 3, "minibatches": 2, "updates": 99}
    config = with_settings(RunConfig(), sizes | {"steps": 240, "learning_starts": 0})
    assert total_updates(config) == 3 * 2 * 240 / 24
    driver = make_driver(Lottery(), learner="pqn", epochs=3, minibatches=2)
    assert driver.learner.updates == 6
    assert make_driver(Lottery(), learner="replay", epochs=3, minibatches=2, updates=5).learner.updates == 5


def stored_by(**settings: Any) -> Any:
    """What a memory of that configuration holds, and a batch of it, as shapes; 24 steps an iteration."""
    driver = make_driver(Lottery(), **settings)
    memory: Any = jax.eval_shape(driver.init, 0).memory
    sample = lambda memory: driver.learner.memory.sample(memory, jnp.asarray(0), jnp.asarray(0), KEY)  # noqa: E731
    return memory, jax.eval_shape(sample, memory)


def test_replay_keeps_blocks_and_draws_batches() -> None:
    memory, batch = stored_by(buffer_steps=240, batch_size=7)
    assert memory.data.action.shape == (10, 6, 4, 2)  # blocks, steps, environments, agents
    assert memory.priority == ()
    assert batch.trajectory.action.shape == (6, 7, 2)


def test_prioritised_replay_keeps_priorities_too() -> None:
    memory, batch = stored_by(buffer_steps=240, batch_size=7, replay="prioritised")
    assert memory.data.action.shape == (10, 6, 4, 2)
    assert memory.priority.of.shape == (10, 4)
    assert batch.trajectory.action.shape == (6, 7, 2)
    assert [x.shape for x in batch.where] == [(7,), (7,)]


@pytest.mark.parametrize("replay", ["uniform", "prioritised"])
def test_a_batch_has_as_many_sequences_for_each_sub_policy_as_for_a_single_one(replay: str) -> None:
    _, batch = stored_by(method="maddpg", sub_policies=3, batch_size=7, replay=replay)
    assert batch.trajectory.action.shape == (6, 21, 2)


def test_pqn_keeps_its_own_iteration_alone() -> None:
    memory, batch = stored_by(learner="pqn", epochs=3, minibatches=2, buffer_steps=240, batch_size=7)
    assert memory.data.trajectory.action.shape == (6, 4, 2)
    assert memory.data.order.shape == (6, 2)  # epochs x minibatches, environments / minibatches
    assert memory.priority == ()
    assert batch.trajectory.action.shape == (6, 2, 2)


@pytest.mark.parametrize(
    ("settings", "rule", "options"),
    [
        ({}, td_lambda, {"lambda_": 0.6}),
        ({"td_lambda": 0.0, "n_step": 3}, td_lambda, {"lambda_": 0.0}),
        ({"returns": "n_step", "n_step": 3, "td_lambda": 0.9}, n_step, {"n": 3}),
    ],
)
def test_returns_are_those_asked_for(settings: dict[str, Any], rule: Any, options: dict[str, Any]) -> None:
    returns: Any = build_returns(LearnerConfig(**settings))
    assert (returns.func, returns.keywords) == (rule, options)


def test_prioritised_replay_anneals_beta_to_one_over_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(build, "make_prioritised", lambda *args: (seen.append(args), make_replay(1, 1))[1])
    options = {"replay": "prioritised", "priority_alpha": 0.7, "priority_beta": 0.5, "steps": 2400}
    build.build_memory(with_settings(RunConfig(), SMALL | options))
    ((blocks, batch_size, alpha, beta),) = seen
    assert (blocks, batch_size, alpha) == (4, 4, 0.7)
    # 24 steps an iteration, 100 iterations.
    np.testing.assert_allclose([beta(i) for i in (0, 50, 100)], [0.5, 0.75, 1.0], rtol=1e-6)


def test_epsilon_is_linear_in_environment_steps() -> None:
    algorithm: Any = make_driver(Lottery(), epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=400).learner.algorithm
    np.testing.assert_allclose([algorithm.epsilon(n) for n in (0, 100, 400, 9999)], [0.9, 0.7, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(("learning_starts", "first"), [(0, 0), (1, 0), (24, 0), (25, 1), (48, 1), (49, 2)])
def test_learning_starts_once_so_many_steps_are_stored(learning_starts: int, first: int) -> None:
    """An iteration is 24 steps here, and learns from its own."""
    assert make_driver(Lottery(), learning_starts=learning_starts).learner.starts == first


def test_sizes_of_the_loop() -> None:
    driver = make_driver(Lottery(), num_envs=4, length=6, buffer_steps=240, eval_every=100, eval_episodes=5)
    assert driver.steps_per_iteration == 24
    assert driver.iterations == 4  # 96 steps is nearest to 100
    assert driver.episodes == 5
    assert jax.eval_shape(driver.init, 0).memory.data.ts.obs.shape == (10, 7, 4, 2, 4)


@pytest.mark.parametrize(("steps", "iterations"), [(48, 2), (49, 3), (59, 3), (1, 1), (1000, 42)])
def test_a_run_shorter_than_the_time_between_evaluations_is_one_chunk(steps: int, iterations: int) -> None:
    """An iteration is 24 steps here. Rounded down, 59 steps would take two chunks of 48."""
    assert make_driver(Lottery(), steps=steps, eval_every=1000).iterations == iterations


def test_a_buffer_holds_at_least_one_block_and_a_chunk_one_iteration() -> None:
    driver = make_driver(Lottery(), buffer_steps=1, eval_every=1)
    assert jax.eval_shape(driver.init, 0).memory.data.action.shape[0] == 1
    assert driver.iterations == 1


def test_the_joint_learner_sees_one_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "make_env", lambda *_: Lottery())
    env = build_env(with_settings(RunConfig(method="joint"), {"team_reward": "sum"}))
    assert isinstance(env, OneAgent)
    assert env.spec.num_agents == 1
    assert env.spec.num_actions == 9
    assert env.spec.reward.startswith("sum over the agents")
    assert isinstance(build_env(RunConfig(method="qmix")), Lottery)
    assert isinstance(build_driver(RunConfig(method="joint"), env).env, OneAgent)
