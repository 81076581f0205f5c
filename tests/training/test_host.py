"""The host driver: with an environment written in JAX it is the on-device driver, bit for bit; faults cut episodes."""

import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

from comarl.envs.adapters.stepped import SteppedEnvs
from comarl.envs.base import Env, Hosted, HostEnv, make_timestep
from comarl.envs.processes import PythonEnvs
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.build import build_driver
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig, with_settings
from comarl.training.baselines import RandomPolicy
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.host import HostDriver, HostSeeds
from comarl.training.players import HostPlayer, record_once
from comarl.types import TimeStep
from tests.probes import SMALL, Lottery, make_driver, spec

METHODS: dict[str, dict[str, Any]] = {
    "qmix": {"learning_starts": 48, "cell": "mlp"},
    "qmix gru": {"learning_starts": 48},
    "qmix pqn": {"learner": "pqn", "layer_norm": True, "minibatches": 2},
    "mappo": {"learner": "ppo", "minibatches": 2},
}
"""Method and settings; all but the first take long to compile."""


class Drift(Env):
    """Three agents pushed over a plane, with products, sums, roots and tanhs to round: episodes of 2 to 5 steps."""

    def __init__(self) -> None:
        self.spec = spec("probe/drift", 3, obs=6, state=7, actions=4, limit=5, reward="per agent", outcomes=("far",))

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        place_key, length_key = jax.random.split(key)
        state = (jax.random.normal(place_key, (3, 2)), jnp.zeros((3, 2)), jax.random.randint(length_key, (), 2, 6))
        return (*state, jnp.zeros((), jnp.int32)), self._see(*state[:2], first=True)

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        place, speed, length, time = state
        push = jnp.stack([jnp.cos(action * 1.57), jnp.sin(action * 1.57)], -1) + 0.1 * jax.random.normal(key, (3, 2))
        speed = 0.75 * speed + 0.1 * push
        place = place + 0.1 * speed
        far = jnp.sqrt((place**2).sum(-1))
        end = time + 1 == length
        seen = self._see(place, speed, reward=-far, terminated=end & (length % 2 == 1), truncated=end)
        return (place, speed, length, time + 1), seen

    def outcome(self, state: Any) -> dict[str, Float[Array, ""]]:
        return {"far": jnp.tanh(state[0]).sum()}

    def _see(self, place: Array, speed: Array, **more: Any) -> TimeStep:
        mean = jnp.broadcast_to(place.mean(0), place.shape)
        obs = jnp.concatenate([place - mean, speed * 3.0, jnp.tanh(place)], -1)
        return make_timestep(obs, jnp.append(place.ravel(), speed.sum()), num_actions=4, **more)


def host_driver(env: Hosted, method: str = "qmix", **settings: Any) -> HostDriver:
    """A driver of the size of :func:`tests.probes.make_driver`."""
    return build_driver(with_settings(RunConfig(method=method), SMALL | settings), env)


def assert_same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", ["qmix", *(pytest.param(n, marks=pytest.mark.paper) for n in list(METHODS)[1:])])
def test_both_drivers_give_the_same_bits(name: str) -> None:
    """Parameters, memory, logs and evaluations of two chunks, which is six iterations."""
    settings = METHODS[name]
    env, method = Drift(), name.split(maxsplit=1)[0]
    device = make_driver(env, method, **settings)
    host = host_driver(SteppedEnvs(env), method, **settings)
    chunk = jax.jit(device.chunk, donate_argnums=0)
    on_device, on_host = jax.jit(device.init)(5), host.init(5)
    start = jax.device_get(on_device.learner[0])  # the networks that learn
    for _ in range(2):
        on_device, device_log = chunk(on_device)
        on_host, host_log = host.chunk(on_host)
        assert_same(on_device.learner, on_host.learner)
        assert_same(on_device.memory, on_host.memory)
        assert_same(on_device.actors._replace(env=()), on_host.actors._replace(env=()))
        assert_same(device_log, host_log)
    end = jax.device_get(on_host.learner[0])
    moved = jax.tree.map(lambda x, y: (np.asarray(x) != np.asarray(y)).any(), start, end)
    assert np.mean(jax.tree.leaves(moved)) > 0.9


# A Python environment.


@pytest.fixture(scope="module")
def diary() -> Iterator[HostDriver]:
    driver = host_driver(_python("Diary", 2), cell="mlp", eval_every=48)
    yield driver
    driver.close()


