"""What a run has learned: its policies, how they play, and what its summary says of it."""

import contextlib
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted
from comarl.errors import ComarlError
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import load_config
from comarl.experiments.methods import METHODS
from comarl.experiments.progress import Progress, Silent
from comarl.experiments.saving import Checkpoints
from comarl.experiments.scores import episode_scores, score_key, score_name
from comarl.training import checkpoint
from comarl.training.baselines import baselines
from comarl.training.evaluate import Episodes
from comarl.training.players import make_player, play_once


def evaluate(
    folder: Path, episodes: int = 512, progress: Progress | None = None, *, best: bool = False
) -> dict[str, Any]:
    """Play each seed's greedy policy of a finished run, and the fixed policies beside it.

    With ``best`` it is that of the checkpoint with the best evaluation, and the run need not have finished. The best of
    several noisy scores flatters: it is for use, not for comparing methods.

    Raises:
        ComarlError: if the folder holds no finished run (or no such checkpoint), or ``episodes`` is not positive.
    """
    if episodes < 1:
        raise ComarlError(f"episodes={episodes}: must be positive")
    config = load_config(folder)
    prepare()
    env = build_env(config)
    progress = progress or Silent()
    results: list[Episodes] = []
    player = make_player(env, episodes)
    policies = (load_best_policies if best else load_policies)(folder, config, env)
    for seed, policy in policies.items():
        progress.say(f"playing {episodes} episodes with seed {seed} …")
        results.append(player(policy))
    progress.say("playing the fixed policies …")
    fixed = {name: play_once(env, policy, episodes) for name, policy in baselines(env).items()}
    sampled = sampled_scores(config, env, list(policies.values()), episodes)
    return summarise(config, results, fixed) | sampled | {"episodes": episodes}


def load_policies(folder: Path, config: RunConfig, env: Env | Hosted) -> dict[int, Policy]:
    """Each seed's policy of a finished run."""
    algorithm = build_driver(config, env).learner.algorithm
    return {s: algorithm.policy(state, config.steps) for s, state in load_states(folder, config, env).items()}


def load_best_policies(folder: Path, config: RunConfig, env: Env | Hosted) -> dict[int, Policy]:
    """Each seed's policy at the checkpoint with the best evaluation."""
    driver = build_driver(config, env)
    policy = driver.learner.algorithm.policy
    with contextlib.closing(Checkpoints(folder, config, driver)) as checkpoints:
        return {s: policy(x.state.learner, x.step) for s, x in checkpoints.best().items()}


def load_states(folder: Path, config: RunConfig, env: Env | Hosted) -> dict[int, Any]:
    """Each seed's learner of a finished run: all of its networks, and not the agents' alone."""
    like = jax.eval_shape(build_driver(config, env).learner.algorithm.init, jax.random.key(0))
    seeds = range(config.seed, config.seed + config.seeds)
    return {s: checkpoint.load(folder / f"seed_{s}", like) for s in seeds}


def sampled_scores(config: RunConfig, env: Env | Hosted, policies: list[Policy], episodes: int) -> dict[str, Any]:
    """The scores of actions drawn from each seed's policy, under ``sampled``; nothing where agents act by values."""
    if METHODS[config.method].values:
        return {}
    return {"sampled": _per_seed(config, list(map(make_player(env, episodes, explore=True), policies)))}


def mean_score(config: RunConfig, episodes: Episodes) -> float:
    """The mean over episodes of what a run is judged by (:func:`comarl.experiments.scores.score_name`)."""
    outcome = {name: np.asarray(value) for name, value in episodes.outcome.items()}
    return float(episode_scores(config, np.asarray(episodes.returns), outcome).mean())


def _final_score(config: RunConfig, episodes: Episodes) -> float:
    score = mean_score(config, episodes)
    if not math.isfinite(score):
        advice = f"run 'comarl check-env {config.env}'"
        raise ComarlError(f"{config.env} gave a reward that is not a finite number (in an evaluation): {advice}")
    return round(score, 4)


def summarise(config: RunConfig, results: list[Episodes], fixed: dict[str, Episodes]) -> dict[str, Any]:
    """What ``summary.json`` says of how each seed's policy and the fixed ones play.

    Args:
        config: of the run.
        results: of each seed.
        fixed: of the fixed policies, by their names.

    Raises:
        ComarlError: if a score or an outcome is not a finite number.
    """
    outcomes = results[0].outcome
    return {
        "method": config.method,
        "env": config.env,
        "learner": config.learner.learner,
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "score": score_name(config, outcomes),
        score_key(outcomes): _per_seed(config, results),
        **{name: _final_score(config, e) for name, e in fixed.items()},
        **_outcomes(config, results, fixed),
    }


def _outcomes(config: RunConfig, results: list[Episodes], fixed: dict[str, Episodes]) -> dict[str, Any]:
    """The mean of each outcome that is not itself the score; nothing where the environment reports no other."""

    def mean(episodes: Episodes, name: str) -> float:
        value = float(np.mean(episodes.outcome[name]))
        if not math.isfinite(value):
            raise ComarlError(
                f"{config.env} gave an outcome '{name}' that is not a finite number (in an evaluation): "
                f"run 'comarl check-env {config.env}'"
            )
        return round(value, 4)

    table = {
        name: {"per_seed": [mean(e, name) for e in results], **{policy: mean(e, name) for policy, e in fixed.items()}}
        for name in results[0].outcome
        if name != "won"
    }
    return {"outcomes": table} if table else {}


def _per_seed(config: RunConfig, results: list[Episodes]) -> dict[str, Any]:
    per_seed = [_final_score(config, r) for r in results]
    return {"mean": round(float(np.mean(per_seed)), 4), "per_seed": per_seed}
