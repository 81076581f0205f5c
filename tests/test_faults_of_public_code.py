"""Faults found in public code, one test each: none may be made here.

The docstring of a test names its fault. ``make test-faults`` puts each fault back and expects its test to fail.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from comarl.algos.qlearning import Networks, QLearning, epsilon_greedy
from comarl.envs.base import make_timestep
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.build import build_optimiser
from comarl.experiments.config import LearnerConfig, RunConfig, with_settings
from comarl.experiments.scores import episode_scores, score_name
from comarl.mixers.base import MASKED, AbstractMixer, Joint
from comarl.mixers.qatten import Qatten
from comarl.mixers.qtran import QTRANAlt
from comarl.mixers.vdn import VDN
from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.critics import JointValue
from comarl.returns import form_team_reward, td_lambda
from comarl.training import checkpoint
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.ondevice import ChunkLog, RunState
from comarl.training.seeds import SEED_AXES, finished_episodes
from comarl.types import EnvSpec, TimeStep, Trajectory
from tests.probes import Limit, Lottery, alone, random_parameters, random_trajectory, standard_driver, uniform

KEY = jax.random.key(0)

# One agent with two actions, whose utilities are constants, and four transitions: every target is known.
SPEC = EnvSpec("x", 1, 1, 1, 2, 10)
GAMMA = 0.9


def constant(*utilities: float) -> Networks:
    """A team of one whose utilities are these, whatever it sees."""
    agent = jax.eval_shape(lambda: Agent(SPEC, key=KEY, kind="mlp", hidden=1, last_action=False, agent_id=False))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), agent)
    return Networks(eqx.tree_at(lambda a: a.body.module.head.bias, nothing, jnp.array(utilities)), VDN())


def learner(lambda_: float) -> QLearning:
    return QLearning(
        make_agent=lambda _: constant(0, 0).agent,
        make_mixer=lambda _: VDN(),
        optimiser=optax.sgd(1.0),
        epsilon=lambda _: jnp.zeros(()),
        gamma=GAMMA,
        returns=functools.partial(td_lambda, lambda_=lambda_),
    )


LOSS = {lambda_: jax.jit(learner(lambda_).loss) for lambda_ in (0.0, 0.9)}


def four_transitions(
    *,
    discount: Sequence[float] = (1, 1, 1, 1, 1),
    avail: Sequence[Sequence[bool]] = ((True, True),) * 5,
    reward: Sequence[float] = (0, 1, 1, 0, 1),
    action: Sequence[int] = (0, 0, 0, 0),
) -> Trajectory:
    """Two transitions, the end of an episode, the step to the next one, and one more transition."""
    column = lambda x, dtype=jnp.float32: jnp.asarray(x, dtype)[:, None]  # noqa: E731
    ts = TimeStep(
        obs=jnp.zeros((5, 1, 1, 1)),
        state=jnp.zeros((5, 1, 1)),
        avail=jnp.asarray(avail)[:, None, None],
        reward=column(reward)[..., None],
        discount=column(discount),
        first=column([True, False, False, True, False], bool),
        last=column([False, False, True, False, False], bool),
    )
    return Trajectory(ts, column(action, jnp.int32)[..., None], AgentCarry((), jnp.zeros((1, 1), jnp.int32)))


def mean_error(batch: Trajectory, online: Networks, target: Networks, lambda_: float = 0.0) -> float:
    """Mean |Q - y| over the three real transitions."""
    return float(LOSS[lambda_](online, target, uniform(batch))[1][0]["td_error"])


ZERO, TEN = constant(0, 0), constant(10, 10)


def test_time_limit_recorded_as_terminal() -> None:
    """Time-limit recorded as terminal."""
    # Episodes of even length are cut, others terminate; and so the limit probe with and without its flag.
    cut = make_timestep(jnp.zeros((1, 1)), jnp.zeros(1), num_actions=2, truncated=True)
    assert (float(cut.discount), bool(cut.last)) == (1.0, True)
    env = Limit(1, terminates=False)
    _, ts = env.step(env.reset(KEY)[0], jnp.zeros(1, jnp.int32), KEY)
    assert (float(ts.discount), bool(ts.last)) == (1.0, True)
    # Rewards of 1 and values of 10 after each: 1 + .9 · 10 = 10 three times, the cut episode's last step included.
    np.testing.assert_allclose(mean_error(four_transitions(), ZERO, TEN), 10, rtol=1e-5)


def test_value_added_after_termination() -> None:
    """Value added at the last step after true termination."""
    terminated = four_transitions(discount=[1, 1, 0, 1, 1])
    # 10 and 10 as above, and 1 where nothing follows.
    np.testing.assert_allclose(mean_error(terminated, ZERO, TEN), (10 + 1 + 10) / 3, rtol=1e-5)
    # With λ: 1 for the last step; before it 1 + .9 (.1 · 10 + .9 · 1) = 2.71; 10 for the sequence's last.
    np.testing.assert_allclose(mean_error(terminated, ZERO, TEN, 0.9), (2.71 + 1 + 10) / 3, rtol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.9])
def test_auto_reset_boundary_learned_across(lambda_: float) -> None:
    """Auto-reset boundary learned across."""
    poisoned = four_transitions(reward=[0, 1, 1, 1000, 1])
    np.testing.assert_allclose(mean_error(poisoned, ZERO, TEN, lambda_), 10, rtol=1e-5)


def test_masks_missing_in_the_double_q_argmax() -> None:
    """Action masks missing in the double-Q argmax."""
    # The online network likes action 1, which is nowhere available; the target network thinks even more of it.
    batch = four_transitions(avail=[[True, False]] * 5)
    np.testing.assert_allclose(mean_error(batch, constant(0, 50), constant(10, 1000)), 10, rtol=1e-5)


def test_double_q_is_double() -> None:
    """Not in the list, but the argmax of the target network in its place looks just as well."""
    # The online network chooses action 0, which the target network values at 10; it would itself choose 1000.
    error = mean_error(four_transitions(), constant(5, 0), constant(10, 1000))
    np.testing.assert_allclose(error, 10 - 5, rtol=1e-5)


def test_masks_missing_in_epsilon_greedy() -> None:
    """Action masks missing in ε-greedy."""
    avail = jnp.array([[False, True, False], [True, False, True]])
    ts = make_timestep(jnp.zeros((2, 1)), jnp.zeros(1), avail=avail)
    draw = lambda key: epsilon_greedy(jnp.array([1, 0]), ts, jnp.asarray(1.0), key)  # noqa: E731
    actions = jax.vmap(draw)(jax.random.split(KEY, 200))
    assert set(actions[:, 0].tolist()) == {1}
    assert set(actions[:, 1].tolist()) == {0, 2}


class Spy(AbstractMixer):
    """Reports the utilities it is given where no action is available."""

    def __call__(self, joint: Joint) -> Array:
        return jnp.where(joint.ts.avail, 0.0, joint.q).sum()

    def bootstrap(self, joint: Joint) -> Array:
        return self(joint)

    def loss(self, joint: Joint, y: Array) -> Any:
        return y * 0.0, {"td_error": y * 0.0, "given": jnp.where(joint.ts.avail, 0.0, joint.q).sum(), "y": y}


def test_masks_missing_in_qtran_alt() -> None:
    """Action masks missing in QTRAN-alt: no mixer, whatever it does with utilities, is ever given unmasked ones."""
    agent = constant(3, 4).agent
    nets = Networks(agent, Spy())
    batch = four_transitions(avail=[[True, False]] * 5)
    _, (metrics, _, _) = jax.jit(learner(0.0).loss)(nets, nets, uniform(batch))
    assert metrics["given"] == MASKED
    np.testing.assert_allclose(metrics["y"], (1 + 1 + 1) / 3 + GAMMA * MASKED, rtol=1e-5)
    # And QTRAN-alt leaves them out of its least gap, which is that of the other action here: 3 - 0.
    nothing = jax.tree.map(
        lambda x: jnp.zeros(x.shape), jax.eval_shape(lambda: JointValue(1, 2, 1, 1, hidden=1, key=KEY))
    )
    ts = make_timestep(jnp.zeros((1, 1)), jnp.zeros(1), avail=jnp.array([[True, False]]))
    joint = Joint(jnp.array([[3.0, MASKED]]), jnp.zeros(1, jnp.int32), jnp.zeros((1, 1)), ts)
    assert QTRANAlt(nothing, None, 1.0, 1.0).loss(joint, jnp.zeros(()))[1]["nopt_loss"] == 3**2


def test_attention_neither_trained_nor_copied() -> None:
    """Qatten's query and key layers kept in plain dictionaries: never trained, never copied to the target."""
    spec = EnvSpec("x", 2, 3, 4, 2, 10)
    agent = random_parameters(lambda: Agent(spec, key=KEY, kind="mlp", hidden=4))
    mixer = random_parameters(lambda: Qatten(spec, heads=2, embed=4, hyper_hidden=4, key=KEY), 1)
    algorithm = QLearning(
        make_agent=lambda _: agent,
        make_mixer=lambda _: mixer,
        optimiser=optax.sgd(0.1),
        epsilon=lambda _: jnp.zeros(()),
        returns=functools.partial(td_lambda, lambda_=0.0),
        target_interval=1,
    )
    batch = uniform(random_trajectory(0, agent, steps=4, batch=3, obs=3, state=4))
    begin = algorithm.init(KEY)
    end = jax.jit(algorithm.update)(begin, batch, KEY).state
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), begin.online.mixer, end.online.mixer)
    assert all(jax.tree.leaves(differs))
    assert len(jax.tree.leaves(differs.heads)) == 4  # query: weight, bias, weight; key: weight
    jax.tree.map(np.testing.assert_array_equal, end.target, end.online)


