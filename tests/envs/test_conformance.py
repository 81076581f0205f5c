"""The conformance check: a sound environment passes, and each fault is named."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, PRNGKeyArray

from comarl.envs.base import Env, make_timestep
from comarl.envs.conformance import check_env, require_conformance
from comarl.errors import ComarlError
from comarl.types import EnvSpec, TimeStep
from tests.probes import Aim

SPEC = EnvSpec("walk", 2, 3, 1, 2, max_episode_steps=4, agent_types=(0, 1), outcomes=("far",))


class Walk(Env):
    """Sound: the team drifts for 4 steps; ``change`` alters what step returns, ``begin`` what reset returns."""

    def __init__(
        self,
        *,
        step: Callable[[Array, TimeStep], TimeStep] = lambda time, ts: ts,
        reset: Callable[[TimeStep], TimeStep] = lambda ts: ts,
        spec: EnvSpec = SPEC,
    ):
        self.spec, self._step, self._reset = spec, step, reset

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        place = jax.random.normal(key, (2, 3))
        ts = make_timestep(place, place[0, :1], num_actions=2, first=True)
        return (place, jnp.zeros((), jnp.int32)), self._reset(ts)

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        place, time = state
        place, time = place + action[:, None] + jax.random.normal(key, (2, 1)), time + 1
        ts = make_timestep(place, place[0, :1], num_actions=2, reward=place.mean(), terminated=time >= 4)
        return (place, time), self._step(time, ts)

    def outcome(self, state: Any) -> dict[str, Array]:
        return {"far": jnp.abs(state[0]).max()}


def test_a_sound_environment_passes() -> None:
    assert check_env(Walk()) == []
    require_conformance(Walk())


def test_an_episode_may_end_early() -> None:
    assert check_env(Walk(spec=dataclasses.replace(SPEC, max_episode_steps=9))) == []


def at(time: int, **fields: Any) -> Callable[[Array, TimeStep], TimeStep]:
    """Puts these values in place of a time step's, at one time."""

    def change(now: Array, ts: TimeStep) -> TimeStep:
        return ts._replace(**{k: jnp.where(now == time, v, getattr(ts, k)) for k, v in fields.items()})

    return change


def always(**fields: Any) -> Callable[[Array, TimeStep], TimeStep]:
    return lambda time, ts: ts._replace(**fields)


NAN = jnp.full((), jnp.nan)
HALF_STEPS = dataclasses.replace(SPEC)
object.__setattr__(HALF_STEPS, "max_episode_steps", 2.5)  # the test's own type checks would refuse it

STATIC = {
    "num_actions is 0": Walk(spec=dataclasses.replace(SPEC, num_actions=0)),
    "max_episode_steps is 2.5": Walk(spec=HALF_STEPS),
    "agent_types has 3 entries for 2 agents": Walk(spec=dataclasses.replace(SPEC, agent_types=(0, 0, 1))),
    "sides has 1 entries for 2 agents": Walk(spec=dataclasses.replace(SPEC, sides=("us",))),
    "names an outcome twice": Walk(spec=dataclasses.replace(SPEC, outcomes=("far", "far"))),
    "outcome returns ['far'] and spec.outcomes names ['won']": Walk(spec=dataclasses.replace(SPEC, outcomes=("won",))),
    "reset returns obs of shape [2, 3] and dtype float32, and by the spec it is [2, 4]": Walk(
        spec=dataclasses.replace(SPEC, obs_dim=4)
    ),
    "reset returns state of shape [1] and dtype float32, and by the spec it is [2]": Walk(
        spec=dataclasses.replace(SPEC, state_dim=2)
    ),
    "step returns obs of shape [2, 3] and dtype int32": Walk(step=always(obs=jnp.zeros((2, 3), jnp.int32))),
    "step returns avail of shape [2, 2] and dtype float32": Walk(step=always(avail=jnp.ones((2, 2)))),
    "step returns reward of shape [] and dtype float32": Walk(step=always(reward=jnp.zeros(()))),
    "step returns discount of shape [] and dtype bool": Walk(step=always(discount=jnp.array(True))),
    "step returns last of shape [2] and dtype bool": Walk(step=always(last=jnp.zeros(2, bool))),
    "time step at .discount is weak float32[] after reset and float32[] after step": Walk(
        reset=lambda ts: ts._replace(discount=jnp.asarray(1.0))
    ),
}

PLAYED = {
    "obs is not finite": (Walk(step=at(2, obs=NAN)), "step 2"),
    "state is not finite": (Walk(step=at(2, state=NAN)), "step 2"),
    "reward is not finite": (Walk(step=at(3, reward=NAN)), "step 3"),
    "no available action": (Walk(step=at(4, avail=False)), "step 4"),  # the last step counts
    "first is wrong": (Walk(step=at(1, first=True)), "step 1"),
    "first is wrong: reset sets it": (Walk(reset=lambda ts: ts._replace(first=jnp.array(False))), "step 0"),
    "last is set by reset": (Walk(reset=lambda ts: ts._replace(last=jnp.array(True))), "step 0"),
    "discount is neither 0 nor 1": (Walk(step=at(1, discount=0.99)), "step 1"),
    "discount is 0 and last is not set": (Walk(step=at(1, discount=0.0)), "step 1"),
    "reward is not 0 at reset": (Walk(reset=lambda ts: ts._replace(reward=jnp.ones(2))), "step 0"),
    "reward differs between agents": (Walk(step=at(2, reward=jnp.array([1.0, 2.0]))), "step 2"),
    "not ended after spec.max_episode_steps = 4": (Walk(step=always(last=jnp.array(False), discount=jnp.ones(()))), ""),
}


