"""One recorded episode of an environment or of a finished run, to be drawn."""

from pathlib import Path
from typing import NamedTuple

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted
from comarl.envs.one_agent import OneAgent, Unjoined
from comarl.envs.registry import make_env
from comarl.errors import ComarlError
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_env
from comarl.experiments.evaluating import load_policies
from comarl.experiments.folder import load_config
from comarl.training.baselines import baselines
from comarl.training.evaluate import Moment
from comarl.training.players import record_once


class Recorded(NamedTuple):
    """An episode.

    Attributes:
        env: the environment, with all its agents.
        policy: who plays, in words.
        moments: its ``T + 1`` moments.
        is_run: whether a run folder was named.
    """

    env: Env | Hosted
    policy: str
    moments: list[Moment]
    is_run: bool


def play_episode(what: str, policy: str | None = None, seed: int | None = None, episode: int = 0) -> Recorded:
    """Play one of the episodes that every evaluation plays.

    Args:
        what: a run folder, or an environment's name.
        policy: the name of a fixed policy; if left out, the run's own greedy one, or ``random`` in an environment.
        seed: which seed of the run plays; the first one if left out.
        episode: its number, from 0.

    Raises:
        ComarlError: if there is no such run, environment, policy or seed.
    """
    prepare()
    is_run = Path(what).is_dir()
    # One that Python steps is stepped in this process: another one would have to send its pictures.
    env = make_env(load_config(Path(what)).env if is_run else what, workers=0)
    if is_run and policy is None:
        words, player = _learned(Path(what), seed)
    else:
        words = policy or "random"
        player = _fixed(env, words)
    moments, _ = record_once(env, player, episode, pictures=True)
    return Recorded(env, words, moments, is_run)


def _fixed(env: Env | Hosted, name: str) -> Policy:
    known = baselines(env)
    if name not in known:
        raise ComarlError(f"policy '{name}': {env.spec.name} has {', '.join(known)}")
    return known[name]


def _learned(folder: Path, seed: int | None) -> tuple[str, Policy]:
    config = load_config(folder)
    env = build_env(config)
    policies = load_policies(folder, config, env)
    seed = config.seed if seed is None else seed
    if seed not in policies:
        raise ComarlError(f"{folder} has the seeds {', '.join(map(str, policies))}, not {seed}")
    policy = policies[seed]
    return f"{config.method}, seed {seed}", Unjoined(env.joining, policy) if isinstance(env, OneAgent) else policy
