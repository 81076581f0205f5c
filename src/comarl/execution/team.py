"""Playing an exported team: each agent by itself, or all at once. No JAX here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from comarl.errors import ComarlError
from comarl.execution.manifest import ACTION, MASK, NEXT, OBSERVATION, Manifest, read_file, read_manifest
from comarl.execution.programs import Program, load_program


def checked_step(
    obs: Any, avail: Any, agents: tuple[int, ...], obs_dim: int, num_actions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Observations ``[*games, *agents, D]`` and what is available ``[*games, *agents, A]``, in the right dtypes.

    Args:
        obs: observations.
        avail: which actions may be taken; all if None.
        agents: ``(N,)`` for a team, ``()`` for one agent.
        obs_dim: ``D``.
        num_actions: ``A``.

    Raises:
        ComarlError: if the shapes do not fit, or an agent has no available action.
    """
    obs = np.asarray(obs, np.float32)
    games = obs.shape[: max(0, obs.ndim - len(agents) - 1)]
    every = np.ones((*games, *agents, num_actions), bool)
    avail = every if avail is None else np.asarray(avail, bool)
    if obs.shape != (*games, *agents, obs_dim) or avail.shape != every.shape:
        wanted = f"obs {(*agents, obs_dim)} and avail {(*agents, num_actions)}"
        raise ComarlError(f"act takes {wanted}, got {obs.shape} and {avail.shape}{' (agents first)' if agents else ''}")
    if not avail.any(-1).all():
        raise ComarlError("act needs at least one available action for every agent")
    return obs, avail


class ExportedAgent:
    """One agent of an exported team, with a memory of its own. It needs nothing of the others.

    Attributes:
        index: its place in the team.
        grounds: what its last action was chosen by: ``values`` or ``probabilities`` ``[A]``, ``mean`` and ``std``, or
            nothing.
    """

    def __init__(self, manifest: Manifest, index: int, programs: Sequence[Program]):
        self.index = index
        self.grounds: dict[str, np.ndarray] = {}
        self._manifest = manifest
        self._programs = programs
        self.reset(0)

    @property
    def choices(self) -> int:
        """How many policies it has, one of which it follows for an episode."""
        return len(self._programs)

    def reset(self, choice: int = 0) -> None:
        """Forget everything, for an episode begins; follow that one of its policies.

        Raises:
            ComarlError: if it has not so many.
        """
        if not 0 <= choice < self.choices:
            raise ComarlError(f"agent {self.index} has {self.choices} policies, counted from 0, and not {choice}")
        self._program = self._programs[choice]
        self._carry: dict[str, np.ndarray] | None = None

    def act(self, observation: Any, mask: Any = None) -> np.ndarray:
        """The greedy action: an index, or a vector ``[A]`` of numbers in [-1, 1].

        Args:
            observation: its own, ``[D]``; or ``[B, D]`` for as many games side by side.
            mask: which actions it may take, ``[A]`` or ``[B, A]``; all if left out.

        Raises:
            ComarlError: if the shapes do not fit, no action is available, or the number of games changed since the
                episode began.
        """
        sizes = self._manifest.obs_dim, self._manifest.num_actions
        obs, avail = checked_step(observation, mask, (), *sizes)
        action, grounds = self._step(obs.reshape(-1, sizes[0]), avail.reshape(-1, sizes[1]))
        games = obs.shape[:-1]
        self.grounds = {name: x.reshape(games + x.shape[1:]) for name, x in grounds.items()}
        return action.reshape(games + action.shape[1:])

    def _step(self, obs: np.ndarray, avail: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One step of ``B`` games: actions, and what they were chosen by."""
        games = obs.shape[0]
        if self._carry is None:
            self._carry = {port.name: np.zeros((games, *port.shape), port.dtype) for port in self._manifest.carry}
        if any(len(x) != games for x in self._carry.values()):
            raise ComarlError(f"{games} games, and other ones before: call reset() where episodes begin")
        outputs = self._program({**self._carry, OBSERVATION: obs, MASK: avail})
        self._carry = {name: outputs.pop(NEXT + name) for name in self._carry}
        return outputs.pop(ACTION), outputs


class ExportedTeam:
    """An exported team that acts greedily, one joint step at a time.

    Attributes:
        manifest: what its folder says of it.
        agents: each of them, which can as well be called by itself.
    """

    def __init__(self, manifest: Manifest, programs: Sequence[Sequence[Program]]):
        self.manifest = manifest
        self.agents = tuple(ExportedAgent(manifest, i, own) for i, own in enumerate(programs))
        self._rng = np.random.default_rng(manifest.seed)
        self.reset()

    def reset(self, choices: Sequence[int] | None = None) -> None:
        """Forget everything: an episode begins.

        Args:
            choices: which of its policies each agent follows; drawn if left out. Only ``--sub-policies`` give several.

        Raises:
            ComarlError: if an agent has not so many, or it is not one for each agent.
        """
        if choices is None:
            choices = [int(self._rng.integers(agent.choices)) for agent in self.agents]
        if len(choices) != len(self.agents):
            raise ComarlError(f"reset takes a choice for each of {len(self.agents)} agents, got {len(choices)}")
        for agent, choice in zip(self.agents, choices, strict=True):
            agent.reset(choice)

    def act(self, obs: Any, avail: Any = None) -> np.ndarray:
        """The team's actions ``[N]``, or where they are continuous ``[N, A]`` with numbers in [-1, 1].

        Args:
            obs: each agent's observation ``[N, D]``; or ``[B, N, D]`` for as many games side by side.
            avail: which actions each agent may take ``[N, A]`` or ``[B, N, A]``; all if left out.

        Raises:
            ComarlError: if the shapes do not fit, an agent has no available action, or the number of games changed
                since the episode began.
        """
        agents, manifest = (len(self.agents),), self.manifest
        obs, avail = checked_step(obs, avail, agents, manifest.obs_dim, manifest.num_actions)
        actions = [agent.act(obs[..., i, :], avail[..., i, :]) for i, agent in enumerate(self.agents)]
        return np.stack(actions, axis=obs.ndim - 2)


def load_team(folder: Path) -> ExportedTeam:
    """The team of an exported folder. Every file's hash and signature are checked; nothing outside it is read.

    Raises:
        ComarlError: if anything is not as it was exported, or the package that runs it is missing.
    """
    manifest = read_manifest(folder)
    made: dict[tuple[str, int], Program] = {}

    def program(name: str, agent: int) -> Program:
        # Only bare parameters need to be told whose they are.
        key = (name, agent if manifest.format == "safetensors" else 0)
        if key not in made:
            made[key] = load_program(manifest, agent, read_file(folder, manifest, name), str(folder / name))
        return made[key]

    return ExportedTeam(manifest, [[program(name, m.agent) for name in m.files] for m in manifest.agents])
