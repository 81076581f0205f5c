"""StarCraft's micromanagement: SMAC, SMACv2, and SMAClite, which needs no game. Without JAX.

None of the packages is in the package index, where ``smac`` is another project. They are imported when an environment
is made, and what is missing is named together with the way to get it. SMAC and SMACv2 start a game of StarCraft II for
every environment, when its first episode begins.
"""

import abc
import contextlib
import importlib
import importlib.util
import random
import re
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from comarl.envs.adapters.spaces import agent_types
from comarl.envs.python import Percept, PythonEnv
from comarl.errors import ComarlError
from comarl.spec import EnvSpec

SOURCES = {"smac": "oxwhirl/smac", "smacv2": "oxwhirl/smacv2", "smaclite": "uoe-agents/smaclite"}
"""Where each package comes from, on GitHub."""

RACES: dict[str, dict[str, Any]] = {
    "protoss": {"unit_types": ["stalker", "zealot", "colossus"], "weights": [0.45, 0.45, 0.1]},
    "terran": {
        "unit_types": ["marine", "marauder", "medivac"],
        "weights": [0.45, 0.45, 0.1],
        "exception_unit_types": ["medivac"],
    },
    "zerg": {
        "unit_types": ["zergling", "baneling", "hydralisk"],
        "weights": [0.45, 0.1, 0.45],
        "exception_unit_types": ["baneling"],
    },
}
"""Who fights in SMACv2, how often, and of whom no team consists alone (the settings published with it)."""

SEEING: dict[str, Any] = {"obs_own_pos": True, "use_unit_ranges": True, "min_attack_range": 2}
"""What SMACv2's published settings change: an agent knows its place, and types see and shoot as far as theirs do."""

LITE_LIMITS = {
    "2s3z": 120,
    "3s5z": 150,
    "3s5z_vs_3s6z": 170,
    "3s_vs_5z": 250,
    "2s_vs_1sc": 300,
    "2c_vs_64zg": 400,
    "10m_vs_11m": 150,
    "27m_vs_30m": 180,
    "bane_vs_bane": 200,
    "corridor": 400,
    "MMM": 150,
    "MMM2": 180,
}
"""SMAC's time limits of SMAClite's maps: SMAClite itself has none."""


def make_smac(variant: str) -> PythonEnv:
    """A map of SMAC (Samvelyan et al. 2019), such as ``3m``, with the package's own settings.

    Raises:
        ComarlError: if the package, the game or its map is missing.
        KeyError: if there is no such map.
    """
    game = _import("smac", "smac.env").StarCraft2Env
    # Else a time limit could not be told from a defeat.
    make = lambda seed: game(map_name=variant, seed=seed, continuing_episode=True)  # noqa: E731
    return _played(f"smac/{variant}", variant, make)


def make_smacv2(variant: str) -> PythonEnv:
    """A team of drawn types in drawn places (SMACv2, Ellis et al. 2023), such as ``terran_5_vs_6``.

    Raises:
        ComarlError: if the package, the game or its map is missing.
        KeyError: if the name is not ``RACE_ALLIES_vs_ENEMIES``.
    """
    parts = re.fullmatch(r"([a-z]+)_([1-9]\d?)_vs_([1-9]\d?)", variant)
    if not parts or parts[1] not in RACES:
        raise KeyError(variant)
    race, map_name = parts[1], f"10gen_{parts[1]}"
    wrapper = _import("smacv2", "smacv2.env.starcraft2.wrapper").StarCraftCapabilityEnvWrapper

    def make(seed: int | None) -> Any:
        config = _capabilities(race, int(parts[2]), int(parts[3]))  # its own: the wrapper writes into it
        return wrapper(capability_config=config, map_name=map_name, seed=seed, continuing_episode=True, **SEEING)

    return _played(f"smacv2/{variant}", map_name, make)


def make_smaclite(variant: str) -> PythonEnv:
    """A map of SMAClite (Michalski et al. 2023), such as ``2s3z``, with SMAC's time limits.

    Raises:
        ComarlError: if the package is not installed.
        KeyError: if there is no such map.
    """
    _import("smaclite", "smaclite")
    import gymnasium

    id_, limit = f"smaclite/{variant}-v0", LITE_LIMITS[variant]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LiteTeam(f"smaclite/{variant}", gymnasium.make(id_, max_episode_steps=limit, disable_env_checker=True))


def _capabilities(race: str, allies: int, enemies: int) -> dict[str, Any]:
    """What SMACv2 draws anew for each episode, as in its published settings."""
    return {
        "n_units": allies,
        "n_enemies": enemies,
        "team_gen": {"dist_type": "weighted_teams", "observe": True, **RACES[race]},
        "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
    }


def _import(package: str, module: str) -> Any:
    """A module of one of the three packages."""
    get = f"pip install git+https://github.com/{SOURCES[package]}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its dependencies
            return importlib.import_module(module)
    except ImportError as error:
        if importlib.util.find_spec(package) is None:
            raise ComarlError(f"the package '{package}' is not installed: {get} (not in the package index)") from error
        if (error.name or "").startswith(f"{package}."):
            raise ComarlError(
                f"the package '{package}' that is installed is another project: pip uninstall {package}, then {get}"
            ) from error
        raise ComarlError(f"the package '{package}' cannot be imported ({error}): {get}") from error


def _played(name: str, map_name: str, make: Callable[[int | None], Any]) -> "StarCraftTeam":
    team = StarCraftTeam(name, make)
    _require_game(map_name)
    return team