def test_next_done_read_from_the_previous_dones() -> None:
    """The "next done" read from the array of previous dones."""
    # Termination on arriving at the third step: a matter of the second transition, not of the one after it.
    after = four_transitions(discount=[1, 1, 0, 1, 1])
    np.testing.assert_allclose(mean_error(after, ZERO, TEN), (10 + 1 + 10) / 3, rtol=1e-5)
    # The first step's own discount belongs to what came before and matters to nothing here.
    before = four_transitions(discount=[0, 1, 1, 0, 1])
    np.testing.assert_allclose(mean_error(before, ZERO, TEN), 10, rtol=1e-5)


# Recurrent agents: as many steps as agents as sequences, so that no swap of axes would show in a shape.
RECURRENT = random_parameters(lambda: Agent(EnvSpec("x", 3, 4, 1, 2, 10), key=KEY, hidden=5))
STEPS = TimeStep(
    obs=jax.random.normal(KEY, (3, 3, 3, 4)),
    state=jnp.zeros((3, 3, 1)),
    avail=jnp.ones((3, 3, 3, 2), bool),
    reward=jnp.zeros((3, 3, 3)),
    discount=jnp.ones((3, 3)),
    first=jnp.array([[True, False, False], [False, True, False], [False, False, True]]),
    last=jnp.zeros((3, 3), bool),
)
ACTIONS = jnp.arange(18).reshape(2, 3, 3) % 2


