"""What a factorisation does, and who weighs whom: ``comarl surface``, ``comarl regret`` and ``comarl attention``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse
from comarl.experiments.folder import load_config, require_episode
from comarl.experiments.methods import require_method
from comarl.report import attention as attentions
from comarl.report import regret as regrets
from comarl.report import surface as surfaces
from comarl.report.figures import require_picture


@dataclasses.dataclass(frozen=True)
class Surface:
    """Draw Q_tot over the utilities of two agents, fitted to the payoffs of a matrix game."""

    game: Annotated[
        str, tyro.conf.arg(metavar="GAME", help_behavior_hint=f"(one of {', '.join(surfaces.GAMES)}; default: qtran)")
    ] = "qtran"
    """The matrix game."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD...")] = surfaces.DEFAULT_METHODS
    """What is fitted, a panel each."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("surface.png")
    """The picture; its ending says the format (.png, .pdf, .svg)."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def surface(words: list[str]) -> int:
    """Fit, draw, and name the file."""
    args = parse(Surface, "comarl surface", words)
    surfaces.require_names(args.game, args.methods)
    require_picture(args.out)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            result = surfaces.run_surface(args.game, args.methods, progress)
        surfaces.draw_surface(result, args.out)
        table_console().print(surfaces.fit_table(result))
        print(f"wrote {args.out}")
        report({**result, "file": str(args.out)})
    return 0


@dataclasses.dataclass(frozen=True)
class Regret:
    """How often each method's greedy joint action is the best one, fitted to random matrix games."""

    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD...")] = regrets.DEFAULT_METHODS
    """What is fitted."""
    games: int = 100
    """How many games are drawn."""
    actions: int = 3
    """Actions of each agent."""
    agents: int = 2
    """Agents of each game."""
    payoffs: regrets.Payoffs = "uniform"
    """How payoffs are drawn: uniform in [0, 1], or standard normal."""
    seed: int = 0
    """Of the payoffs and of the initial parameters."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: no picture)")] = None
    """A picture of the table; its ending says the format (.png, .pdf, .svg)."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def regret(words: list[str]) -> int:
    """Fit, print, and draw if asked."""
    args = parse(Regret, "comarl regret", words)
    for method in args.methods:
        require_method(method)
    regrets.require_sizes(args.games, args.agents, args.actions, args.seed)
    if args.out:
        require_picture(args.out)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            result = regrets.run_regret(
                args.methods,
                progress,
                games=args.games,
                agents=args.agents,
                actions=args.actions,
                payoffs=args.payoffs,
                seed=args.seed,
            )
        if args.out:
            regrets.draw_regret(result, args.out)
        regrets.print_regret(result, table_console())
        if args.out:
            print(f"wrote {args.out}")
        report({**result, "file": str(args.out) if args.out else None})
    return 0


@dataclasses.dataclass(frozen=True)
class Attention:
    """Draw how a trained mixer or critic weighs the agents over a greedy episode, above what happens in it."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder, of qplex, qatten or maac."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(default: the run's first)")] = None
    """Which of its seeds plays."""
    episode: Annotated[int, tyro.conf.arg(metavar="E")] = 0
    """Which of the evaluation's episodes, from 0; they are the same ones every time."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/attention.png)")] = None
    """The picture; its ending says the format (.png, .pdf, .svg)."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def attention(words: list[str]) -> int:
    """Play, draw, and name the file."""
    args = parse(Attention, "comarl attention", words)
    attentions.require_attentive(load_config(args.run))
    require_episode(args.episode)
    out = args.out or args.run / "attention.png"
    require_picture(out)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            result = attentions.run_attention(args.run, args.seed, args.episode, progress)
        attentions.draw_attention(result, out)
        print(attentions.headline(result))
        print(f"wrote {out}")
        report({**result, "file": str(out)})
    return 0
