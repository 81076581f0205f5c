"""Training runs on disk.

A run folder holds ``config.json``, ``metrics.jsonl``, ``summary.json`` and ``seed_K/`` with each seed's learner, and
in ``checkpoints`` the whole states from which a run that was broken off goes on.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from comarl.envs.base import Env, Hosted
from comarl.envs.conformance import require_conformance
from comarl.errors import ComarlError, Stopped
from comarl.experiments.backend import devices, prepare
from comarl.experiments.build import Driver, build_driver, build_env
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig, seconds_of
from comarl.experiments.evaluating import mean_score, sampled_scores, summarise
from comarl.experiments.folder import claim_folder, is_finished, read_json, to_resume, write_json
from comarl.experiments.lock import FolderLock
from comarl.experiments.methods import require_learner, require_method, require_team_reward
from comarl.experiments.progress import Progress, Silent
from comarl.experiments.provenance import note_session
from comarl.experiments.saving import Checkpoints
from comarl.experiments.scores import score_name
from comarl.training import checkpoint
from comarl.training.baselines import baselines
from comarl.training.evaluate import Episodes
from comarl.training.host import HostDriver, HostSeeds
from comarl.training.logging import Evaluations, MetricsWriter, cut_metrics, require_tensorboard
from comarl.training.ondevice import ChunkLog, RunState
from comarl.training.players import play_once
from comarl.training.seeds import Seeds, finished_episodes
from comarl.training.stopping import Timetable, obeying_signals


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its folder and what ``summary.json`` says."""

    folder: Path
    summary: dict[str, Any]


def train(config: RunConfig, progress: Progress | None = None) -> Run:
    """Train every seed of ``config`` and write the run folder, or go on with the run that is there (``resume``).

    Raises:
        Stopped: on SIGTERM or SIGINT, or when ``max_time`` is over; all of it is saved, to be resumed.
        ComarlError: if the configuration or the folder cannot be used, or if a reward, a gradient or a loss stops
            being a finite number; what was written until then stays.
    """
    until = time.monotonic() + seconds_of(config.max_time)
    progress = progress or Silent()
    require_method(config.method)
    require_team_reward(config.method, config.learner.team_reward)
    require_learner(config.method, config.learner.learner)
    check(config)
    prepare()
    devices(config.cpu_devices)  # before JAX computes anything
    env = build_env(config)
    require_conformance(env)
    if config.tensorboard:
        require_tensorboard()
    try:
        with FolderLock(config.folder) as lock:
            folder = claim_folder(config)
            if is_finished(folder):
                progress.say(f"{folder} has finished, nothing is left to do (more --steps go on from its end)")
                return Run(folder, read_json(folder / "summary.json"))
            return _train(config, env, lock, progress, until)
    finally:
        progress.stop()


def resume(folder: Path, progress: Progress | None = None, **settings: Any) -> Run:
    """Go on with the run of a folder: with its own configuration, but for ``settings``.

    Raises:
        Stopped: as :func:`train`.
        ComarlError: as :func:`train`; also if a setting would make another run of it.
    """
    return train(to_resume(folder, settings), progress)


def _train(config: RunConfig, env: Env | Hosted, lock: FolderLock, progress: Progress, until: float) -> Run:
    folder, driver = lock.folder, build_driver(config, env)
    seeds = list(range(config.seed, config.seed + config.seeds))
    with checkpoint.quiet(), contextlib.closing(Checkpoints(folder, config, driver)) as checkpoints:
        found, news = checkpoints.restore()
        for text in news:
            progress.say(text)
        begun = {seed: found[seed].step if seed in found else 0 for seed in seeds}
        last = _cut(driver, folder, begun)
        note_session(folder, config, begun)
        with contextlib.closing(MetricsWriter(folder, tensorboard=config.tensorboard, reached=begun)) as writer:
            progress.say(f"compiling {config.method} on {config.env} …")
            programs = _programs(driver, config, seeds, {seed: saved.state for seed, saved in found.items()})
            progress.say(f"compiled in {programs.compile_seconds:.1f} s; {_starts(begun)}")
            session = _Session(config, driver, lock, writer, checkpoints, progress)
            before = max((saved.notes["train_seconds"] for saved in found.values()), default=0.0)
            latest, train_seconds = _learn(session, programs, begun, before, until)
            progress.stop()
            costs = {
                "env_steps": programs.done[seeds[0]] * driver.iterations * driver.steps_per_iteration,
                "compile_seconds": round(programs.compile_seconds, 2),
                "train_seconds": round(train_seconds, 2),
            }
            return _finish(session, env, programs, last | latest, costs)


