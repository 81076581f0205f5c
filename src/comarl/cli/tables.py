"""``comarl tables``."""

import dataclasses
from typing import Annotated

import tyro

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse
from comarl.errors import ComarlError
from comarl.experiments.methods import require_method
from comarl.report.tables import DEFAULT_METHODS, GAMES, print_tables, run_tables, unknown_game


@dataclasses.dataclass(frozen=True)
class Tables:
    """Train methods on a small game with their presets, and print what they learned beside what is exact."""

    game: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="GAME", help_behavior_hint=f"(one of {', '.join(GAMES)})")
    ] = ""
    """What is played, with every joint action tried equally often."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD...")] = tuple(DEFAULT_METHODS)
    """What is trained."""
    seeds: int = 10
    """Seeds of each method."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def tables(words: list[str]) -> int:
    """Train and print."""
    args = parse(Tables, "comarl tables", words)
    _require_names(args)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            result = run_tables(args.game, list(args.methods), args.seeds, progress)
        print_tables(result, table_console())
        report(result)
    return 0


def _require_names(args: Tables) -> None:
    """Refuse a mistyped name before anything is loaded."""
    if not args.game:
        raise ComarlError(f"comarl tables: which GAME? One of {', '.join(GAMES)}")
    if args.game not in GAMES:
        raise unknown_game(args.game)
    for method in args.methods:
        require_method(method)
