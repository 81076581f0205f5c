"""One point of ``scaling.py``, in a process of its own: ``python scaling_point.py METHOD SETTINGS``."""

import json
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import ObservedEnv, make_timestep
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver
from comarl.experiments.config import RunConfig, with_settings
from comarl.experiments.presets import defaults
from comarl.report.speed import Phase, alternate, phase, spread
from comarl.training.ondevice import OnDevice, RunState
from comarl.types import Action, EnvSpec, TimeStep

SIZE, MOVES = 16, 5


class Places(NamedTuple):
    """Where the agents of a crowd are."""

    place: Float[Array, "N 2"]
    step: Int[Array, ""]


class Crowd(ObservedEnv):
    """``N`` agents that walk to the middle, each of which observes as much as in a crowd of any other size.

    In the particle worlds an agent observes all others: observations, and what every method does with them, grow with
    the square of the agents. Here a team's grow as the team does, so what grows faster is the method's own.
    """

    def __init__(self, agents: int, episode: int):
        self.spec = EnvSpec(
            name="crowd",
            num_agents=agents,
            obs_dim=SIZE,
            state_dim=2 * agents,
            num_actions=MOVES,
            max_episode_steps=episode,
            reward="per agent",
        )

    def begin(self, key: PRNGKeyArray) -> Places:
        """Anywhere."""
        return Places(jax.random.uniform(key, (self.spec.num_agents, 2), minval=-1.0), jnp.zeros((), jnp.int32))

    def advance(self, state: Places, action: Action, key: PRNGKeyArray) -> Places:
        """A step to one of four sides, or none."""
        del key
        sides = jnp.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        return Places(state.place + 0.1 * sides[action], state.step + 1)

    def observe(self, state: Places) -> TimeStep:
        """Each agent its own place, in waves of several lengths; the reward is how near it is."""
        waves = state.place[:, :, None] * jnp.arange(1.0, 1.0 + SIZE // 4)
        first = state.step == 0
        return make_timestep(
            jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], axis=-1).reshape(self.spec.num_agents, SIZE),
            state.place.reshape(-1),
            avail=jnp.ones((self.spec.num_agents, MOVES), bool),
            reward=jnp.where(first, 0.0, -jnp.abs(state.place).sum(-1)),
            truncated=state.step >= self.spec.max_episode_steps,
            first=first,
        )


def main(method: str, of: dict[str, int]) -> None:
    """Time an update and an iteration's steps, of all seeds at once, and print them as JSON."""
    prepare()
    phases = phases_of(method, of)
    seconds = alternate({name: part.call for name, part in phases.items()}, of["rounds"])
    operations = (phases["update"].operations or 0.0) / 1e9
    print(json.dumps({name: spread(s) for name, s in seconds.items()} | {"gflop": operations}))


def driver_of(method: str, of: dict[str, int]) -> OnDevice:
    """The method's general settings, on a crowd."""
    iteration = of["environments"] * of["steps"]
    settings: dict[str, Any] = {
        "num_envs": of["environments"],
        "length": of["steps"],
        "hidden": of["width"],
        "learning_starts": 0,
        "steps": iteration,
        "eval_every": iteration,
        "eval_episodes": 1,
    }
    config: RunConfig = defaults(method, "mpe/simple_spread", {})
    # Many iterations of few environments, or few of many: the memory need not hold more than a batch to be timed.
    settings |= {"buffer_steps": 4 * iteration} if config.learner.learner == "replay" else {"minibatches": 1}
    driver = build_driver(with_settings(config, settings), Crowd(of["agents"], of["steps"]))
    assert isinstance(driver, OnDevice)
    return driver


def phases_of(method: str, of: dict[str, int]) -> dict[str, Phase]:
    """The update and the collection of ``of["seeds"]`` runs."""
    driver = driver_of(method, of)
    algorithm, memory = driver.learner.algorithm, driver.learner.memory
    keys, now = jax.random.split(jax.random.key(0), of["seeds"]), jnp.asarray(0)

    def collect(run: RunState, key: PRNGKeyArray) -> Any:
        return driver.collect(algorithm.policy(run.learner, 0), run.actors, key)

    def batch(run: RunState, key: PRNGKeyArray) -> Any:
        trajectory = algorithm.annotate(run.learner, collect(run, key)[1], now, key)
        return memory.sample(memory.add(run.memory, trajectory, now, key), now, now, key)

    runs = jax.jit(jax.vmap(driver.init))(jnp.arange(of["seeds"]))
    batches = jax.jit(jax.vmap(batch))(runs, keys)
    return {
        "update": phase(jax.vmap(algorithm.update), runs.learner, batches, keys),
        "iteration": phase(jax.vmap(collect), runs, keys),
    }


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