Programs = Seeds | HostSeeds


def _programs(driver: Driver, config: RunConfig, seeds: list[int], begin: Mapping[int, RunState]) -> Programs:
    if isinstance(driver, HostDriver):
        return HostSeeds(driver, seeds, begin)
    return Seeds(driver, seeds, begin, devices(config.cpu_devices))


class _Session(NamedTuple):
    """What belongs to a run while this process is at it."""

    config: RunConfig
    driver: Driver
    lock: FolderLock
    writer: MetricsWriter
    checkpoints: Checkpoints
    progress: Progress


def _learn(
    session: _Session, programs: Programs, begun: dict[int, int], before: float, until: float
) -> tuple[dict[int, Episodes], float]:
    """Train to the end; the last evaluation of each seed that had something left to do, and the seconds of training.

    A checkpoint is written after the rows that lead to it, and after nothing in them was found wrong.
    """
    config, driver, lock, writer, checkpoints, progress = session
    chunk_steps = driver.iterations * driver.steps_per_iteration
    chunks = math.ceil(config.steps / chunk_steps)
    progress.start(begun, chunks * chunk_steps, score_name(config, driver.env.spec.outcomes))
    last: dict[int, Episodes] = {}
    timetable = Timetable(chunks, config.checkpoint_every, until)
    start = time.perf_counter()
    with obeying_signals(timetable):
        for seed, number, log, snapshot in programs.run(chunks, timetable.decide):
            lock.require()
            steps = (number + 1) * chunk_steps
            learned = max(0, driver.learner.starts - number * driver.iterations)
            row = _write_chunk(driver, config, writer, seed, steps, log, learned)
            progress.update(seed, steps, row)
            _require_sound(session, log, seed, steps, learned)
            last[seed] = log.evaluation
            if snapshot is not None:
                writer.sync()
                checkpoints.save(seed, steps, snapshot, row["score"], before + time.perf_counter() - start)
        checkpoints.wait()
    if min(programs.done.values()) < chunks:
        reached = _where({seed: done * chunk_steps for seed, done in programs.done.items()})
        raise Stopped(
            f"by {timetable.why} and saved at {reached}: 'comarl resume {lock.folder}' goes on", timetable.status
        )
    return last, before + time.perf_counter() - start


def _finish(
    session: _Session, env: Env | Hosted, programs: Programs, last: dict[int, Episodes], costs: dict[str, Any]
) -> Run:
    """Write what is read of a finished run; the summary, which says that it has finished, at the very end."""
    config, driver, lock, writer, _, progress = session
    for seed in programs.seeds:
        checkpoint.save(lock.folder / f"seed_{seed}", programs.state(seed).learner)
    progress.say("playing the fixed policies …")
    fixed = {name: play_once(env, policy, config.eval_episodes) for name, policy in baselines(env).items()}
    policies = [driver.learner.algorithm.policy(programs.state(s).learner, config.steps) for s in programs.seeds]
    for name, episodes in fixed.items():
        writer.write("baseline", policy=name, **_raw(episodes))
    sampled = sampled_scores(config, env, policies, config.eval_episodes)
    summary = summarise(config, [last[s] for s in programs.seeds], fixed) | sampled | costs
    write_json(lock.folder / "summary.json", summary)
    return Run(lock.folder, summary)


