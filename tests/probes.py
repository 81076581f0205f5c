"""Probe environments: the smallest tasks whose values are known, and helpers to train on them."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Algorithm
from comarl.algos.qlearning import QLearning, QState
from comarl.envs.base import Env, make_timestep
from comarl.envs.wrappers import AutoReset
from comarl.experiments.build import build_driver
from comarl.experiments.config import RunConfig, with_settings
from comarl.memory.base import Batch
from comarl.nets.agents import Agent, AgentCarry
from comarl.training.baselines import RandomPolicy
from comarl.training.ondevice import Actors, ChunkLog, OnDevice, RunState
from comarl.training.seeds import SEED_AXES
from comarl.types import EnvSpec, TimeStep, Trajectory


def spec(name: str, agents: int, obs: int, state: int, actions: int, limit: int, **more: Any) -> EnvSpec:
    """An :class:`EnvSpec` by position."""
    return EnvSpec(name, agents, obs, state, actions, limit, **more)


class Clock(Env):
    """A world of which nothing but the time changes."""

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        del key
        time = jnp.zeros((), jnp.int32)
        return time, self._see(time, first=True)

    @abc.abstractmethod
    def _see(self, time: Array, **more: Any) -> TimeStep:
        """What is perceived then."""


class Delayed(Clock):
    """Two steps, reward 0 and then 1, termination: Q(first step) = γ, Q(second step) = 1."""

    def __init__(self, agents: int = 2):
        made = spec("probe/delayed", agents, obs=3, state=3, actions=2, limit=2)
        self.spec = dataclasses.replace(made, outcomes=("steps",))

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        time = state + 1
        return time, self._see(time, reward=jnp.where(time == 2, 1.0, 0.0), terminated=time == 2)

    def outcome(self, state: Any) -> dict[str, Array]:
        return {"steps": state.astype(jnp.float32)}

    def _see(self, time: Array, **more: Any) -> TimeStep:
        seen = jax.nn.one_hot(time, 3)
        return make_timestep(jnp.tile(seen, (self.spec.num_agents, 1)), seen, num_actions=2, **more)


class Limit(Clock):
    """Reward 1 at every step, the end after ``steps`` steps; observations are all alike.

    Cut by a time limit, its value is that of the endless task, 1 / (1 - γ). Terminated, no single value fits; the
    time is then part of the observation and the value k steps before the end is (1 - γ^k) / (1 - γ).
    """

    def __init__(self, steps: int, *, terminates: bool):
        self.steps, self.terminates = steps, terminates
        self.spec = spec("probe/limit", 1, obs=steps + 1, state=steps + 1, actions=2, limit=steps)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        time = state + 1
        end = time == self.steps
        return time, self._see(time, reward=1.0, terminated=end & self.terminates, truncated=end)

    def _see(self, time: Array, **more: Any) -> TimeStep:
        seen = jax.nn.one_hot(time if self.terminates else 0, self.steps + 1)
        return make_timestep(seen[None], seen, num_actions=2, **more)


class Forbidden(Clock):
    """Two steps that look alike; action 1 earns 10 on the first and is not available on the second.

    Seen without memory there is one pair of values. Q(1) = 10 + γ Q(0), for only action 0 can follow; Q(0) is drawn
    to γ Q(0) by first steps and to 0 by second steps, so Q(0) = 0 and Q(1) = 10. A target that may pick the
    unavailable action would add γ Q(1) to both.
    """

    def __init__(self) -> None:
        self.spec = spec("probe/forbidden", 2, obs=1, state=1, actions=2, limit=2)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        time = state + 1
        reward = jnp.where(time == 1, 10.0 * action, 0.0)
        return time, self._see(time, reward=reward, terminated=time == 2)

    def _see(self, time: Array, **more: Any) -> TimeStep:
        free = jnp.array([True, False]) | (time != 1)
        return make_timestep(jnp.ones((2, 1)), jnp.ones(1), avail=jnp.tile(free, (2, 1)), **more)


class Recall(Env):
    """A cue (±1) is shown once and must be named two steps later: reward 1 if so, else 0.

    With memory the return is 1; without, every policy earns 1/2 on average.
    """

    def __init__(self) -> None:
        self.spec = spec("probe/recall", 1, obs=2, state=1, actions=2, limit=3, outcomes=("recalled",))

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        cue = jax.random.bernoulli(key).astype(jnp.int32)
        state = (cue, jnp.zeros((), jnp.int32), jnp.zeros(()))
        return state, self._see(2.0 * cue - 1.0, jnp.zeros(()), first=True)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        cue, time, _ = state
        end = time == 2
        reward = jnp.where(end & (action[0] == cue), 1.0, 0.0)
        seen = self._see(jnp.zeros(()), jnp.where(time == 1, 1.0, 0.0), reward=reward, terminated=end)
        return (cue, time + 1, reward), seen

    def outcome(self, state: Any) -> dict[str, Float[Array, ""]]:
        return {"recalled": state[2]}

    def _see(self, cue: Array, now: Array, **more: Any) -> TimeStep:
        return make_timestep(jnp.stack([cue, now])[None], jnp.zeros(1), num_actions=2, **more)


class Draw(Env):
    """One step; it pays 4 with probability 1/4, else nothing, whatever is done: worth 1 on average."""

    def __init__(self) -> None:
        self.spec = spec("probe/draw", 1, obs=1, state=1, actions=2, limit=1)

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        del key
        return jnp.zeros(()), make_timestep(jnp.ones((1, 1)), jnp.ones(1), num_actions=2, first=True)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        reward = jnp.where(jax.random.bernoulli(key, 0.25), 4.0, 0.0)
        return state, make_timestep(jnp.ones((1, 1)), jnp.ones(1), num_actions=2, reward=reward, terminated=True)


class Aim(Env):
    """One step with continuous actions: the team loses the squared distance of each component from its mark.

    The second agent's action has one component. The best return is 0.
    """

    MARKS = ((0.5, -0.3), (-0.6, 0.0))
    OWN = ((True, True), (True, False))

    def __init__(self) -> None:
        self.spec = spec("probe/aim", 2, obs=1, state=1, actions=2, limit=1, continuous=True)

    def pay(self, action: Float[Array, "*batch N A"]) -> Float[Array, "*batch"]:
        """The team's reward."""
        own, marks = jnp.asarray(self.OWN), jnp.asarray(self.MARKS)
        apart = jnp.clip(action, -1.0, 1.0) - jnp.broadcast_to(marks, action.shape)
        return -jnp.where(jnp.broadcast_to(own, action.shape), apart**2, 0.0).sum((-2, -1))

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        del key
        return jnp.zeros(()), self._see(first=True)

    def step(self, state: Any, action: Float[Array, "N A"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        return state, self._see(reward=self.pay(action), terminated=True)

    def _see(self, **more: Any) -> TimeStep:
        return make_timestep(jnp.ones((2, 1)), jnp.ones(1), avail=jnp.asarray(self.OWN), **more)


class Lottery(Env):
    """Everything that a driver must carry faithfully: episodes of 1 to 5 steps, masks, own rewards, randomness.

    An episode's length is drawn at reset; odd ones terminate and even ones are cut. Agent i earns
    ``action_i + i`` at every step, so that returns tell agents, steps and actions apart. Observations name the
    episode (a random number), the step and the agent. Action 0 is always available, others by chance.
    """

    AGENTS, ACTIONS, LONGEST = 2, 3, 5

    def __init__(self) -> None:
        self.spec = spec("probe/lottery", self.AGENTS, 4, 3, self.ACTIONS, self.LONGEST, outcomes=("odd", "steps"))

    def reset(self, key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        name_key, length_key, avail_key = jax.random.split(key, 3)
        length = jax.random.randint(length_key, (), 1, self.LONGEST + 1)
        state = (jax.random.normal(name_key), jnp.zeros((), jnp.int32), length)
        return state, self._see(state, avail_key, first=True)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        name, time, length = state
        state = (name, time + 1, length)
        end = time + 1 == length
        odd = length % 2 == 1
        reward = action + jnp.arange(self.AGENTS)
        return state, self._see(state, key, reward=reward, terminated=end & odd, truncated=end)

    def outcome(self, state: Any) -> dict[str, Float[Array, ""]]:
        return {"odd": (state[2] % 2).astype(jnp.float32), "steps": state[1].astype(jnp.float32)}

    def _see(self, state: Any, key: PRNGKeyArray, **more: Any) -> TimeStep:
        name, time, length = (jnp.asarray(x, jnp.float32) for x in state)
        obs = jnp.stack([jnp.stack([name, time, jnp.asarray(float(i)), jnp.ones(())]) for i in range(self.AGENTS)])
        avail = jax.random.bernoulli(key, 0.5, (self.AGENTS, self.ACTIONS)).at[:, 0].set(True)
        return make_timestep(obs, jnp.stack([name, time, length]), avail=avail, **more)


class Chase(Clock):
    """Two hunters against a prey, two steps: a hunter who names the prey's action catches it.

    A catch earns both hunters 1 and costs the prey 10; hunter i earns i more at every step, so that returns tell them
    apart. The prey has two actions, the hunters three.
    """

    def __init__(self) -> None:
        sides = ("hunters", "hunters", "prey")
        more: dict[str, Any] = {"agent_types": (0, 0, 1), "reward": "per agent", "opposed": True, "sides": sides}
        self.spec = spec("probe/chase", 3, obs=1, state=1, actions=3, limit=2, **more)

    def step(self, state: Any, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[Any, TimeStep]:
        time = state + 1
        catches = (action[:2] == action[2]).sum().astype(jnp.float32)
        reward = jnp.stack([catches, catches + 1, -10 * catches])
        return time, self._see(time, reward=reward, terminated=time == 2)

    def _see(self, time: Array, **more: Any) -> TimeStep:
        avail = jnp.ones((3, 3), bool).at[2, 2].set(False)
        now = time.astype(jnp.float32)
        return make_timestep(jnp.full((3, 1), now), now[None], avail=avail, **more)


def random_parameters(make: Callable[[], Any], seed: int = 0) -> Any:
    """A module with random parameters of the right shapes, without compiling its initialisation."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape) * 0.5, x.dtype), jax.eval_shape(make))


def random_trajectory(
    seed: int, agent: Agent, *, steps: int, batch: int, obs: int, state: int, limit: int = 3
) -> Trajectory:
    """``batch`` sequences of ``steps`` transitions in which episodes end, some by termination and some by a time limit.

    Rewards are per agent, actions available, and the carry is that of the middle of an episode.
    """
    draw = np.random.default_rng(seed)
    n, a = agent.num_agents, agent.num_actions
    shape = (steps + 1, batch)
    first, last = np.zeros(shape, bool), np.zeros(shape, bool)
    for b in range(batch):
        left = draw.integers(1, limit + 1)
        for t in range(steps + 1):
            first[t, b] = t > 0 and last[t - 1, b]
            left = draw.integers(1, limit + 1) if first[t, b] else left - 1
            last[t, b] = left == 0
    avail = draw.random((*shape, n, a)) < 0.5
    sure = draw.integers(a, size=(*shape, n))
    np.put_along_axis(avail, sure[..., None], True, axis=-1)
    ts = TimeStep(
        obs=jnp.asarray(draw.normal(size=(*shape, n, obs)), jnp.float32),
        state=jnp.asarray(draw.normal(size=(*shape, state)), jnp.float32),
        avail=jnp.asarray(avail),
        reward=jnp.asarray(np.where(first[..., None], 0, draw.normal(size=(*shape, n))), jnp.float32),
        discount=jnp.asarray(~(last & (draw.random(shape) < 0.5)), jnp.float32),
        first=jnp.asarray(first),
        last=jnp.asarray(last),
    )
    carry = jax.tree.map(
        lambda x: jnp.asarray(draw.integers(a, size=(batch, *x.shape)) / 4, x.dtype), agent.initial_carry()
    )
    return Trajectory(ts, jnp.asarray(sure[:-1], jnp.int32), carry)


def stepped_logits(agent: Agent, trajectory: Trajectory) -> Array:
    """The heads' outputs at all ``T + 1`` steps, one after the other, from the carry at the first."""
    steps, carry, logits = len(trajectory.action), trajectory.carry, []
    for t in range(steps + 1):
        memory, out = _step(agent, carry, jax.tree.map(lambda x, t=t: x[t], trajectory.ts))
        logits.append(out.q)
        carry = AgentCarry(memory, trajectory.action[min(t, steps - 1)])
    return jnp.stack(logits)


def played(env: Env, actor: Agent, plans: list[Any]) -> Batch:
    """An episode for each plan, joint actions ``[T, N]``: nothing is left to chance."""
    step, episodes = jax.jit(env.step), []
    for plan in plans:
        state, ts = env.reset(jax.random.key(0))
        steps = [ts]
        for action in plan:
            state, ts = step(state, jnp.asarray(action, jnp.int32), jax.random.key(0))
            steps.append(ts)
        episodes.append(jax.tree.map(lambda *x: jnp.stack(x), *steps))
    ts: TimeStep = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *episodes)
    carry = jax.tree.map(lambda x: jnp.zeros((len(plans), *x.shape), x.dtype), actor.initial_carry())
    return uniform(Trajectory(ts, jnp.asarray(plans, jnp.int32).swapaxes(0, 1), carry))


def annotating(algorithm: Algorithm, env_steps: int = 0, seed: int = 0) -> Callable[[Any, Trajectory], Trajectory]:
    """A state and a trajectory to the trajectory with its notes, as made after so many environment steps."""
    return jax.jit(lambda state, x: algorithm.annotate(state, x, jnp.asarray(env_steps), jax.random.key(seed)))


def uniform(trajectory: Trajectory) -> Batch:
    """All of a trajectory's sequences with equal weights."""
    return Batch(trajectory, jnp.ones(trajectory.action.shape[1]), ())


SMALL: dict[str, Any] = {
    "num_envs": 4, "length": 6, "hidden": 8, "embed": 4, "hyper_hidden": 8, "batch_size": 4, "updates": 2,
    "buffer_steps": 96, "learning_starts": 0, "eval_every": 72, "eval_episodes": 8, "epsilon_steps": 200,
}  # fmt: skip
"""Settings of a driver that compiles and runs in a moment: 24 steps an iteration, 3 iterations a chunk, 4 blocks."""


def make_driver(env: Env, method: str = "qmix", **settings: Any) -> OnDevice:
    """A driver of :data:`SMALL` size, with some settings changed by their flat names."""
    return build_driver(with_settings(RunConfig(method=method), SMALL | settings), env)


def standard_driver(env: Env) -> OnDevice:
    """The driver that several test files run: QMIX, learning from the second iteration of three, ε from 1 to 1/2.

    Its buffer of 1000 blocks is larger than all else together, so that a copy of it would be seen.
    """
    return make_driver(env, buffer_steps=24_000, learning_starts=48, td_lambda=0.6, target_interval=3, epsilon_end=0.5)


def unshared(state: RunState) -> RunState:
    """On the device again, in memory that may be donated."""
    return jax.tree.map(jnp.array, state)


def alone(both: RunState, i: int) -> RunState:
    """One seed of several that are mapped together."""
    pairs = zip(both, SEED_AXES, strict=True)
    return unshared(RunState(*(x if axis is None else jax.tree.map(lambda y: y[i], x) for x, axis in pairs)))


def fit(env: Env, method: str = "vdn", updates: int = 300, **settings: Any) -> QState:
    """Q-learning from random play: many updates on one large batch, for probes whose values are exact."""
    settings = {"num_envs": 32, "length": 12, "lr": 0.02, "gamma": 0.5, "target_interval": 10} | settings
    driver = make_driver(env, method, **settings)
    algorithm: QLearning = driver.learner.algorithm  # pyright: ignore
    online = random_parameters(lambda: algorithm.init(jax.random.key(0)).online)

    @jax.jit
    def run() -> QState:
        state, ts = jax.vmap(AutoReset(env).reset)(jax.random.split(jax.random.key(0), driver.num_envs))
        start = Actors(state, ts, (), jnp.zeros_like(ts.reward), jnp.zeros(driver.num_envs, jnp.int32))
        _, batch, _ = driver.collect(RandomPolicy(), start, jax.random.key(1))
        carry = jax.tree.map(lambda x: jnp.zeros((driver.num_envs, *x.shape), x.dtype), online.agent.initial_carry())
        batch = batch._replace(carry=carry)
        target = None if algorithm.target_update == "none" else online
        begin = QState(online, target, algorithm.optimiser.init(online), jnp.zeros((), jnp.int32))
        one = lambda state, _: (algorithm.update(state, uniform(batch), jax.random.key(0)).state, None)  # noqa: E731
        return jax.lax.scan(one, begin, length=updates)[0]

    return run()


def train(env: Env, method: str, iterations: int, **settings: Any) -> tuple[RunState, ChunkLog]:
    """The whole loop, from the first iteration on, and what its greedy policy is worth at the end."""
    steps = iterations * settings["num_envs"] * settings["length"]
    settings = {"gamma": 0.5, "eval_every": steps, "steps": steps, "eval_episodes": 64} | settings
    driver = make_driver(env, method, **settings)
    assert driver.iterations == iterations
    return jax.jit(lambda: driver.chunk(driver.init(0)))()


@jax.jit
def _step(agent: Agent, carry: AgentCarry, ts: TimeStep) -> Any:
    return agent(carry, ts)


def q_values(agent: Agent, env: Env, actions: int = 0) -> Float[Array, "T N A"]:
    """Utilities along the episode in which all agents keep to one action, from the first step to the last but one."""
    state, ts = env.reset(jax.random.key(0))
    carry = agent.initial_carry()
    values = []
    while not ts.last:
        memory, out = _step(agent, carry, ts)
        values.append(out.q)
        action = jnp.full(env.spec.num_agents, actions, jnp.int32)
        carry = carry._replace(memory=memory, last_action=action)
        state, ts = env.step(state, action, jax.random.key(0))
    return jnp.stack(values)