def _require_game(map_name: str) -> None:
    """Refuse to begin without StarCraft II or its map: a worker would try again and again to start it."""
    maps, run_configs = (importlib.import_module(f"pysc2.{name}") for name in ("maps", "run_configs"))
    readme = "see https://github.com/oxwhirl/smac#installation-instructions"
    try:
        game = run_configs.get()
    except Exception as error:  # whatever looking for it raises
        raise ComarlError(f"StarCraft II is not found: install it and name its folder in SC2PATH, {readme}") from error
    try:
        game.map_data(maps.get(map_name).path)
    except Exception as error:
        what = f"StarCraft II has no map '{map_name}': put SMAC_Maps into its folder Maps"
        raise ComarlError(f"{what}, {readme}") from error


class BattleTeam(PythonEnv):
    """A team in a battle, won or lost. Dead agents observe zeros and can do nothing, which is their first action."""

    _game: Any
    _won = False

    def outcome(self) -> dict[str, float]:
        return {"won": float(self._won)}

    def close(self) -> None:
        self._game.close()

    @abc.abstractmethod
    def _avail(self) -> list[Any]:
        """Which actions each agent may take ``[N, A]``."""

    def _look(self, game: Any, reward: float = 0.0, *, terminated: bool = False, truncated: bool = False) -> Percept:
        obs = np.stack([np.asarray(row, np.float32) for row in game.get_obs()])
        state = np.asarray(game.get_state(), np.float32)
        rewards = np.full(self.spec.num_agents, reward, np.float32)
        return Percept(obs, state, np.array(self._avail(), bool), rewards, terminated, truncated)


class StarCraftTeam(BattleTeam):
    """A team in StarCraft II, by the interface of SMAC and SMACv2.

    A game that has lost its connection is an error, and its episode is dropped: the packages would report a lost
    battle, or what they saw before. The game is seeded when it starts and plays one battle after the other, so that
    an episode does not depend on its own seed alone; SMACv2's teams and places do.

    Args:
        name: the name in the registry.
        make: makes an environment whose game begins with that seed.
    """

    repeatable = False
    at_once = 4

    def __init__(self, name: str, make: Callable[[int | None], Any]):
        self._make = make
        self._game = make(None)
        self._started = False
        info, width = self._game.get_env_info(), self._game.get_ally_num_attributes()
        self.spec = EnvSpec(
            name=name,
            num_agents=info["n_agents"],
            obs_dim=info["obs_shape"],
            state_dim=info["state_shape"],
            num_actions=info["n_actions"],
            max_episode_steps=info["episode_limit"],
            units=_units(info["n_agents"], width),
            outcomes=("won",),
        )

    def reset(self, seed: int) -> Percept:
        if not self._started:
            self._game, self._started = self._make(seed), True
        with self._connected(), _drawn_from(seed, self._game):
            self._game.reset()
        self._won = False
        return self._look(self._game)

    def step(self, action: np.ndarray) -> Percept:
        with self._connected():
            reward, over, info = self._game.step([int(a) for a in action])
        cut = bool(info.get("episode_limit", False))
        self._won = bool(info["battle_won"])
        return self._look(self._game, reward, terminated=over and not cut, truncated=over and cut)

    def _avail(self) -> list[Any]:
        # SMACv2's wrapper cannot give those of all agents at once.
        return [self._game.get_avail_agent_actions(i) for i in range(self.spec.num_agents)]

    @contextlib.contextmanager
    def _connected(self) -> Generator[None]:
        restarts = self._game.force_restarts
        yield
        if self._game.force_restarts > restarts:
            raise RuntimeError("StarCraft II lost the connection and was started anew")


class LiteTeam(BattleTeam):
    """A team in SMAClite, whose types of units are those of the map.

    Args:
        name: the name in the registry.
        game: the environment, with a time limit around it.
    """

    def __init__(self, name: str, game: Any):
        self._game = game
        inner = game.unwrapped
        game.reset(seed=0)
        units = _units(inner.n_agents, inner.ally_state_feat_size)
        kinds = inner.map_info.num_unit_types
        self.spec = EnvSpec(
            name=name,
            num_agents=inner.n_agents,
            obs_dim=inner.obs_size,
            state_dim=inner.state_size,
            num_actions=inner.n_actions,
            max_episode_steps=game.spec.max_episode_steps,
            agent_types=agent_types([tuple(inner.get_state()[stop - kinds : stop]) for _, stop in units]),
            units=units,
            outcomes=("won",),
        )

    def reset(self, seed: int) -> Percept:
        self._game.reset(seed=seed)
        self._won = False
        return self._look(self._game.unwrapped)

    def step(self, action: np.ndarray) -> Percept:
        _, reward, over, cut, info = self._game.step([int(a) for a in action])
        self._won = bool(info["battle_won"])
        return self._look(self._game.unwrapped, reward, terminated=bool(over), truncated=bool(cut and not over))

    def _avail(self) -> list[Any]:
        return self._game.unwrapped.get_avail_actions()


def _units(agents: int, width: int) -> tuple[tuple[int, int], ...]:
    """Where the agents stand in the state: it begins with them."""
    return tuple((i * width, (i + 1) * width) for i in range(agents))


@contextlib.contextmanager
def _drawn_from(seed: int, game: Any) -> Generator[None]:
    """Let SMACv2 draw teams and places from ``seed``: its distributions seed themselves and use Python's generator."""
    before = random.getstate()
    random.seed(seed)
    for i, source in enumerate(_sources(getattr(game, "env_key_to_distribution_map", {}).values())):
        source.rng = np.random.default_rng([seed, i])
    try:
        yield
    finally:
        random.setstate(before)


def _sources(parts: Any) -> Iterator[Any]:
    """Whatever draws, in distributions and those that they are made of."""
    for part in parts:
        if hasattr(part, "rng"):
            yield part
        yield from _sources(inner for inner in vars(part).values() if hasattr(inner, "generate"))
