"""A team as one agent: what the central joint Q learns on, in JAX or stepped by Python."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, Hosted, HostEnv, State
from comarl.errors import ComarlError
from comarl.returns import TeamReward, form_team_reward
from comarl.types import EnvSpec, TimeStep

MAX_JOINT_ACTIONS = 4096


class Joining:
    """What one agent in place of a team perceives and does.

    Its observation is the state beside the joined observations, its action an index into all ``A**N`` joint
    actions (the first agent's action varies slowest), its reward the agents' formed into one by ``team_reward``.

    Attributes:
        spec: of the one agent.
        actions: the joint actions ``[A**N, N]``.

    Args:
        spec: of the team.
        team_reward: ``mean`` or ``sum``.

    Raises:
        ComarlError: if there are more than ``MAX_JOINT_ACTIONS`` joint actions, or if ``team_reward`` is individual.
    """

    def __init__(self, spec: EnvSpec, team_reward: TeamReward):
        if team_reward == "individual":
            raise ComarlError("method 'joint' learns one value for the team: set the team reward to 'mean' or 'sum'")
        size = spec.num_actions**spec.num_agents
        if size > MAX_JOINT_ACTIONS:
            raise ComarlError(
                f"method 'joint' needs one value per joint action and {spec.name} has {spec.num_actions}^"
                f"{spec.num_agents} of them (limit {MAX_JOINT_ACTIONS}): use a factorised method such as 'qmix'"
            )
        self._team_reward: TeamReward = team_reward
        self.actions = np.array(list(itertools.product(range(spec.num_actions), repeat=spec.num_agents)), np.int32)
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

    def __call__(self, ts: TimeStep) -> TimeStep:
        """The team's time step ``[...]`` as the one agent perceives it."""
        obs = jnp.concatenate([ts.state, ts.obs.reshape(*ts.state.shape[:-1], -1)], axis=-1)
        avail = ts.avail[..., np.arange(self.actions.shape[1]), self.actions].all(-1)
        reward = form_team_reward(ts.reward, self._team_reward)
        return ts._replace(obs=obs[..., None, :], avail=avail[..., None, :], reward=reward[..., None])


class OneAgent(Env):
    """The team of an environment as one agent (:class:`Joining`).

    A Q-learner on it is the central joint Q, the upper reference for every factorised method.

    Raises:
        ComarlError: as :class:`Joining`.
    """

    def __init__(self, env: Env, team_reward: TeamReward = "mean"):
        self.env, self.joining = env, Joining(env.spec, team_reward)
        self.spec = self.joining.spec

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.reset(key)
        return state, self.joining(ts)

    def step(self, state: State, action: Int[Array, " 1"], key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.step(state, jnp.asarray(self.joining.actions)[action[0]], key)
        return state, self.joining(ts)

    def outcome(self, state: State) -> dict[str, Float[Array, ""]]:
        return self.env.outcome(state)


class HostedOneAgent(Hosted):
    """The same of an environment that Python steps."""

    def __init__(self, env: Hosted, team_reward: TeamReward = "mean"):
        self.env, self.joining = env, Joining(env.spec, team_reward)
        self.spec, self.at_once = self.joining.spec, env.at_once

    def start(self, count: int) -> "Joined":
        return Joined(self.env.start(count), self.joining)


class Joined(HostEnv):
    """Environments that Python steps for one agent in place of each team."""

    def __init__(self, env: HostEnv, joining: Joining):
        self._env, self._actions = env, joining.actions
        self._join = jax.jit(joining)
        self.spec, self.count = joining.spec, env.count

    def reset(self, seeds: np.ndarray) -> TimeStep:
        return self._joined(self._env.reset(seeds))

    def step(self, action: np.ndarray, seeds: np.ndarray, active: np.ndarray | None = None) -> TimeStep:
        return self._joined(self._env.step(self._actions[action[:, 0]], seeds, active))

    def outcome(self) -> dict[str, np.ndarray]:
        return self._env.outcome()

    def snapshot(self) -> Any:
        return self._env.snapshot()

    def restore(self, snapshot: Any) -> None:
        self._env.restore(snapshot)

    def close(self) -> None:
        self._env.close()

    def _joined(self, ts: TimeStep) -> TimeStep:
        self.dropped = self._env.dropped
        return jax.tree.map(np.array, self._join(ts))  # copies, which may be written to as those of the environments


class Unjoined:
    """A policy of one agent as its team's: perceives what the team does, and gives its joint action.

    Args:
        joining: what made one agent of the team.
        policy: the one agent's policy (:class:`comarl.algos.base.Policy`).
    """

    def __init__(self, joining: Joining, policy: Any):
        self._joining, self._policy = joining, policy

    def initial_carry(self) -> Any:
        """The policy's."""
        return self._policy.initial_carry()

    def act(self, carry: Any, ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[Any, Int[Array, " N"]]:
        """The joint action ``[N]``."""
        carry, action = self._policy.act(carry, self._joining(ts), key, explore)
        return carry, jnp.asarray(self._joining.actions)[action[0]]
