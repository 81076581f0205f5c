"""Environments made from environments."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, ObservedEnv, State, select
from comarl.envs.scene import Scene
from comarl.errors import ComarlError
from comarl.returns import TeamReward, form_team_reward
from comarl.types import Action, EnvSpec, TimeStep

MAX_JOINT_ACTIONS = 4096


class AutoReset(Env):
    """Starts the next episode on the step after ``last``; the action given there is ignored.

    The last observation of an episode is thus seen once and stored once, and the transition from it to the
    next episode's first step is the only one that must be masked (``ts.last[t]``).
    """

    def __init__(self, env: Env):
        self.env = env
        self.spec: EnvSpec = env.spec

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.reset(key)
        return (state, ts.last), ts

    def step(self, state: State, action: Action, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        inner, over = state
        if isinstance(self.env, ObservedEnv):
            inner = select(over, self.env.begin(key), self.env.advance(inner, action, key))
            ts = self.env.observe(inner)
        else:
            inner, ts = select(over, self.env.reset(key), self.env.step(inner, action, key))
        return (inner, ts.last), ts

    def outcome(self, state: State) -> dict[str, Float[Array, ""]]:
        return self.env.outcome(state[0])

    def heuristics(self) -> dict[str, Any]:
        return self.env.heuristics()

    def scene(self, state: State) -> Scene | None:
        return self.env.scene(state[0])


class OneAgent(Env):
    """The team as one agent that sees everything and picks the joint action.

    Its observation is the state beside the joined observations, its action an index into all ``A**N`` joint
    actions (the first agent's action varies slowest), its reward the agents' formed into one by ``team_reward``.
    A Q-learner on it is the central joint Q, the upper reference for every factorised method.

    Raises:
        ComarlError: if there are more than ``MAX_JOINT_ACTIONS`` joint actions, or if ``team_reward`` is individual.
    """

    def __init__(self, env: Env, team_reward: TeamReward = "mean"):
        spec = env.spec
        if team_reward == "individual":
            raise ComarlError("method 'joint' learns one value for the team: set the team reward to 'mean' or 'sum'")
        size = spec.num_actions**spec.num_agents
        if size > MAX_JOINT_ACTIONS:
            raise ComarlError(
                f"method 'joint' needs one value per joint action and {spec.name} has {spec.num_actions}^"
                f"{spec.num_agents} of them (limit {MAX_JOINT_ACTIONS}): use a factorised method such as 'qmix'"
            )
        self.env = env
        self.team_reward: TeamReward = team_reward
        self.joint_actions = np.array(list(itertools.product(range(spec.num_actions), repeat=spec.num_agents)))
        self.spec = EnvSpec(
            name=spec.name,
            num_agents=1,
            obs_dim=spec.state_dim + spec.num_agents * spec.obs_dim,
            state_dim=spec.state_dim,
            num_actions=size,
            max_episode_steps=spec.max_episode_steps,
            outcomes=spec.outcomes,
            reward=f"{team_reward} over the agents ({spec.reward})",
        )

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.reset(key)
        return state, self.joined(ts)

    def step(self, state: State, action: Int[Array, " 1"], key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.step(state, jnp.asarray(self.joint_actions)[action[0]], key)
        return state, self.joined(ts)

    def outcome(self, state: State) -> dict[str, Float[Array, ""]]:
        return self.env.outcome(state)

    def joined(self, ts: TimeStep) -> TimeStep:
        """The team's time step as the one agent perceives it."""
        agents = np.arange(self.env.spec.num_agents)
        avail = ts.avail[agents, self.joint_actions].all(-1)
        obs = jnp.concatenate([ts.state, ts.obs.reshape(-1)])
        return ts._replace(obs=obs[None], avail=avail[None], reward=form_team_reward(ts.reward, self.team_reward)[None])


class Unjoined:
    """A policy of :class:`OneAgent` as its team's: perceives what the team does, and gives its joint action.

    Args:
        env: the environment that the policy was made for.
        policy: its policy (:class:`comarl.algos.base.Policy`).
    """

    def __init__(self, env: OneAgent, policy: Any):
        self._env, self._policy = env, policy

    def initial_carry(self) -> Any:
        """The policy's."""
        return self._policy.initial_carry()

    def act(self, carry: Any, ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[Any, Int[Array, " N"]]:
        """The joint action ``[N]``."""
        carry, action = self._policy.act(carry, self._env.joined(ts), key, explore)
        return carry, jnp.asarray(self._env.joint_actions, jnp.int32)[action[0]]
