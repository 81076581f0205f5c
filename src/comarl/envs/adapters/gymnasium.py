"""Teams with Gymnasium's interface: spaces, observations, actions and rewards are tuples, a part for each agent.

Without JAX. The package that a team comes from is imported when it is made.
"""

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from comarl.envs.adapters.drawn import drawn
from comarl.envs.adapters.spaces import agent_types, flatten, observed_size, read_actions, read_mask, write_row
from comarl.envs.python import LONGEST, Percept, PythonEnv
from comarl.errors import ComarlError, missing_extra
from comarl.spec import EnvSpec

if TYPE_CHECKING:
    from comarl.envs.scene import Scene

Ended = Callable[[Any], bool]
"""Whether an episode that is over ended for good, by the environment; else a time limit cut it."""

Draws = Callable[[Any], "Scene | np.ndarray | None"]
"""What an environment shows now."""

Clears = Callable[[Any], None]
"""Takes away what an environment would keep of its last episode when it is reset."""


def make_lbforaging(variant: str) -> PythonEnv:
    """Level-Based Foraging of the package lbforaging by its id, such as ``Foraging-8x8-2p-2f-v3``.

    The package reports the end of time as a termination; here only an empty field is one.

    Raises:
        ComarlError: if the package is not installed.
        KeyError: if it has no such id.
    """
    return _registered("lbforaging", variant, lambda env: not env.field.any(), draws=_field, clears=_lift_players)


def make_rware(variant: str) -> PythonEnv:
    """The robot warehouse of the package rware by its id, such as ``rware-tiny-2ag-v2``.

    The package reports the end of time as a termination; here nothing is one, for the work never ends.

    Raises:
        ComarlError: if the package is not installed.
        KeyError: if it has no such id.
    """
    return _registered("rware", variant, lambda env: False, family="robotic-warehouse")


def _lift_players(env: Any) -> None:
    """The package puts nobody where a player stood last: an episode would owe something to the one before."""
    for player in env.unwrapped.players:
        player.position = None


def _field(env: Any) -> "Scene":
    """Foraging as a grid: the package draws in a window alone."""
    from comarl.envs.scene import Figure, Item, Scene, places

    field, players = env.unwrapped.field, env.unwrapped.players
    standing = zip(players, places(np.array([player.position for player in players])), strict=True)
    return Scene(
        size=field.shape,
        agents=tuple(Figure(place, note=f"level {player.level}") for player, place in standing),
        items=tuple(Item("food", place, note=str(field[place])) for place in places(np.argwhere(field))),
        actions=("none", "up", "down", "left", "right", "load"),
    )


def _registered(
    package: str,
    variant: str,
    ended: Ended,
    *,
    family: str = "",
    draws: Draws = drawn,
    clears: Clears | None = None,
) -> PythonEnv:
    """An environment that importing ``package`` registers with Gymnasium."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import gymnasium

            importlib.import_module(package)
        except ImportError as error:
            raise missing_extra((error.name or package).split(".")[0], "teams") from error
        try:
            env = gymnasium.make(variant, disable_env_checker=True)
        except gymnasium.error.Error as error:
            raise KeyError(variant) from error
    return GymnasiumTeam(f"{family or package}/{variant}", env, ended, draws, clears)


def is_gymnasium(env: Any) -> bool:
    """Whether it has Gymnasium's interface, for a team or not."""
    return hasattr(env, "observation_space") and hasattr(env, "action_space") and hasattr(env, "step")


class GymnasiumTeam(PythonEnv):
    """A Gymnasium environment of several agents.

    Rewards are one for each agent, or a number that all get. Flags may be one for each agent too: the episode is over
    when all are set. The global state is all observations. Action masks are taken from ``info["action_mask"]``, a row
    for each agent, or from an agent's own observation.

    Args:
        name: the name in the registry.
        env: the environment; its spaces are tuples.
        ended: tells terminations from time limits, where the environment reports both as the former.
        draws: what it shows.
        clears: is called before each reset.
    """

    def __init__(
        self,
        name: str,
        env: Any,
        ended: Ended | None = None,
        draws: Draws = drawn,
        clears: Clears | None = None,
    ):
        from gymnasium import spaces

        for space in (env.observation_space, env.action_space):
            if not isinstance(space, spaces.Tuple):
                raise ComarlError(f"environment '{name}': the space {space} is not a Tuple with a part for each agent")
        self._env, self._ended, self._draws, self._clears = env, ended, draws, clears
        self._seen = env.observation_space.spaces
        places = [f"environment '{name}', agent {i}" for i in range(len(self._seen))]
        sizes = [observed_size(space, place) for space, place in zip(self._seen, places, strict=True)]
        self._actions = [
            read_actions(space, place) for space, place in zip(env.action_space.spaces, places, strict=True)
        ]
        continuous = {actions.continuous for actions in self._actions}
        if len(continuous) > 1:
            raise ComarlError(f"environment '{name}': some agents have continuous actions and others discrete ones")
        self.spec = EnvSpec(
            name=name,
            num_agents=len(sizes),
            obs_dim=max(sizes),
            state_dim=len(sizes) * max(sizes),
            num_actions=max(actions.size for actions in self._actions),
            max_episode_steps=_limit(env) or LONGEST,
            agent_types=agent_types([(size, actions.size) for size, actions in zip(sizes, self._actions, strict=True)]),
            reward="per agent",
            continuous=continuous == {True},
        )

    def reset(self, seed: int) -> Percept:
        if self._clears:
            self._clears(self._env)
        seen, info = self._env.reset(seed=seed)
        return self._percept(seen, info, 0.0, terminated=False, truncated=False)

    def step(self, action: np.ndarray) -> Percept:
        native = tuple(actions.native(a) for actions, a in zip(self._actions, action, strict=True))
        seen, reward, terminated, truncated, info = self._env.step(native)
        over = bool(np.all(terminated) or np.all(truncated))
        ended = over and (self._ended(self._env.unwrapped) if self._ended else bool(np.all(terminated)))
        return self._percept(seen, info, reward, terminated=ended, truncated=over and not ended)

    def picture(self) -> "Scene | np.ndarray | None":
        return self._draws(self._env)

    def close(self) -> None:
        self._env.close()

    def _percept(self, seen: Any, info: Any, reward: Any, *, terminated: bool, truncated: bool) -> Percept:
        spec = self.spec
        obs = np.zeros((spec.num_agents, spec.obs_dim), np.float32)
        for row, space, x in zip(obs, self._seen, seen, strict=True):
            write_row(row, flatten(space, x))
        avail = np.zeros((spec.num_agents, spec.num_actions), bool)
        masks = read_mask(None, info)
        for i, actions in enumerate(self._actions):
            mask = read_mask(seen[i], None) if masks is None else masks[i][: actions.size]
            avail[i, : actions.size] = True if mask is None else mask
        rewards = np.full(spec.num_agents, reward, np.float32)
        return Percept(obs, obs.ravel(), avail, rewards, terminated, truncated)


def _limit(env: Any) -> int:
    """How long an episode can be, 0 if nothing says so."""
    inner = env.unwrapped
    known = (
        getattr(env.spec, "max_episode_steps", None),
        *(getattr(inner, name, None) for name in ("_max_episode_steps", "max_episode_steps", "max_steps")),
    )
    return next((int(limit) for limit in known if limit), 0)
