"""``comarl sweep``."""

import dataclasses
import statistics
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from comarl.cli.output import JsonFlag, reporting, table_console
from comarl.cli.parse import parse, require_env
from comarl.cluster import LOCAL
from comarl.errors import ComarlError
from comarl.experiments import sweep as experiments
from comarl.experiments.folder import write_json
from comarl.experiments.methods import METHODS
from comarl.experiments.scores import short, show_score
from comarl.experiments.sweep import Result, Start, Task
from comarl.report.progress import LineProgress, LiveProgress, make_progress


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train seeds × methods × environments × settings as Ray tasks, and compare them in a table.

    Finished runs are kept: the same command again runs what is missing, and with more seeds or values what is new.
    """

    methods: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="METHOD...", help_behavior_hint="")
    ] = ()
    """What is learned ('comarl list' shows all)."""
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENV...")] = ("smax/3m",)
    """Where."""
    seeds: int = 3
    """Seeds of each."""
    seed: int = 0
    """The first seed; the others follow it."""
    set: tyro.conf.UseAppendAction[
        Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,...", help_behavior_hint="(may be repeated)")]
    ] = ()
    """A setting of 'comarl train', such as lr=1e-3, or several values of it, each of which is run: lr=1e-3,5e-4."""
    folder: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/sweep")
    """Where the results go; with a cluster a folder that all machines share."""
    ray: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = LOCAL
    """A running Ray: auto, HOST:PORT or ray://HOST:PORT; local starts one on this machine."""
    cpus: float = 1.0
    """CPUs that each run takes up."""
    gpus: float = 0.0
    """GPUs, or a part of one, that each run takes up."""
    retries: int = 2
    """How often a run is begun again whose process was lost."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def sweep(words: list[str]) -> int:
    """Run what is missing, and compare; the status is 1 if a run has failed."""
    args = parse(Sweep, "comarl sweep", words)
    tasks = _plan(args)
    with reporting(args.json) as report:
        result = run(tasks, lambda: _ray(args), args.folder, args.retries)
        table_console().print(_table(result["groups"], tasks[0].varied))
        print(f"wrote {args.folder / 'sweep.json'}")
        report(result)
    return 1 if result["failed"] else 0


def run(tasks: list[Task], start: Start, folder: Path, retries: int) -> dict[str, Any]:
    """Run tasks and write ``sweep.json`` after each; what it says at the end."""
    progress = make_progress()
    results: list[Result] = []

    def said(result: Result, count: int) -> None:
        results.append(result)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "sweep.json", _object(folder, results, len(tasks)))
        progress.say(f"{count} of {len(tasks)}: {result.task.name}: {_news(result)}")
        if result.attempts and count < len(tasks):
            progress.say(f"{len(tasks) - count} to go …")

    try:
        ordered = experiments.sweep(tasks, lambda: _announced(start, progress), retries=retries, said=said)
    finally:
        progress.stop()
    result = _object(folder, ordered, len(tasks))
    write_json(folder / "sweep.json", result)
    return result


def _announced(start: Start, progress: "LineProgress | LiveProgress") -> Any:
    progress.say("starting Ray …")
    return start()


def _plan(args: Sweep) -> list[Task]:
    """The tasks, if there is none among them that could not be run."""
    if not args.methods:
        raise ComarlError(f"comarl sweep: which METHOD...? Any of {', '.join(METHODS)}")
    for env in args.env:
        require_env(env)
    for name, value in (("seeds", args.seeds), ("cpus", args.cpus)):
        if value <= 0:
            raise ComarlError(f"{name}={value:g}: must be positive")
    for name, value in (("retries", args.retries), ("gpus", args.gpus)):
        if value < 0:
            raise ComarlError(f"{name}={value:g}: must not be negative")
    settings = dict(map(experiments.read_setting, args.set))
    if len(settings) < len(args.set):
        raise ComarlError("--set names a setting twice: write all its values behind one, as in lr=1e-3,5e-4")
    methods, envs = tuple(dict.fromkeys(args.methods)), tuple(dict.fromkeys(args.env))
    return experiments.plan(methods, envs, settings, range(args.seed, args.seed + args.seeds), args.folder)


def _ray(args: Sweep) -> Any:
    from comarl.experiments.ray_tasks import ray_tasks

    return ray_tasks(args.ray, args.cpus, args.gpus)


def _score(summary: dict[str, Any]) -> float:
    return (summary.get("win_rate") or summary["return"])["mean"]


def _news(result: Result) -> str:
    if result.summary is None:
        return f"failed: {result.reason}"
    kept = ", finished before" if result.attempts == 0 else ""
    return f"{short(result.summary['score'])} {show_score(result.summary['score'], _score(result.summary))}{kept}"


def _object(folder: Path, results: list[Result], planned: int) -> dict[str, Any]:
    """The JSON object: every run, and the runs that differ in nothing but the seed together."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(str(result.task.config.folder.parent), []).append(result)
    return {
        "folder": str(folder),
        "planned": planned,
        "failed": sum(result.summary is None for result in results),
        "groups": [_group(of) for of in groups.values()],
        "runs": [_run(result) for result in results],
    }


def _group(results: list[Result]) -> dict[str, Any]:
    task, done = results[0].task, [result.summary for result in results if result.summary]
    scores = [_score(summary) for summary in done]
    return {
        **_what(task),
        "score": done[0]["score"] if done else None,
        "mean": round(statistics.mean(scores), 4) if scores else None,
        "lowest": min(scores, default=None),
        "highest": max(scores, default=None),
        "random": done[0]["random"] if done else None,
        "seeds": len(scores),
        "failed": len(results) - len(scores),
    }


def _run(result: Result) -> dict[str, Any]:
    return {
        **_what(result.task),
        "seed": result.task.config.seed,
        "score": _score(result.summary) if result.summary else None,
        "failed": result.reason or None,
        "attempts": result.attempts,
        "run": str(result.task.config.folder),
    }


def _what(task: Task) -> dict[str, Any]:
    return {"method": task.config.method, "env": task.config.env, "settings": task.settings}


def _table(groups: list[dict[str, Any]], varied: tuple[str, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("method", "environment"):
        table.add_column(column)
    for column in (*varied, "score", "mean", "lowest", "highest", "random", "seeds", "failed"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for group in groups:
        name = group["score"]
        values = [group[key] for key in ("mean", "lowest", "highest", "random")]
        table.add_row(
            group["method"],
            group["env"],
            *(str(group["settings"][setting]) for setting in varied),
            short(name) if name else "–",
            *("–" if value is None else show_score(name, value) for value in values),
            str(group["seeds"]),
            str(group["failed"] or ""),
        )
    return table
