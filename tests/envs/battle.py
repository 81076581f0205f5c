"""A small battle by the rules and the interface of SMAC, for packages that stand in for the real ones.

Allies and enemies stand on a line; enemies strike at the first ally that lives, if they hit. A
side wins when none of the other lives.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

HEALTH = 3
WIDTH = 4
MOVES = 6
"""No-op for the dead, stop, and four moves; then an attack for each enemy."""

LIMIT = 8
FEATURES = 4
"""Of an ally in the state: health, cooldown, x, y; then a bit for each type of unit."""


class Battle:
    """The fight itself.

    Args:
        allies: how many agents.
        enemies: how many they fight.
        kinds: types of units, 0 if all are alike.
    """

    def __init__(self, allies: int, enemies: int, kinds: int = 0):
        self.n_agents, self.n_enemies, self.kinds = allies, enemies, kinds
        self.n_actions = MOVES + enemies
        self.width = FEATURES + kinds
        self.obs_size = 2 + kinds + enemies
        self.state_size = allies * self.width + 3 * enemies + allies * self.n_actions

    def begin(self, types: Sequence[int], x: Sequence[int], rng: np.random.Generator, hit: float = 0.5) -> None:
        """Units of these types in these places; enemies hit with a probability."""
        self.types, self.x, self.rng, self.hit = np.array(types), np.array(x), rng, hit
        self.health, self.foes = np.full(self.n_agents, HEALTH), np.full(self.n_enemies, HEALTH)
        self.last = np.zeros((self.n_agents, self.n_actions))

    def act(self, actions: Sequence[int]) -> tuple[float, bool, bool]:
        """The damage dealt, whether the battle is over, and whether it is won."""
        for agent, action in enumerate(actions):
            assert self.avail(agent)[action], f"agent {agent} cannot do {action}"
        self.last = np.eye(self.n_actions)[list(actions)]
        before = self.foes.sum()
        for agent, action in enumerate(actions):
            if action >= MOVES:
                self.foes[action - MOVES] = max(0, self.foes[action - MOVES] - 1)
            elif action in (2, 3):
                self.x[agent] += 1 if action == 2 else -1
        for _ in range(int((self.foes > 0).sum())):
            if self.health.any() and self.rng.random() < self.hit:
                self.health[np.flatnonzero(self.health)[0]] -= 1
        won = not self.foes.any()
        return float(before - self.foes.sum()), won or not self.health.any(), won

    def avail(self, agent: int) -> list[int]:
        """What an agent may do: who is dead nothing, which nobody else may."""
        if not self.health[agent]:
            return [1] + [0] * (self.n_actions - 1)
        moves = [int(self.x[agent] + 1 < WIDTH), int(self.x[agent] > 0), 0, 0]
        return [0, 1, *moves, *(int(health > 0) for health in self.foes)]

    def bits(self) -> np.ndarray:
        """The types of those who live, a bit for each."""
        return np.eye(max(self.kinds, 1))[self.types][:, : self.kinds] * (self.health > 0)[:, None]

    def get_obs(self) -> list[np.ndarray]:
        """Each agent's view: itself and the enemies' health; zeros for the dead."""
        alive = self.health > 0
        own = np.column_stack([self.health / HEALTH, self.x * alive, self.bits()])
        seen = np.where(alive[:, None], self.foes / HEALTH, 0.0)
        return list(np.concatenate([own, seen], axis=1).astype(np.float32))

    def get_state(self) -> np.ndarray:
        """Allies first, then enemies, then the last joint action."""
        allies = np.zeros((self.n_agents, self.width))
        allies[:, 0], allies[:, 2] = self.health / HEALTH, self.x * (self.health > 0)
        allies[:, FEATURES:] = self.bits()
        enemies = np.zeros((self.n_enemies, 3))
        enemies[:, 0] = self.foes / HEALTH
        return np.concatenate([allies.ravel(), enemies.ravel(), self.last.ravel()]).astype(np.float32)


MAPS = {
    "3m": (3, 3, 0.5),
    "safe": (2, 2, 0.0),
    "doomed": (1, 4, 1.0),
    "raises": (2, 2, 0.0),
    "drops": (2, 2, 0.0),
    "32x32_flat": (5, 5, 0.5),
}
"""Allies, enemies, and how well these hit. Steps of ``raises`` raise an error; ``drops`` loses its game."""


class StarCraft2Env:
    """What SMAC and SMACv2 offer; ``launch`` looks for the game."""

    def __init__(
        self,
        launch: Callable[[], None],
        map_name: str,
        seed: int | None,
        continuing_episode: bool,
        units: tuple[int, int] | None = None,
        kinds: int = 0,
    ):
        allies, enemies, self.hit = MAPS[map_name]
        self.n_agents, self.n_enemies = units or (allies, enemies)
        self.map_name, self.launch, self.continuing = map_name, launch, continuing_episode
        self.battle = Battle(self.n_agents, self.n_enemies, kinds)
        self.n_actions = self.battle.n_actions
        self.force_restarts, self.rng, self._seed, self.closed = 0, None, seed, False

    def get_env_info(self) -> dict[str, Any]:
        """Sizes."""
        sizes = {"state_shape": self.battle.state_size, "obs_shape": self.battle.obs_size, "n_actions": self.n_actions}
        return sizes | {"n_agents": self.n_agents, "episode_limit": LIMIT}

    def get_ally_num_attributes(self) -> int:
        """Features of an ally in the state."""
        return self.battle.width

    def reset(self, episode_config: dict[str, Any] | None = None) -> Any:
        """Begin a battle; the first one starts the game."""
        drawn = episode_config or {"types": [0] * self.n_agents, "x": [0] * self.n_agents}
        if self.rng is None:
            self.launch()
            self.rng = np.random.default_rng(self._seed)
        self.time = 0
        self.battle.begin(drawn["types"], drawn["x"], self.rng, self.hit)
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float, bool, dict[str, Any]]:
        """Reward, whether the episode is over, and what came of it."""
        assert all(type(action) is int for action in actions)
        self.time += 1
        if self.map_name == "raises" and self.time == 3:
            raise ValueError("the unit is not there")
        if self.map_name == "drops" and self.time == 3:
            self.force_restarts += 1
            return 0, True, {}
        damage, over, won = self.battle.act(actions)
        info: dict[str, Any] = {"battle_won": won, "dead_allies": int((self.battle.health == 0).sum())}
        if not over and self.time >= LIMIT:
            over = True
            if self.continuing:
                info["episode_limit"] = True
        return damage + 10.0 * won, over, info

    def get_obs(self) -> list[np.ndarray]:
        """As the battle has it."""
        return self.battle.get_obs()

    def get_state(self) -> np.ndarray:
        """As the battle has it."""
        return self.battle.get_state()

    def get_avail_agent_actions(self, agent: int) -> list[int]:
        """As the battle has it."""
        return self.battle.avail(agent)

    def close(self) -> None:
        """End the game."""
        self.closed = True


class Weighted:
    """Draws a team, with two generators, as SMACv2 does."""

    def __init__(self, config: dict[str, Any]):
        assert set(config) >= {"dist_type", "unit_types", "weights", "n_units", "n_enemies", "env_key"}
        self.kinds, self.weights, self.count = len(config["unit_types"]), config["weights"], config["n_units"]
        self.rng = np.random.default_rng()

    def generate(self) -> dict[str, Any]:
        """A type for each ally."""
        types = list(self.rng.choice(self.kinds, self.count, p=self.weights))
        random.shuffle(types)
        return {"types": types}


class Uniform:
    """Draws places."""

    def __init__(self, count: int):
        self.count, self.rng = count, np.random.default_rng()

    def generate(self) -> dict[str, Any]:
        """A place for each ally."""
        return {"x": list(self.rng.integers(0, WIDTH, self.count))}


class Mixed:
    """Draws places with another distribution, or puts all in one."""

    def __init__(self, config: dict[str, Any]):
        self.share, self.inner, self.rng = config["p"], Uniform(config["n_units"]), np.random.default_rng()

    def generate(self) -> dict[str, Any]:
        """A place for each ally."""
        drawn = self.inner.generate()
        return drawn if self.rng.random() > self.share else {"x": [1] * len(drawn["x"])}
