"""``comarl bench``."""

import dataclasses
from typing import Annotated

import tyro

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse, require_env
from comarl.errors import ComarlError
from comarl.experiments.config import RunConfig
from comarl.experiments.methods import METHODS, require_method, with_learner
from comarl.experiments.presets import resolve


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure where a training's time goes on this machine: for each phase time, operations and share of the peak.

    The settings are the preset's of the method and the environment, as in 'comarl train'. Nothing is written.
    """

    method: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD", help_behavior_hint=f"(one of {', '.join(METHODS)})")
    ] = ""
    """What is measured."""
    env: str = RunConfig.env
    """Where ('comarl list' shows all, or MODULE:FUNCTION of your own)."""
    rounds: int = 7
    """How often each phase is measured, in turn with the others."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def bench(words: list[str]) -> int:
    """Measure and print."""
    args = parse(Bench, "comarl bench", words)
    if not args.method:
        raise ComarlError(f"comarl bench: which METHOD? One of {', '.join(METHODS)}, as in 'comarl bench qmix'")
    require_method(args.method)
    require_env(args.env)
    if args.rounds < 1:
        raise ComarlError(f"--rounds={args.rounds} must be at least 1")
    config = resolve(args.method, args.env, {})
    with reporting(args.json) as report:
        with showing_progress() as progress:
            from comarl.experiments.backend import prepare

            prepare()
            from comarl.report.speed import machine, measure, phase_table

            progress.say("compiling and measuring; nothing else should run meanwhile …")
            result = measure(config, args.rounds)
        title = f"{config.method} on {config.env}{with_learner(config.method, config.learner.learner, ' with ')}: "
        table_console().print(phase_table(title + f"medians of {args.rounds} rounds", result))
        report({"method": config.method, "env": config.env, "rounds": args.rounds, "machine": machine(), **result})
    return 0
