"""Commands on finished runs: ``comarl evaluate``, ``reproduce``, ``cross-play`` and ``plot``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse
from comarl.errors import ComarlError
from comarl.experiments.crossplay import cross_play as play_across
from comarl.experiments.crossplay import load_meeting
from comarl.report import crossplay as crossings
from comarl.report.figures import require_picture
from comarl.report.summary import score_table


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Play the greedy policies of a finished run, and the fixed policies on the same episodes."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    episodes: int = 512
    """Episodes for each policy; they are the same ones every time."""
    best: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play each seed's checkpoint with the best evaluation in place of its end; the run need not have finished."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def evaluate(words: list[str]) -> int:
    """Play and print the scores."""
    args = parse(Evaluate, "comarl evaluate", words)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            from comarl.experiments import evaluating

            summary = evaluating.evaluate(args.run, args.episodes, progress, best=args.best)
        table_console().print(score_table(summary))
        report(summary)
    return 0


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Train a finished run again, into RUN-again, and compare all that was measured and learned."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def reproduce(words: list[str]) -> int:
    """Train, compare, and say where the first difference is; status 1 if there is one."""
    args = parse(Reproduce, "comarl reproduce", words)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            from comarl.experiments.reproduce import reproduce as run_again

            result = run_again(args.run, progress)
        if result["versions"]:
            print(f"not the versions of {result['run']}: {', '.join(result['versions'])}")
        same = "the same, bit for bit" if result["equal"] else f"not the same: {result['difference']}"
        print(f"{result['run']} and {result['again']} are {same}")
        report(result)
    return 0 if result["equal"] else 1


@dataclasses.dataclass(frozen=True)
class CrossPlay:
    """Let agents of one team play with those of another that they were not trained with.

    The teams are all seeds of the runs. Where agents oppose each other, one side's come from one team and the other's
    from another; elsewhere one agent, each in turn, from one team and all the others from another.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...", help_behavior_hint="")] = ()
    """The run folders, all of one environment; a single one if it has several seeds."""
    episodes: int = 512
    """Episodes for each pair of teams; they are the same ones every time."""
    sampled: bool = False
    """Draw actions as in training, rather than play greedily."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="(default: RUN/cross_play.png of a single run, else cross_play.png)"
        ),
    ] = None
    """The picture; its ending says the format (.png, .pdf, .svg)."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def cross_play(words: list[str]) -> int:
    """Play, print, draw, and name the file."""
    args = parse(CrossPlay, "comarl cross-play", words)
    if not args.runs:
        raise ComarlError("comarl cross-play: which RUN? Run folders of one environment, or one with several seeds")
    load_meeting(args.runs)
    out = args.out or (args.runs[0] / "cross_play.png" if len(args.runs) == 1 else Path("cross_play.png"))
    require_picture(out)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            played = play_across(args.runs, args.episodes, sampled=args.sampled, progress=progress)
        result = crossings.with_means(played)
        crossings.draw_cross_play(result, out)
        crossings.print_cross_play(result, table_console())
        print(f"wrote {out}")
        report({**result, "file": str(out)})
    return 0


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw the learning curves of one or more runs into one picture."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...", help_behavior_hint="")] = ()
    """The run folders."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: RUN/learning_curve.png of a single run, else learning_curves.png)",
        ),
    ] = None
    """The picture; its ending says the format (.png, .pdf, .svg)."""


def plot(words: list[str]) -> int:
    """Draw, and name the file."""
    args = parse(Plot, "comarl plot", words)
    if not args.runs:
        raise ComarlError("comarl plot: which RUN? One or more run folders, as in 'comarl plot runs/demo'")
    from comarl.report.curves import draw, read_curve

    out = args.out or (args.runs[0] / "learning_curve.png" if len(args.runs) == 1 else Path("learning_curves.png"))
    draw([read_curve(folder) for folder in args.runs], out)
    print(f"wrote {out}")
    return 0