def test_a_run_goes_on_from_a_copied_state_bit_for_bit(diary: HostDriver) -> None:
    """Elsewhere, and with another number of processes: the environments play their episodes up to there again."""
    run, _ = diary.chunk(diary.init(3))
    saved = jax.device_get(run)
    then, log = diary.chunk(run)
    elsewhere = host_driver(_python("Diary", 0), cell="mlp", eval_every=48)
    again, other_log = elsewhere.chunk(jax.tree.map(jnp.array, saved))
    assert_same(then, again)
    assert_same(log, other_log)
    assert (saved.actors.length > 0).any()
    elsewhere.close()


def test_what_is_collected_is_what_happened(diary: HostDriver) -> None:
    run, log = diary.chunk(diary.init(1))
    data: Any = jax.device_get(run.memory.data)
    ts = jax.tree.map(lambda x: x[:2], data.ts)  # two iterations
    assert_same(jax.tree.map(lambda x: x[0, -1], ts), jax.tree.map(lambda x: x[1, 0], ts))
    first, last, time = ts.first[:, 1:], ts.last, ts.state[..., 1]
    np.testing.assert_array_equal(first, last[:, :-1])
    np.testing.assert_array_equal(time[:, 1:], np.where(first, 0, time[:, :-1] + 1))
    shown = ts.obs[:, 1:, :, :, 2]  # the last action
    np.testing.assert_array_equal(np.where(first[..., None], 0, data.action[:2]), shown)
    earned = np.where(first[..., None], 0, data.action[:2] + np.arange(2))
    np.testing.assert_array_equal(ts.reward[:, 1:], earned)
    np.testing.assert_array_equal(
        log.finished.outcome["steps"][log.finished.ended], log.finished.length[log.finished.ended]
    )
    assert log.finished.ended.sum() > 5
    assert (np.asarray(log.faults.dropped_episodes) == 0).all()


def test_nothing_is_learned_across_a_cut() -> None:
    """The step before a cut ends its episode as a time limit does; the episode is counted as dropped, not finished."""
    driver = host_driver(_python("raising", 0), cell="mlp", eval_every=120)
    run, log = driver.chunk(driver.init(0))
    data: Any = jax.device_get(run.memory.data)
    ts = jax.tree.map(lambda x: x[:4], data.ts)
    time, length = ts.state[..., 1], ts.state[..., 2]
    np.testing.assert_array_equal(ts.first[:, 1:], ts.last[:, :-1])
    cut = ts.last[:, :-1] & (time != length)[:, :-1]
    assert cut.sum() >= 2
    assert (ts.discount[:, :-1][cut] == 1).all()
    dropped = int(np.sum(log.faults.dropped_episodes))
    assert dropped >= cut.sum()
    assert (log.finished.length[log.finished.ended] == log.finished.outcome["steps"][log.finished.ended]).all()
    driver.close()


def test_seeds_are_what_they_are_alone(diary: HostDriver) -> None:
    driver = host_driver(_python("Diary", 0), cell="mlp", eval_every=48)
    programs = HostSeeds(driver, [1, 2])
    logs = {(seed, chunk): log for seed, chunk, log, _ in programs.run(2)}
    assert sorted(logs) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    run = diary.init(2)
    for chunk in range(2):
        run, log = diary.chunk(run)
        assert_same(log, logs[2, chunk])
    assert_same(programs.state(2).learner, run.learner)


# Asynchronously.


