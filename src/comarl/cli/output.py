"""Standard output: a table for people, or one JSON object for programs."""

import contextlib
import json
import sys
from collections.abc import Callable, Generator
from typing import Annotated, Any

import tyro
from rich.console import Console

from comarl.report.progress import LineProgress, LiveProgress, make_progress

JsonFlag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""``--json`` without a ``--no-json``."""

UNFOLDED = 120
"""Columns of a table that is written to a file or a pipe, so that no cell is folded to a terminal's width."""


@contextlib.contextmanager
def reporting(as_json: bool) -> Generator[Callable[[dict[str, Any]], None], None, None]:
    """Gives the function that reports a command's result.

    With ``as_json`` it prints one JSON object, and whatever else is printed meanwhile goes to standard error.
    Otherwise it does nothing.
    """
    if not as_json:
        yield lambda result: None
        return
    out = sys.stdout

    def report(result: dict[str, Any]) -> None:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False), file=out)

    with contextlib.redirect_stdout(sys.stderr):
        yield report


@contextlib.contextmanager
def showing_progress() -> Generator[LiveProgress | LineProgress, None, None]:
    """The display on standard error; it begins with the import of JAX, which the block does first."""
    progress = make_progress()
    try:
        progress.say("loading JAX …")
        yield progress
    finally:
        progress.stop()


def table_console() -> Console:
    """The console for tables, on whatever standard output is now."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)
