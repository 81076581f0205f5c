"""Training and evaluating runs on disk.

A run folder holds ``config.json``, ``metrics.jsonl``, ``summary.json`` and ``seed_K/`` with each seed's learner.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted
from comarl.envs.conformance import require_conformance
from comarl.errors import ComarlError
from comarl.experiments.backend import prepare
from comarl.experiments.build import build_driver, build_env
from comarl.experiments.config import RunConfig, check
from comarl.experiments.folder import claim_folder, load_config, write_json
from comarl.experiments.methods import METHODS, require_learner, require_method, require_team_reward
from comarl.experiments.scores import episode_scores, score_key, score_name
from comarl.training import checkpoint
from comarl.training.baselines import baselines
from comarl.training.evaluate import Episodes
from comarl.training.host import HostDriver, HostSeeds
from comarl.training.logging import MetricsWriter, require_tensorboard
from comarl.training.ondevice import ChunkLog, OnDevice
from comarl.training.players import make_player, play_once
from comarl.training.seeds import Seeds, finished_episodes


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes on. A text that ends with … is under way until the next call."""

    def say(self, text: str) -> None:
        """A line of news."""
        ...

    def start(self, seeds: list[int], steps: int, score: str) -> None:
        """Training begins: so many environment steps per seed, and what a score is."""
        ...

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """A seed has come this far; ``row`` holds ``epsilon``, ``loss`` and the latest ``score``."""
        ...

    def stop(self) -> None:
        """Training is over, or broken off."""
        ...


class Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Nothing."""

    def start(self, seeds: list[int], steps: int, score: str) -> None:
        """Nothing."""

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its folder and what ``summary.json`` says."""

    folder: Path
    summary: dict[str, Any]


def train(config: RunConfig, progress: Progress | None = None) -> Run:
    """Train every seed of ``config`` and write the run folder.

    Raises:
        ComarlError: if the configuration or the folder cannot be used, or if a reward or a loss stops being a
            finite number; what was written until then stays.
    """
    progress = progress or Silent()
    require_method(config.method)
    require_team_reward(config.method, config.learner.team_reward)
    require_learner(config.method, config.learner.learner)
    check(config)
    prepare()
    env = build_env(config)
    require_conformance(env)
    if config.tensorboard:
        require_tensorboard()
    folder = claim_folder(config)
    writer = MetricsWriter(folder, tensorboard=config.tensorboard)
    try:
        return _train(config, env, folder, writer, progress)
    finally:
        progress.stop()
        writer.close()


def _train(config: RunConfig, env: Env | Hosted, folder: Path, writer: MetricsWriter, progress: Progress) -> Run:
    driver = build_driver(config, env)
    seeds = list(range(config.seed, config.seed + config.seeds))
    progress.say(f"compiling {config.method} on {config.env} …")
    programs = HostSeeds(driver, seeds) if isinstance(driver, HostDriver) else Seeds(driver, seeds)
    progress.say(f"compiled in {programs.compile_seconds:.1f} s; training starts")
    chunk_steps = driver.iterations * driver.steps_per_iteration
    chunks = math.ceil(config.steps / chunk_steps)
    progress.start(seeds, chunks * chunk_steps, score_name(config, env.spec.outcomes))
    last: dict[int, Episodes] = {}
    start = time.perf_counter()
    for seed, chunk, log in programs.run(chunks):
        steps = (chunk + 1) * chunk_steps
        learned = max(0, driver.learner.starts - chunk * driver.iterations)
        row = _write_chunk(driver, config, writer, seed, steps, log, learned)
        progress.update(seed, steps, row)
        _require_sound(config, log, seed, steps, learned)
        last[seed] = log.evaluation
    train_seconds = time.perf_counter() - start
    progress.stop()
    for seed in seeds:
        checkpoint.save(folder / f"seed_{seed}", programs.state(seed).learner)
    progress.say("playing the fixed policies …")
    fixed = {name: play_once(env, policy, config.eval_episodes) for name, policy in baselines(env).items()}
    policies = [driver.learner.algorithm.policy(programs.state(s).learner, config.steps) for s in seeds]
    for name, episodes in fixed.items():
        writer.write("baseline", policy=name, **_raw(episodes))
    summary = _summary(config, [last[s] for s in seeds], fixed) | {
        **_sampled(config, env, policies, config.eval_episodes),
        "env_steps": chunks * chunk_steps,
        "compile_seconds": round(programs.compile_seconds, 2),
        "train_seconds": round(train_seconds, 2),
    }
    write_json(folder / "summary.json", summary)
    return Run(folder, summary)


def evaluate(folder: Path, episodes: int = 512, progress: Progress | None = None) -> dict[str, Any]:
    """Play each seed's greedy policy of a finished run, and the fixed policies beside it.

    Raises:
        ComarlError: if the folder holds no finished run, or ``episodes`` is not positive.
    """
    if episodes < 1:
        raise ComarlError(f"episodes={episodes}: must be positive")
    config = load_config(folder)
    prepare()
    env = build_env(config)
    progress = progress or Silent()
    results: list[Episodes] = []
    player = make_player(env, episodes)
    policies = load_policies(folder, config, env)
    for seed, policy in policies.items():
        progress.say(f"playing {episodes} episodes with seed {seed} …")
        results.append(player(policy))
    progress.say("playing the fixed policies …")
    fixed = {name: play_once(env, policy, episodes) for name, policy in baselines(env).items()}
    sampled = _sampled(config, env, list(policies.values()), episodes)
    return _summary(config, results, fixed) | sampled | {"episodes": episodes}


