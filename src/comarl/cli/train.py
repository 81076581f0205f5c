"""``comarl train``, ``comarl resume`` and ``comarl demo``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse, require_env
from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.folder import to_resume, written
from comarl.experiments.methods import METHODS, require_method, with_learner
from comarl.experiments.presets import PRESETS, resolve
from comarl.report.summary import costs, score_table


@dataclasses.dataclass(frozen=True)
class Train(RunConfig):
    """The settings of a run as a command line."""

    method: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD", help_behavior_hint=f"(one of {', '.join(METHODS)})")
    ] = ""
    """What is learned."""
    run: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/METHOD-ENV)")] = None
    """Where the results go."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""

    @classmethod
    def of(cls, config: RunConfig) -> "Train":
        """The command line that stands for ``config``."""
        return cls(**{f.name: getattr(config, f.name) for f in dataclasses.fields(RunConfig)})

    def config(self) -> RunConfig:
        """The configuration alone."""
        return RunConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(RunConfig)})


def train(words: list[str]) -> int:
    """Train a team. The defaults are the preset's of the method, environment and learner that ``words`` name."""
    settings = [word for word in words if word not in ("-h", "--help")]
    wants_help = settings != words
    wanted = _method_and_env(settings, wants_help)
    default = Train.of(resolve(wanted.method or "qmix", wanted.env, {"learner": wanted.learner.learner}))
    words = ["--help"] if wants_help else words
    args = parse(Train, "comarl train", words, default=default, description=_description(wanted))
    return _run(args.config(), args.json)


def _method_and_env(words: list[str], wants_help: bool) -> Train:
    """Parse with general defaults, only to see which preset's apply; help is given whatever else is wrong."""
    try:
        args = parse(Train, "comarl train", words, default=Train())
        _require_names(args)
        # Once more with the method's usual learner, which stands unless the words name another.
        args = parse(Train, "comarl train", words, default=Train.of(resolve(args.method, args.env, {})))
    except ComarlError:
        if not wants_help:
            raise
        return Train()
    return args


def _require_names(args: Train) -> None:
    if not args.method:
        raise ComarlError(f"comarl train: which METHOD? One of {', '.join(METHODS)}, as in 'comarl train qmix'")
    require_method(args.method)
    require_env(args.env)


def _description(wanted: Train) -> str:
    text = "Train a team and write its run folder: configuration, metrics, summary, learning curve, learners.\n\n"
    learner = wanted.learner.learner
    what = f"{wanted.method} on {wanted.env}" + with_learner(wanted.method, learner, " with ")
    preset = PRESETS.get((wanted.method, wanted.env, learner))
    if preset:
        return f"{text}The defaults are the preset's for {what} ({preset.source}), with \
which was measured: {preset.measured}"
    if wanted.method:
        return f"{text}There is no preset for {what}: the defaults are general."
    return f"{text}Name METHOD and --env to see the defaults of their preset."


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped or killed, exactly where its checkpoints left it."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the run's own)")] = None
    """Environment steps per seed, from the beginning on; more than the run was asked for go on from its end."""
    checkpoint_every: float = RunConfig.checkpoint_every
    """Seconds between two checkpoints of a seed, at least."""
    keep: int = RunConfig.keep
    """Checkpoints kept of each seed: the latest so many, and the one with the best evaluation."""
    max_time: str = RunConfig.max_time
    """Save and stop before so much time has passed, such as 90s, 45m or 1h30m; without a limit if left out."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def resume(words: list[str]) -> int:
    """Go on, with nothing changed that the result depends on."""
    args = parse(Resume, "comarl resume", words)
    settings = {"checkpoint_every": args.checkpoint_every, "keep": args.keep, "max_time": args.max_time}
    settings |= {} if args.steps is None else {"steps": args.steps}
    return _run(to_resume(args.run, settings), args.json)


@dataclasses.dataclass(frozen=True)
class Demo:
    """Train QMIX on SMAX 3m with its preset, three seeds, into runs/demo (replaced each time)."""

    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def demo(words: list[str]) -> int:
    """The main job on an embedded default."""
    args = parse(Demo, "comarl demo", words)
    return _run(resolve("qmix", "smax/3m", {"seeds": 3, "run": Path("runs/demo"), "overwrite": True}), args.json)


def _run(config: RunConfig, as_json: bool) -> int:
    with reporting(as_json) as report:
        with showing_progress() as progress:
            from comarl.experiments import runner

            run = runner.train(config, progress)
        without = _draw(run.folder)
        table_console().print(score_table(run.summary))
        print(costs(run.summary))
        files = [str(path) for path in written(run.folder)]
        print("wrote", *(f"  {name}" for name in files), sep="\n")
        if without:
            print(without)
        report({**run.summary, "run": str(run.folder), "files": files})
    return 0


def _draw(folder: Path) -> str:
    """Draw the run's learning curve; why not, if it cannot be drawn."""
    from comarl.report.curves import draw, read_curve

    try:
        draw([read_curve(folder)], folder / "learning_curve.png")
    except ComarlError as error:
        return f"no learning_curve.png: {error}"
    return ""
