"""Cross-play: agents that were trained apart play each other.

Where agents oppose each other, one side's are taken from one team and the other's from another (Lowe et al. 2017,
§5.3); in a team of common interest one agent from one and all the others from another (zero-shot coordination, Hu et
al. 2020).

Nothing is imported here that imports JAX before it plays: a mistake is answered at once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config
from comarl.experiments.methods import require_agents
from comarl.experiments.scores import episode_scores, score_name
from comarl.spec import EnvSpec

if TYPE_CHECKING:
    from comarl.algos.base import Policy
    from comarl.envs.base import Env, Hosted
    from comarl.experiments.progress import Progress
    from comarl.training.evaluate import Episodes


def load_meeting(folders: Sequence[Path]) -> list[RunConfig]:
    """The configurations of runs whose agents can meet.

    Raises:
        ComarlError: if a folder holds no run or is named twice, if its agents do not act apart, if the environments
            differ, or if there is one team alone.
    """
    twice = [folder for i, folder in enumerate(folders) if folder.resolve() in {f.resolve() for f in folders[:i]}]
    if twice:
        raise ComarlError(f"{twice[0]} is named twice: its agents meet themselves anyway")
    configs = [load_config(folder) for folder in folders]
    for config in configs:
        require_agents(config.method)
    _require_one("of different environments", folders, [config.env for config in configs])
    if sum(config.seeds for config in configs) < 2:
        raise ComarlError(
            f"{folders[0]} holds a single team, which can meet nobody else: name another run of {configs[0].env}, "
            "or train this one with --seeds 2"
        )
    return configs


def _require_one(what: str, folders: Sequence[Path], values: list[str]) -> None:
    if len(set(values)) > 1:
        each = ", ".join(f"{folder}: {value}" for folder, value in zip(folders, values, strict=True))
        raise ComarlError(f"these runs are {what}, so that their agents cannot meet ({each})")


class Split(NamedTuple):
    """Who meets whom.

    Attributes:
        rows: what the first team's agents are, in words.
        columns: what the second team's agents are.
        first: for each way to split the agents which of them are the first team's ``[ways, N]``; scores are means over
            the ways.
        sides: who is scored, by name: which agents ``[N]``.
    """

    rows: str
    columns: str
    first: Bool[np.ndarray, "ways N"]
    sides: dict[str, Bool[np.ndarray, " N"]]


def split(spec: EnvSpec) -> Split:
    """The two sides of an environment; or, where all agents are on one, each agent in turn against the rest.

    Raises:
        ComarlError: if there are not two sides, or a single agent.
    """
    if spec.num_agents == 1:
        raise ComarlError(f"{spec.name} has a single agent, which meets nobody")
    if not spec.opposed:
        return Split(
            "one agent", "the others", np.eye(spec.num_agents, dtype=bool), {"the team": np.ones(spec.num_agents, bool)}
        )
    on = _sides(spec)
    names = tuple(dict.fromkeys(on))
    if len(names) != 2:
        raise ComarlError(
            f"cross-play is between two sides, and those of {spec.name} are {', '.join(names)}: an environment says in "
            "EnvSpec.sides who is on which"
        )
    first = np.array([side == names[0] for side in on])
    return Split(*names, first[None], {names[0]: first, names[1]: ~first})


def _sides(spec: EnvSpec) -> tuple[str, ...]:
    """Which side each agent is on."""
    if spec.sides:
        return spec.sides
    if spec.num_agents == 2:
        return ("agent 1", "agent 2")
    return tuple(f"type {1 + kind}" for kind in spec.types)


class Team(NamedTuple):
    """A team that was trained together."""

    run: Path
    method: str
    seed: int


def cross_play(
    folders: Sequence[Path], episodes: int = 512, *, sampled: bool = False, progress: "Progress | None" = None
) -> dict[str, Any]:
    """Let the teams of all seeds of finished runs play each other, and themselves, in the evaluation's episodes.

    Args:
        folders: the run folders.
        episodes: how many each pair of teams plays, in each way to split the agents.
        sampled: whether agents explore as in training (draw from their policies), rather than act greedily.
        progress: who is told.

    Returns:
        ``env``, ``score``, ``episodes`` and ``sampled``; who ``rows`` and ``columns`` are; the ``teams``, each with its
        ``run``, ``method`` and ``seed``; and ``sides``, each with its ``name``, its ``agents`` (from 1) and its
        ``scores``, a row for each team that plays the first part and a column for each that plays the second.

    Raises:
        ComarlError: as :func:`load_meeting` and :func:`split` do, if a run is not finished, or if the runs score a team
            differently.
    """
    if episodes < 1:
        raise ComarlError(f"episodes={episodes}: must be positive")
    configs = load_meeting(folders)
    from comarl.experiments.backend import prepare
    from comarl.experiments.build import build_env
    from comarl.experiments.evaluating import load_policies
    from comarl.experiments.progress import Silent

    prepare()
    env = build_env(configs[0])
    parts = split(env.spec)
    _require_one("scored differently", folders, [_score_name(env.spec, config) for config in configs])
    progress = progress or Silent()
    teams: dict[Team, Policy] = {}
    for folder, config in zip(folders, configs, strict=True):
        policies = load_policies(folder, config, env)
        teams |= {Team(folder, config.method, seed): policy for seed, policy in policies.items()}
    scores = _play_all(env, configs[0], list(teams.values()), parts, episodes, sampled, progress)
    return {
        "env": env.spec.name,
        "score": _score_name(env.spec, configs[0]),
        "episodes": episodes,
        "sampled": sampled,
        "rows": parts.rows,
        "columns": parts.columns,
        "teams": [{"run": str(team.run), "method": team.method, "seed": team.seed} for team in teams],
        "sides": [
            {"name": name, "agents": (1 + np.flatnonzero(who)).tolist(), "scores": _rounded(scores[..., i])}
            for i, (name, who) in enumerate(parts.sides.items())
        ],
    }


def _play_all(
    env: "Env | Hosted",
    config: RunConfig,
    policies: "list[Policy]",
    parts: Split,
    episodes: int,
    sampled: bool,
    progress: "Progress",
) -> Float[np.ndarray, "teams teams sides"]:
    """Every team in the rows against every team in the columns."""
    import jax.numpy as jnp

    from comarl.training.mixed import MixedTeam
    from comarl.training.players import make_player

    player = make_player(env, episodes, explore=sampled)
    score = _scorer(env.spec, config, parts)
    scores = np.zeros((len(policies), len(policies), len(parts.sides)))
    for i, row in enumerate(policies):
        progress.say(f"{parts.rows} of team {i + 1} of {len(policies)} with {parts.columns} of each team …")
        for j, column in enumerate(policies):
            mixtures = [MixedTeam((row, column), jnp.where(first, 0, 1)) for first in parts.first]
            scores[i, j] = np.mean([score(player(mixture)) for mixture in mixtures], axis=0)
    if not np.isfinite(scores).all():
        raise ComarlError(
            f"{config.env} gave a reward that is not a finite number: run 'comarl check-env {config.env}'"
        )
    return scores


def _scorer(spec: EnvSpec, config: RunConfig, parts: Split) -> "Callable[[Episodes], list[float]]":
    """From episodes to each side's score: the mean return of its agents; of a common team as in its evaluation."""

    def scores(episodes: "Episodes") -> list[float]:
        returns = np.asarray(episodes.returns, np.float64)
        if spec.opposed:
            return [float(returns[:, who].mean()) for who in parts.sides.values()]
        outcome = {name: np.asarray(value) for name, value in episodes.outcome.items()}
        return [float(episode_scores(config, returns, outcome).mean())]

    return scores


def _score_name(spec: EnvSpec, config: RunConfig) -> str:
    if spec.opposed:
        return "return (mean over a side's agents, summed over the episode)"
    return score_name(config, spec.outcomes)


def _rounded(x: Float[np.ndarray, "rows columns"]) -> list[list[float]]:
    return (x.round(4) + 0.0).tolist()
