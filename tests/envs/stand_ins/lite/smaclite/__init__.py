"""Stands in for SMAClite: a team of Gymnasium without a time limit. Two types of units."""

import types
from typing import Any

import gymnasium
import numpy as np

from tests.envs.battle import Battle

TYPES = (0, 0, 1)


class SMACliteEnv(gymnasium.Env[Any, Any]):
    """A battle of three on a side."""

    def __init__(self) -> None:
        self.battle = Battle(len(TYPES), 3, 2)
        self.n_agents, self.n_actions = self.battle.n_agents, self.battle.n_actions
        self.obs_size, self.state_size = self.battle.obs_size, self.battle.state_size
        self.ally_state_feat_size = self.battle.width
        self.map_info = types.SimpleNamespace(num_unit_types=2)
        self.get_obs, self.get_state = self.battle.get_obs, self.battle.get_state
        self.action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(self.n_actions)] * self.n_agents)
        self.observation_space = gymnasium.spaces.Tuple([gymnasium.spaces.Box(-1, 1, (self.obs_size,))] * self.n_agents)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.battle.begin(TYPES, [0] * self.n_agents, np.random.default_rng(seed))
        return tuple(self.get_obs()), {"battle_won": False}

    def step(self, action: Any) -> Any:
        assert all(type(a) is int for a in action)
        damage, over, won = self.battle.act(action)
        return tuple(self.get_obs()), damage + 10.0 * won, over, False, {"battle_won": won}

    def get_avail_actions(self) -> list[list[int]]:
        """Of all agents."""
        return [self.battle.avail(i) for i in range(self.n_agents)]


gymnasium.register("smaclite/2s3z-v0", entry_point=SMACliteEnv)
gymnasium.register("smaclite/10m_vs_11m-v0", entry_point=SMACliteEnv)