def load_policies(folder: Path, config: RunConfig, env: Env | Hosted) -> dict[int, Policy]:
    """Each seed's policy of a finished run."""
    algorithm = build_driver(config, env).learner.algorithm
    return {s: algorithm.policy(state, config.steps) for s, state in load_states(folder, config, env).items()}


def load_states(folder: Path, config: RunConfig, env: Env | Hosted) -> dict[int, Any]:
    """Each seed's learner of a finished run: all of its networks, and not the agents' alone."""
    like = jax.eval_shape(build_driver(config, env).learner.algorithm.init, jax.random.key(0))
    seeds = range(config.seed, config.seed + config.seeds)
    return {s: checkpoint.load(folder / f"seed_{s}", like) for s in seeds}


def _sampled(config: RunConfig, env: Env | Hosted, policies: list[Policy], episodes: int) -> dict[str, Any]:
    """The scores of actions drawn from policies, which are what was trained; nothing where agents act by values."""
    if METHODS[config.method].values:
        return {}
    return {"sampled": _per_seed(config, list(map(make_player(env, episodes, explore=True), policies)))}


def _raw(episodes: Episodes) -> dict[str, Any]:
    return {"returns": episodes.returns, "length": episodes.length, **episodes.outcome}


def _write_chunk(
    driver: OnDevice | HostDriver,
    config: RunConfig,
    writer: MetricsWriter,
    seed: int,
    steps: int,
    log: ChunkLog,
    learned: int,
) -> dict[str, float]:
    """Write a chunk's rows; metrics are means over its iterations from ``learned`` on. Returns what a display shows."""
    metrics = {k: float(np.mean(v[learned:])) if learned < len(v) else math.nan for k, v in log.metrics.items()}
    metrics |= driver.learner.algorithm.schedules(steps)
    if isinstance(driver, HostDriver):
        metrics["dropped_episodes"] = float(np.sum(log.faults.dropped_episodes))
    at = {"seed": seed, "env_steps": steps}
    writer.write("train", **at, **metrics)
    writer.write("episodes", **at, **finished_episodes(log))
    writer.write("evaluation", **at, **_raw(log.evaluation))
    return metrics | {"score": _score(config, log.evaluation)}


def _require_sound(config: RunConfig, log: ChunkLog, seed: int, steps: int, learned: int) -> None:
    where = f"seed {seed}, before environment step {steps}"
    advice = f"run 'comarl check-env {config.env}'"
    if np.sum(log.faults.reward_not_finite):
        raise ComarlError(f"{config.env} gave a reward that is not a finite number ({where}): {advice}")
    if np.sum(log.faults.no_available_action):
        raise ComarlError(f"{config.env} left an agent without an available action ({where}): {advice}")
    if not np.isfinite(log.metrics["loss"][learned:]).all():
        raise ComarlError(f"the loss is not a finite number any more ({where}): lower --lr or --grad-clip")


def _score(config: RunConfig, episodes: Episodes) -> float:
    outcome = {name: np.asarray(value) for name, value in episodes.outcome.items()}
    return float(episode_scores(config, np.asarray(episodes.returns), outcome).mean())


def _final_score(config: RunConfig, episodes: Episodes) -> float:
    score = _score(config, episodes)
    if not math.isfinite(score):
        advice = f"run 'comarl check-env {config.env}'"
        raise ComarlError(f"{config.env} gave a reward that is not a finite number (in an evaluation): {advice}")
    return round(score, 4)


def _summary(config: RunConfig, results: list[Episodes], fixed: dict[str, Episodes]) -> dict[str, Any]:
    outcomes = results[0].outcome
    return {
        "method": config.method,
        "env": config.env,
        "learner": config.learner.learner,
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "score": score_name(config, outcomes),
        score_key(outcomes): _per_seed(config, results),
        **{name: _final_score(config, e) for name, e in fixed.items()},
        **_outcomes(results, fixed),
    }


def _outcomes(results: list[Episodes], fixed: dict[str, Episodes]) -> dict[str, Any]:
    """The mean of each outcome that is not itself the score; nothing where the environment reports no other."""
    names = [name for name in results[0].outcome if name != "won"]
    mean = lambda episodes, name: round(float(np.mean(episodes.outcome[name])), 4)  # noqa: E731
    table = {
        name: {"per_seed": [mean(e, name) for e in results], **{policy: mean(e, name) for policy, e in fixed.items()}}
        for name in names
    }
    return {"outcomes": table} if names else {}


def _per_seed(config: RunConfig, results: list[Episodes]) -> dict[str, Any]:
    per_seed = [_final_score(config, r) for r in results]
    return {"mean": round(float(np.mean(per_seed)), 4), "per_seed": per_seed}