def carries(fill: float) -> AgentCarry:
    """In the middle of an episode: what is remembered and what was done last."""
    return AgentCarry(jnp.full((3, 3, 5), fill), jnp.full((3, 3), int(fill > 0)))


unroll = jax.jit(lambda carry: RECURRENT.unroll(carry, STEPS, ACTIONS)[1].q)
step = jax.jit(lambda carry, t: RECURRENT(carry, jax.tree.map(lambda x: x[t], STEPS)))


def test_recurrent_state_not_reset() -> None:
    """Recurrent state not reset."""
    # [T, B]: from its first step on, each sequence forgets.
    same = np.isclose(unroll(carries(0.7)), unroll(carries(-0.7))).all((-1, -2))
    np.testing.assert_array_equal(same, [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    # And when acting, step by step, the same.
    acted = [step(carries(x), 0)[1].q for x in (0.7, -0.7)]
    np.testing.assert_array_equal(np.isclose(*acted).all((-1, -2)), [1, 0, 0])


def test_time_and_agent_axes_swapped() -> None:
    """Time and agent axes swapped in a reshape."""
    carry, unrolled = carries(0.7), unroll(carries(0.7))
    for t in range(3):
        memory, out = step(carry, t)
        np.testing.assert_allclose(unrolled[t], out.q, rtol=1e-4, atol=1e-6)
        carry = AgentCarry(memory, ACTIONS[min(t, 1)])


# The whole loop: two seeds begin, one of them runs for two chunks of three iterations. See Lottery for the numbers.


def begin_two_seeds() -> RunState:
    init = jax.vmap(standard_driver(Lottery()).init, out_axes=SEED_AXES)
    return jax.device_get(jax.jit(init)(jnp.array([3, 4])))


@pytest.fixture(scope="module")
def begin() -> RunState:
    return begin_two_seeds()


@pytest.fixture(scope="module")
def chunk() -> Any:
    return jax.jit(standard_driver(Lottery()).chunk, donate_argnums=0)


Chunks = list[tuple[RunState, ChunkLog]]


@pytest.fixture(scope="module")
def chunks(begin: RunState, chunk: Any) -> Chunks:
    state, done = alone(begin, 0), []
    for _ in range(2):
        state, log = chunk(state)
        done.append(jax.device_get((state, log)))
    return done


def collected(chunks: Chunks) -> tuple[TimeStep, np.ndarray]:
    """Time steps ``[iterations, T + 1, B, ...]`` and actions ``[iterations, T, B, N]``."""
    memory = chunks[1][0].memory.data
    return jax.tree.map(lambda x: x[:6], memory.ts), memory.action[:6]


def test_last_reward_lost(chunks: Chunks) -> None:
    """Last reward lost because the environment's agent list is empty at episode end."""
    ts, action = collected(chunks)
    last = ts.last[:, 1:]
    np.testing.assert_array_equal(ts.reward[:, 1:][last], (action + np.arange(2))[last])
    # Agent 1 earns at least 1 at every step, the last included.
    episodes = finished_episodes(chunks[1][1])
    evaluation = chunks[1][1].evaluation
    assert (episodes["returns"][:, 1] >= episodes["length"]).all()
    assert (evaluation.returns[:, 1] >= evaluation.length).all()
    assert 1 in episodes["length"]
    # And it is learned from: 1 for the step that terminates, see test_value_added_after_termination.
    richer = four_transitions(discount=[1, 1, 0, 1, 1], reward=[0, 1, 7, 0, 1])
    np.testing.assert_allclose(mean_error(richer, ZERO, TEN), (10 + 7 + 10) / 3, rtol=1e-5)


def test_vmapped_seeds_sharing_one_initialisation(begin: RunState) -> None:
    """Vmapped seeds sharing one initialisation."""
    assert all((leaf[0] != leaf[1]).all() for leaf in jax.tree.leaves(begin.learner.online))


def two_rmsprop_steps() -> np.ndarray:
    """The second step for gradients (3, 4) and then (30, 40), clipped to 10."""
    optimiser = build_optimiser(LearnerConfig(optimiser="rmsprop", lr=1.0, grad_clip=10.0))
    state = optimiser.init(jnp.zeros(2))
    _, state = optimiser.update(jnp.array([3.0, 4.0]), state)
    return np.asarray(optimiser.update(jnp.array([30.0, 40.0]), state)[0])


def test_elementwise_clipping() -> None:
    """Elementwise clipping in place of global norm."""
    # The norm is 50: (30, 40) becomes (6, 8), which are then divided by √(.99 · .01 · 3² + .01 · 6²) = .6701 and
    # √(.99 · .01 · 4² + .01 · 8²) = .8935. Clipped by element, (10, 10) would give -9.58 and -9.29.
    np.testing.assert_allclose(two_rmsprop_steps(), [-8.953, -8.953], rtol=1e-3)


def test_clipping_after_the_optimiser() -> None:
    """Clipping after the optimiser."""
    # As above. Clipped afterwards, (-9.95, -9.95) of norm 14.07 would give -7.07 and -7.07.
    np.testing.assert_allclose(two_rmsprop_steps(), [-8.953, -8.953], rtol=1e-3)


def test_target_network_initialised_from_another_key(begin: RunState) -> None:
    """Target network initialised from another key."""
    jax.tree.map(np.testing.assert_array_equal, begin.learner.target, begin.learner.online)


def test_evaluation_sampling_in_place_of_greedy(chunks: Chunks) -> None:
    """Evaluation sampling in place of greedy."""
    state, log = chunks[1]
    env, algorithm = Lottery(), standard_driver(Lottery()).learner.algorithm
    policy = algorithm.policy(jax.tree.map(jnp.asarray, state.learner), 0)

    class Greedy:
        initial_carry = policy.initial_carry

        def act(self, carry: Any, ts: TimeStep, key: Array, explore: bool) -> tuple[Any, Array]:
            memory, out = policy.agent(carry, ts)
            action = jnp.argmax(jnp.where(ts.avail, out.q, -jnp.inf), axis=-1).astype(jnp.int32)
            return AgentCarry(memory, action), action

    by_hand = jax.jit(lambda: play(env, Greedy(), evaluation_keys(8)))()
    jax.tree.map(np.testing.assert_array_equal, log.evaluation, by_hand)


def test_padding_in_reward_statistics(chunks: Chunks) -> None:
    """Padding in reward statistics: what stands on the step from one episode to the next enters no number."""
    plain, poisoned = four_transitions(), four_transitions(reward=[0, 1, 1, 1e6, 1], action=[0, 0, 1, 0])
    liked = constant(0, 99)  # the action on the last step, if it counted
    for a, b in zip(
        jax.tree.leaves(LOSS[0.0](liked, TEN, uniform(plain))),
        jax.tree.leaves(LOSS[0.0](liked, TEN, uniform(poisoned))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    # The mean is over the three real transitions, not over four.
    np.testing.assert_allclose(mean_error(plain, ZERO, TEN), 10, rtol=1e-5)
    ts, _ = collected(chunks)
    np.testing.assert_array_equal(ts.reward[ts.first], 0)


def test_first_observation_after_an_auto_reset_blanked(chunks: Chunks) -> None:
    """The first observation after an auto-reset blanked because the agent is still flagged done."""
    ts, _ = collected(chunks)
    first = ts.obs[ts.first]  # (name, step, agent, 1)
    assert len(first) > 20
    assert (first[..., 0] != 0).all()
    np.testing.assert_array_equal(first[..., 1:], np.tile([[0, 0, 1], [0, 1, 1]], (len(first), 1, 1)))


def test_terminal_observations_thrown_away(chunks: Chunks) -> None:
    """Terminal observations thrown away."""
    ts, _ = collected(chunks)
    last, length = ts.obs[ts.last], ts.state[ts.last][:, 2]
    assert len(last) > 20
    np.testing.assert_array_equal(last[:, 0, 1], length)  # the step counter has reached the episode's length
    np.testing.assert_array_equal(last[..., 3], 1)


def test_training_metrics_averaged_over_stale_values(chunks: Chunks) -> None:
    """Training metrics averaged over stale values (random play shown as -58 when it is -72)."""
    ts, _ = collected(chunks)
    # Each chunk reports the episodes that ended in it, once each, and no other step's numbers.
    for k, (_, log) in enumerate(chunks):
        ended = ts.last[3 * k : 3 * k + 3, 1:]
        episodes = finished_episodes(log)
        assert len(episodes["length"]) == ended.sum()
        np.testing.assert_array_equal(episodes["length"], ts.state[3 * k : 3 * k + 3, 1:][ended][:, 2])
    # Before learning starts there is no loss to report, rather than an old or a zero one.
    for values in chunks[0][1].metrics.values():
        np.testing.assert_array_equal(np.isnan(values), [True, False, False])


def drawn_lengths(episodes: int) -> list[int]:
    """The lengths of the evaluation's episodes, as the environment draws them at reset."""
    begin_keys = [jax.random.split(key)[0] for key in evaluation_keys(episodes)]
    return [int(Lottery().reset(key)[0][2]) for key in begin_keys]


def test_evaluation_favours_short_episodes(chunks: Chunks) -> None:
    """Evaluation that counts only episodes ending inside a fixed window and so favours short ones."""
    lengths = drawn_lengths(8)
    assert max(lengths) == Lottery.LONGEST
    np.testing.assert_array_equal(chunks[0][1].evaluation.length, lengths)


def test_win_rate_above_one(chunks: Chunks) -> None:
    """Win rates above 100% because the divisor is not the number of episodes run."""
    for _, log in chunks:
        won = log.evaluation.outcome["odd"]
        assert won.shape == (8,)
        np.testing.assert_array_equal(won, np.array(drawn_lengths(8)) % 2)
        episodes = finished_episodes(log)
        assert len(episodes["odd"]) == log.finished.ended.sum()
        np.testing.assert_array_equal(episodes["odd"], episodes["length"] % 2)


@pytest.mark.parametrize(
    "name", ["sma", "xsmax/3m", "smax/3", "smax/3m2", "smax/xx3m", "my-smax/3m", "smax3m", "SMAX/3m"]
)
def test_environment_chosen_by_a_substring(name: str) -> None:
    """Environment chosen by a substring of its name."""
    with pytest.raises(ComarlError, match="unknown"):
        make_env(name)


def test_same_seed_different_result(begin: RunState, chunk: Any, chunks: Chunks) -> None:
    """Same seed, different result."""
    again = begin_two_seeds()
    jax.tree.map(np.testing.assert_array_equal, again, begin)
    traced_again = jax.jit(standard_driver(Lottery()).chunk, donate_argnums=0)
    for program in (chunk, traced_again):
        state = alone(again, 0)
        for before, log_before in chunks:
            state, log = program(state)
            jax.tree.map(np.testing.assert_array_equal, log, log_before)
            jax.tree.map(np.testing.assert_array_equal, state, before)


# "Resume" that restores weights alone: no optimiser, targets, buffer, ε, RNG.


def learner_without(state: RunState, **parts: Any) -> RunState:
    return state._replace(learner=state.learner._replace(**parts))


def blank(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


FORGET: dict[str, Any] = {
    "weights": lambda s: learner_without(s, online=s.learner.target),
    "optimiser": lambda s: learner_without(s, optimiser=blank(s.learner.optimiser)),
    "targets": lambda s: learner_without(s, target=s.learner.online),
    "buffer": lambda s: s._replace(memory=blank(s.memory)),
    "epsilon": lambda s: s._replace(iteration=blank(s.iteration)),
    "rng": lambda s: s._replace(seed=s.seed + 1),
    "actors": lambda s: s._replace(actors=blank(s.actors)),
}


@pytest.fixture(scope="module")
def resumed(chunks: Chunks, tmp_path_factory: pytest.TempPathFactory) -> RunState:
    """The state after the first chunk, written and read again."""
    folder: Path = tmp_path_factory.mktemp("run") / "state"
    state = jax.tree.map(jnp.array, chunks[0][0])
    checkpoint.save(folder, state)
    return jax.device_get(checkpoint.load(folder, jax.eval_shape(lambda: state)))


@pytest.mark.parametrize("part", FORGET)
def test_resume_that_restores_weights_alone(part: str, chunk: Any, chunks: Chunks, resumed: RunState) -> None:
    """A "resume" that restores weights alone: no optimiser, targets, buffer, ε, RNG."""
    as_saved = jax.tree.map(jnp.array, resumed)
    forgetful = jax.tree.map(jnp.array, FORGET[part](as_saved))
    unbroken, unbroken_log = chunks[1]
    state, log = chunk(as_saved)
    jax.tree.map(np.testing.assert_array_equal, (state, log), (unbroken, unbroken_log))
    # The part matters: without it, another run follows.
    without, _ = chunk(forgetful)
    parameters = zip(jax.tree.leaves(without.learner.online), jax.tree.leaves(unbroken.learner.online), strict=True)
    assert any((a != b).any() for a, b in parameters)


def test_epsilon_goes_on_where_it_was(chunks: Chunks, resumed: RunState) -> None:
    """A "resume" that restores weights alone, for ε: it follows from the iteration, which is part of the state."""
    driver = standard_driver(Lottery())
    steps = int(resumed.iteration) * driver.steps_per_iteration
    assert steps == 72
    # From 1 to 1/2 over 200 steps: 1 - 72 / 400.
    np.testing.assert_allclose(driver.learner.algorithm.policy(resumed.learner, steps).epsilon, 0.82, rtol=1e-6)


class Idle:
    """Action 0 for all, which earns agent i a reward of i."""

    def initial_carry(self) -> tuple[()]:
        return ()

    def act(self, carry: tuple[()], ts: TimeStep, key: Array, explore: bool) -> tuple[tuple[()], Array]:
        return carry, jnp.zeros(2, jnp.int32)


def test_scores_divided_or_summed_without_saying_so(chunks: Chunks) -> None:
    """Scores divided by, or summed over, agents without saying so."""
    ts, _ = collected(chunks)
    # Raw returns are each agent's own rewards, added up over its episode and over nothing else.
    episodes = finished_episodes(chunks[0][1])
    one_step = episodes["length"] == 1
    ended = ts.last[:3, 1:] & (ts.state[:3, 1:, :, 2] == 1)
    np.testing.assert_array_equal(episodes["returns"][one_step], ts.reward[:3, 1:][ended])
    idle = jax.jit(lambda: play(Lottery(), Idle(), evaluation_keys(8)))()
    np.testing.assert_array_equal(idle.returns, np.array(drawn_lengths(8))[:, None] * [0, 1])
    # What is made of them is a setting, is what the setting says, and is printed beside the score.
    reward = jnp.array([1.0, 3.0])
    assert [form_team_reward(reward, how).tolist() for how in ("mean", "sum", "individual")] == [2, 4, [1, 3]]
    for how, score in (("mean", 2), ("sum", 4)):
        config = with_settings(RunConfig(), {"team_reward": how})
        assert episode_scores(config, np.array([[1.0, 3.0]]), {}) == [score]
        assert f"{how} over the agents" in score_name(config, ())