def test_collecting_does_not_wait_for_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second iteration is collected before the first update has come to its end; all are learned from, in order."""
    driver = host_driver(_python("Diary", 0), cell="mlp", eval_every=96, asynchronous=True)
    learn, collect, begun, learned = driver._learn, driver.collect, threading.Semaphore(0), []

    def slow_learn(*now: Any) -> Any:
        assert begun.acquire(timeout=60)
        learned.append(int(now[3]))
        return learn(*now)

    def told_collect(*now: Any) -> Any:
        if told_collect.calls:
            begun.release()
        told_collect.calls += 1
        if told_collect.calls == driver.iterations:
            begun.release()
        return collect(*now)

    told_collect.calls = 0  # pyright: ignore[reportFunctionMemberAccess]
    monkeypatch.setattr(driver, "_learn", slow_learn)
    monkeypatch.setattr(driver, "collect", told_collect)
    run, log = driver.chunk(driver.init(3))
    assert learned == [0, 1, 2, 3]
    assert int(run.iteration) == 4
    assert np.isfinite(log.metrics["loss"]).all()
    ts: Any = jax.device_get(run.memory.data.ts)
    assert_same(jax.tree.map(lambda x: x[:3, -1], ts), jax.tree.map(lambda x: x[1:4, 0], ts))
    driver.close()


def test_an_error_of_the_actor_reaches_the_learner() -> None:
    driver = host_driver(_python("Stuck", 0), cell="mlp", eval_every=96, asynchronous=True)
    threads = threading.active_count()
    with pytest.raises(ComarlError, match="the door is stuck"):
        driver.chunk(driver.init(3))
    assert threading.active_count() == threads


def test_who_cannot_be_asynchronous() -> None:
    with pytest.raises(ComarlError, match="asynchronous=True: ppo learns from what its latest policy did"):
        check(with_settings(RunConfig(method="mappo"), {"asynchronous": True, "learner": "ppo"}))
    with pytest.raises(ComarlError, match="probe/lottery is compiled together with the learner"):
        make_driver(Lottery(), asynchronous=True)


# Evaluation.


@pytest.mark.parametrize("at_once", [2, 7])
def test_episodes_are_those_of_the_device(at_once: int) -> None:
    """Whichever environment plays them: seven episodes, in two environments or in seven."""
    envs = SteppedEnvs(Lottery())
    envs.at_once = at_once
    expected = jax.jit(lambda: play(Lottery(), RandomPolicy(), evaluation_keys(7)))()
    assert_same(HostPlayer(envs, 7)(RandomPolicy()), expected)


def test_a_recorded_episode_is_the_one_that_is_played() -> None:
    """In JAX and stepped by Python: the same moments, with the policy's carry and action at each."""
    inside, outcome = record_once(Lottery(), RandomPolicy(), 2)
    outside, other_outcome = record_once(SteppedEnvs(Lottery()), RandomPolicy(), 2)
    assert_same([moment._replace(state=()) for moment in inside], outside)
    assert outcome == other_outcome
    played = HostPlayer(SteppedEnvs(Lottery()), 3)(RandomPolicy())
    assert_same(outside[-1].returns, played.returns[2])
    assert outcome == {name: x[2] for name, x in played.outcome.items()}


def test_a_recorded_episode_is_recorded_anew_where_the_environment_fails() -> None:
    for episode in range(8):
        moments, outcome = record_once(_python("raising", 0), RandomPolicy(), episode)
        assert [bool(moment.ts.first) for moment in moments] == [True] + [False] * (len(moments) - 1)
        assert outcome == {"steps": len(moments) - 1}


def test_an_episode_in_which_the_environment_fails_is_played_again() -> None:
    player = HostPlayer(_python("raising", 0), 40)
    episodes = player(RandomPolicy())
    np.testing.assert_array_equal(episodes.outcome["steps"], episodes.length)
    assert ((episodes.length >= 2) & (episodes.length <= 6)).all()
    running: HostEnv | None = player._running
    assert running is not None
    assert running.dropped > 0


def _python(function: str, workers: int) -> PythonEnvs:
    envs = make_env(f"tests.envs.python_envs:{function}", workers)
    assert isinstance(envs, PythonEnvs)
    return envs


@pytest.mark.parametrize("sharing", [pytest.param("shared", marks=pytest.mark.paper), "agent", "type"])
def test_agents_of_three_kinds_train(sharing: str) -> None:
    """Three sizes of observations and actions, and agents who come and go."""
    envs = make_env("tests.envs.adapters.test_pettingzoo:Relay", workers=0)
    assert isinstance(envs, PythonEnvs)
    driver = host_driver(envs, "vdn", sharing=sharing, cell="mlp", eval_every=48)
    start = driver.init(0)
    before = jax.device_get(start.learner.online)
    run, log = driver.chunk(start)
    assert np.isfinite(log.metrics["loss"]).all()
    np.testing.assert_array_equal(log.evaluation.returns, np.tile([2, 8, 9], (8, 1)))
    moved = jax.tree.map(lambda x, y: (x != np.asarray(y)).any(), before, run.learner.online)
    assert all(jax.tree.leaves(moved))
    driver.close()