@pytest.mark.parametrize("text", STATIC)
def test_faults_that_shapes_show(text: str) -> None:
    env = STATIC[text]
    problems = check_env(env)
    assert len(problems) == 1 + problems[0].startswith("reset returns")  # step returns the same
    assert text in problems[0]
    with pytest.raises(ComarlError, match="does not keep to the protocol") as error:
        require_conformance(env)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", PLAYED)
def test_faults_that_playing_shows(text: str) -> None:
    env, where = PLAYED[text]
    problems = check_env(env, episodes=2)
    assert len(problems) == 1
    assert text in problems[0]
    assert where in problems[0]
    require_conformance(env)  # shapes do not show it


def test_unequal_rewards_are_sound_where_the_spec_says_so() -> None:
    spec = dataclasses.replace(SPEC, reward="per agent")
    assert check_env(Walk(step=at(2, reward=jnp.array([1.0, 2.0])), spec=spec), episodes=2) == []


class OtherState(Walk):
    def reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        (place, time), ts = super().reset(key)
        return (place, time, ()), ts

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        return super().step(state[:2], action, key)


class OtherDtype(Walk):
    def reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        (place, _), ts = super().reset(key)
        return (place, jnp.zeros(())), ts

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        return super().step((state[0], state[1].astype(jnp.int32)), action, key)


class NoPair(Walk):
    def reset(self, key: PRNGKeyArray) -> Any:
        return super().reset(key)[1]


class Branches(Walk):
    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        if action[0] > 0:  # an array has no truth while it is traced
            key = jax.random.key(0)
        return super().step(state, action, key)


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (OtherState(), "step returns a state of another structure than reset"),
        (OtherDtype(), "the state at [1] is float32[] after reset and int32[] after step"),
        (NoPair(), "reset must return a pair (state, TimeStep), it returns a TimeStep"),
        (Branches(), "step cannot be traced by JAX, it raises TracerBoolConversionError"),
        (Walk(spec=None), "spec must be a comarl.types.EnvSpec, it is a NoneType"),  # type: ignore[arg-type]
    ],
)
def test_faults_of_form(env: Env, text: str) -> None:
    problems = check_env(env)
    assert len(problems) == 1
    assert problems[0].startswith(text)
    with pytest.raises(ComarlError):
        require_conformance(env)


class NumpyNoise(Walk):
    """Draws outside the key."""

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        place, time = state
        return super().step((place + np.float32(np.random.default_rng().normal()), time), action, key)


class Counts(Walk):
    """Keeps the time in Python."""

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        self.count = 0
        return super().reset(key)

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        self.count += 1
        state, ts = super().step(state, action, key)
        return state, ts._replace(obs=ts.obs * self.count)


class KnowsTracing(Walk):
    """Does something else when it is compiled."""

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        scale = 1.0 if isinstance(action, jax.core.Tracer) else 2.0
        state, ts = super().step(state, action, key)
        return state, ts._replace(obs=ts.obs * scale)


class MixesTheBatch(Walk):
    """Calls NumPy on whatever batch there is."""

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        state, ts = super().step(state, action, key)
        shape = jax.ShapeDtypeStruct(ts.obs.shape, ts.obs.dtype)
        obs = jax.pure_callback(lambda x: x - x.mean(), shape, ts.obs, vmap_method="broadcast_all")
        return state, ts._replace(obs=obs)


class LeaksTracers(Walk):
    """Keeps an array in Python."""

    last: Array | None = None

    def step(self, state: Any, action: Array, key: PRNGKeyArray) -> tuple[Any, Any]:
        place, time = state
        before, self.last = self.last, place
        return super().step((place if before is None else before, time), action, key)


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (NumpyNoise(), "step gives another result for the same arguments: draw all randomness from the key"),
        (Counts(), "step gives another result for the same arguments"),
        (KnowsTracing(), "step gives another result under jax.jit"),
        (MixesTheBatch(), "step gives another result under jax.vmap"),
        (LeaksTracers(), "playing an episode raises UnexpectedTracerError"),
    ],
)
def test_faults_of_purity(env: Env, text: str) -> None:
    problems = check_env(env, episodes=2)
    assert len(problems) == 1
    assert problems[0].startswith(text)


def test_the_first_of_several_problems_is_named_and_the_rest_counted() -> None:
    env = Walk(spec=dataclasses.replace(SPEC, obs_dim=4, state_dim=2))
    with pytest.raises(ComarlError, match=r"environment 'walk' .* obs .* \(and 3 more: see 'comarl check-env'\)"):
        require_conformance(env)


class Spoilt(Aim):
    """Continuous actions reach the reward as ``change`` makes them."""

    def __init__(self, change: Callable[[Array], Array], **spec: Any):
        super().__init__()
        self.spec, self._change = dataclasses.replace(self.spec, **spec), change

    def pay(self, action: Array) -> Array:
        return super().pay(self._change(action))


class Unclipped(Aim):
    """Goes as far as it is told to."""

    def pay(self, action: Array) -> Array:
        return -jnp.square(action).sum((-2, -1))


def test_a_sound_environment_with_continuous_actions_passes() -> None:
    assert check_env(Aim()) == []
    require_conformance(Aim())


@pytest.mark.parametrize(
    ("env", "text"),
    [
        # arctanh is infinite at ±1: nothing within shows it.
        (Spoilt(lambda u: jnp.arctanh(jnp.clip(u, -1.0, 1.0)) * 0), "reward is not finite"),
        (Unclipped(), "step does not clip a continuous action to [-1, 1]"),
        (Spoilt(lambda u: u + jnp.arange(3.0)), "step cannot be traced by JAX, it raises"),
    ],
)
def test_faults_with_continuous_actions(env: Env, text: str) -> None:
    problems = check_env(env)
    assert len(problems) == 1
    assert problems[0].startswith(text)