def _starts(begun: dict[int, int]) -> str:
    return f"going on from {_where(begun)}" if any(begun.values()) else "training starts"


def _where(steps: dict[int, int]) -> str:
    if len(set(steps.values())) == 1:
        return f"environment step {min(steps.values())}"
    return "environment steps " + ", ".join(f"{count} (seed {seed})" for seed, count in steps.items())


def _cut(driver: Driver, folder: Path, begun: dict[int, int]) -> dict[int, Episodes]:
    """Take the rows after the checkpoints out of the metrics; the last evaluations before them.

    Raises:
        ComarlError: if rows before them are missing.
    """
    chunk_steps = driver.iterations * driver.steps_per_iteration

    def read(evaluations: Evaluations) -> dict[int, Episodes]:
        for seed, rows in evaluations.items():
            if [row["env_steps"] for row in rows] != list(range(chunk_steps, begun[seed] + 1, chunk_steps)):
                raise ComarlError(
                    f"{folder / 'metrics.jsonl'} does not hold each evaluation of seed {seed} until environment step "
                    f"{begun[seed]}, from which it would go on: put the file back, or train anew with --overwrite"
                )
        try:
            return {seed: _episodes(rows[-1]) for seed, rows in evaluations.items() if rows}
        except (KeyError, TypeError, ValueError) as error:
            raise ComarlError(
                f"{folder / 'metrics.jsonl'} holds an evaluation that nobody has written: {error}"
            ) from error

    return cut_metrics(folder, begun, read)


def _episodes(row: dict[str, Any]) -> Episodes:
    """An evaluation as it was before it was written."""
    plain = {
        k: jnp.asarray(np.asarray(v, np.float32)) for k, v in row.items() if k not in ("kind", "seed", "env_steps")
    }
    return Episodes(plain.pop("returns"), plain.pop("length").astype(jnp.int32), plain)


def _raw(episodes: Episodes) -> dict[str, Any]:
    return {"returns": episodes.returns, "length": episodes.length, **episodes.outcome}


def _write_chunk(
    driver: Driver,
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
    return metrics | {"score": mean_score(config, log.evaluation)}


def _require_sound(session: _Session, log: ChunkLog, seed: int, steps: int, learned: int) -> None:
    """Stop at what is not a finite number, or at an agent that can do nothing; by the first iteration that has it.

    Args:
        session: of the run.
        log: what a chunk reports.
        seed: whose it is.
        steps: environment steps at its end.
        learned: its first iteration that learns.

    Raises:
        ComarlError: with the step, the metric, the last checkpoint before it, and how to go on.
    """
    config, driver, checkpoints = session.config, session.driver, session.checkpoints

    def refuse(what: str, faulty: np.ndarray, advice: str) -> None:
        if not faulty.any():
            return
        step = steps - (faulty.size - 1 - int(np.argmax(faulty))) * driver.steps_per_iteration
        where = f"seed {seed}, before environment step {step}"
        raise ComarlError(f"{what} ({where}): {advice}; {checkpoints.last(seed)}")

    mend = f"run 'comarl check-env {config.env}'; once the environment is mended, 'comarl resume' goes on"
    rewards, actions = np.asarray(log.faults.reward_not_finite), np.asarray(log.faults.no_available_action)
    refuse(f"{config.env} gave a reward that is not a finite number", rewards > 0, mend)
    refuse(f"{config.env} left an agent without an available action", actions > 0, mend)
    learning = np.arange(len(rewards)) >= learned
    lower = "it would happen again with these settings, train anew with a lower --lr or --grad-clip"
    for name, values in sorted(log.metrics.items(), key=lambda item: item[0] != "loss"):
        if "loss" in name or "grad_norm" in name:
            what = "the loss" if name == "loss" else name
            refuse(f"{what} is not a finite number any more", learning & ~np.isfinite(values), lower)
