"""PettingZoo's environments, in both of its interfaces, and what comes with them. Without JAX.

The package, and the one that an environment comes from, is imported when an environment is made.
"""

import importlib
import re
import warnings
from typing import Any

import numpy as np

from comarl.envs.adapters.drawn import drawn
from comarl.envs.adapters.spaces import agent_types, flatten, observed_size, read_actions, read_mask, write_row
from comarl.envs.python import LONGEST, Percept, PythonEnv
from comarl.errors import ComarlError, missing_extra
from comarl.spec import EnvSpec

LIMITS = ("max_cycles", "max_steps", "max_episode_steps", "max_iter")
"""Where an environment may say how long an episode can be."""

ADVERSARIAL = ("simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm")
"""Worlds of mpe2 in which agents gain what others lose."""


def make(variant: str) -> PythonEnv:
    """The environment of a module with ``parallel_env`` or ``env``, such as ``mpe2.simple_spread_v3``.

    Raises:
        ComarlError: if the module cannot be imported or has neither.
    """
    module = _import(variant)
    for function in ("parallel_env", "env"):
        if hasattr(module, function):
            return adapt(f"pettingzoo/{variant}", getattr(module, function)())
    raise ComarlError(f"environment 'pettingzoo/{variant}': the module has neither parallel_env nor env")


def make_mpe2(variant: str) -> PythonEnv:
    """A particle world of the package mpe2, such as ``simple_spread_v3``; ``-continuous`` makes its actions vectors.

    Raises:
        ComarlError: if the package is not installed.
        KeyError: if it has no such world.
    """
    world, continuous, _ = variant.partition("-continuous")
    module = _import(f"mpe2.{world}")
    opposed = re.sub(r"_v\d+$", "", world) in ADVERSARIAL
    return adapt(f"mpe2/{variant}", module.parallel_env(continuous_actions=bool(continuous)), opposed=opposed)


def _import(module: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pygame's, of its own dependencies
            return importlib.import_module(module)
    except ImportError as error:
        if error.name in ("pettingzoo", "mpe2", "gymnasium", "pygame"):
            raise missing_extra(error.name, "pettingzoo") from error
        if error.name and "." in error.name and module.startswith(error.name):
            raise KeyError(module) from error  # the package is there and has no such module: an unknown name
        raise ComarlError(f"environment 'pettingzoo/{module}': {error}") from error


def is_pettingzoo(env: Any) -> bool:
    """Whether it has one of PettingZoo's interfaces."""
    return hasattr(env, "observation_space") and hasattr(env, "step") and hasattr(env, "possible_agents")


def adapt(name: str, env: Any, *, opposed: bool = False) -> PythonEnv:
    """A PettingZoo environment as a team.

    Args:
        name: the name in the registry.
        env: a ``ParallelEnv`` or an ``AECEnv``. One of the latter that says it is parallelisable is played as if it
            were the former, any other turn by turn.
        opposed: whether some agents gain what others lose; an environment may also say so in ``metadata["opposed"]``.
    """
    opposed = opposed or bool(getattr(env, "metadata", {}).get("opposed"))
    if not hasattr(env, "agent_iter"):
        return ParallelTeam(name, env, opposed=opposed)
    if getattr(env, "metadata", {}).get("is_parallelizable"):
        from pettingzoo.utils.conversions import aec_to_parallel

        return ParallelTeam(name, aec_to_parallel(env), opposed=opposed)
    return TurnTeam(name, env, opposed=opposed)


class PettingZooTeam(PythonEnv):
    """What both interfaces share: agents by name, with spaces of their own, of whom some may be absent.

    An absent agent observes zeros, earns nothing and has one available action, the first, which nobody asks for. The
    episode is over when no agent is left: it is truncated if one of those who left last was, and terminated otherwise.
    An agent that terminates while others go on goes on earning nothing.

    The global state is ``env.state()`` where there is one, and else the observations of all agents.
    """

    def __init__(self, name: str, env: Any, *, opposed: bool):
        self._env = env
        self._names: list[Any] = list(env.possible_agents)
        places = {agent: f"environment '{name}', agent '{agent}'" for agent in self._names}
        self._seen = {agent: env.observation_space(agent) for agent in self._names}
        self._actions = {agent: read_actions(env.action_space(agent), places[agent]) for agent in self._names}
        sizes = {agent: observed_size(self._seen[agent], places[agent]) for agent in self._names}
        continuous = {actions.continuous for actions in self._actions.values()}
        if len(continuous) > 1:
            raise ComarlError(f"environment '{name}': some agents have continuous actions and others discrete ones")
        kinds = [(_prefix(agent), sizes[agent], self._actions[agent].size) for agent in self._names]
        state_size = _state_size(env)
        self._has_state = state_size > 0
        self.spec = EnvSpec(
            name=name,
            num_agents=len(self._names),
            obs_dim=max(sizes.values()),
            state_dim=state_size or len(sizes) * max(sizes.values()),
            num_actions=max(actions.size for actions in self._actions.values()),
            max_episode_steps=self._turns(len(self._names)) * limit if (limit := _limit(env)) else LONGEST,
            agent_types=agent_types(kinds),
            reward="per agent",
            continuous=continuous == {True},
            opposed=opposed,
        )

    def picture(self) -> np.ndarray | None:
        return drawn(self._env)

    def close(self) -> None:
        self._env.close()

    @staticmethod
    def _turns(agents: int) -> int:
        """Joint steps in one of the environment's own."""
        del agents
        return 1

    def _native(self, agent: Any, action: np.ndarray) -> Any:
        return self._actions[agent].native(action[self._names.index(agent)])

    def _percept(
        self, seen: dict[Any, Any], infos: dict[Any, Any], reward: dict[Any, Any], *ends: bool, acting: set[Any]
    ) -> Percept:
        """What is perceived when those ``acting`` are asked next, or were last; ``ends``: terminated, truncated."""
        spec = self.spec
        obs = np.zeros((spec.num_agents, spec.obs_dim), np.float32)
        avail = np.zeros((spec.num_agents, spec.num_actions), bool)
        for i, agent in enumerate(self._names):
            if agent in seen:
                write_row(obs[i], flatten(self._seen[agent], seen[agent]))
            if agent in acting:
                mask = read_mask(seen.get(agent), infos.get(agent))
                avail[i, : self._actions[agent].size] = True if mask is None else mask
            if agent not in acting or (any(ends) and not avail[i].any()):
                avail[i, 0] = True
        rewards = np.array([reward.get(agent, 0.0) for agent in self._names], np.float32)
        state = np.asarray(self._env.state(), np.float32).ravel() if self._has_state else obs.ravel()
        return Percept(obs, state, avail, rewards, *ends)


class ParallelTeam(PettingZooTeam):
    """All agents who are there act at the same time."""

    def reset(self, seed: int) -> Percept:
        seen, infos = self._env.reset(seed=seed)
        return self._percept(seen, infos, {}, acting=set(self._env.agents))

    def step(self, action: np.ndarray) -> Percept:
        there = list(self._env.agents)
        seen, reward, terminated, truncated, infos = self._env.step({a: self._native(a, action) for a in there})
        # An environment may leave the list as it is and only set the flags.
        left = {a for a in self._env.agents if not (terminated.get(a) or truncated.get(a))}
        over = not left
        cut = over and any(truncated.get(a) and not terminated.get(a) for a in there)
        # At the end everybody is still shown as he was: after a truncation values are bootstrapped from it.
        acting = left or set(there)
        shown = {a: x for a, x in seen.items() if a in acting}
        return self._percept(shown, infos, reward, over and not cut, cut, acting=acting)


class TurnTeam(PettingZooTeam):
    """One agent acts at a time, and the others have a single action that nobody asks for.

    Every agent observes at every step, and is paid at once what a turn earns it, not when its own turn comes.
    """

    @staticmethod
    def _turns(agents: int) -> int:
        return agents

    def reset(self, seed: int) -> Percept:
        env = self._env
        env.reset(seed=seed)
        seen = {agent: env.observe(agent) for agent in env.agents}
        return self._percept(seen, dict(env.infos), {}, acting={env.agent_selection})

    def step(self, action: np.ndarray) -> Percept:
        env = self._env
        agent = env.agent_selection
        there = list(env.agents)
        env.step(self._native(agent, action))
        reward, infos, ends = dict(env.rewards), dict(env.infos), []
        seen = {a: env.observe(a) for a in env.agents}
        while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
            gone = env.agent_selection
            ends.append(env.truncations[gone] and not env.terminations[gone])
            env.step(None)
        reward = {a: reward.get(a, 0.0) for a in there}
        if env.agents:
            seen = {a: x for a, x in seen.items() if a in env.agents}
            return self._percept(seen, infos, reward, acting={env.agent_selection})
        return self._percept(seen, infos, reward, not any(ends), any(ends), acting=set(there))


def _prefix(agent: Any) -> str:
    """An agent's name without its number: PettingZoo's way to say what it is."""
    return re.sub(r"_\d+$", "", str(agent))


def _limit(env: Any) -> int:
    """How long an episode can be, 0 if nothing says so."""
    for source in (env, getattr(env, "unwrapped", env), getattr(env, "aec_env", env)):
        for name in LIMITS:
            value = getattr(getattr(source, "unwrapped", source), name, None)
            if isinstance(value, int | np.integer) and value > 0:
                return int(value)
    return 0


def _state_size(env: Any) -> int:
    """How many numbers the global state has, 0 if there is none."""
    env.reset(seed=0)
    try:
        return np.asarray(env.state()).size
    except (NotImplementedError, AttributeError, TypeError):  # none, or something else by that name
        return 0
