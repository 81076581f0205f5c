"""The command line. What a command needs is imported when it runs: ``comarl --help`` must not wait for JAX."""

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from comarl import __version__
from comarl.errors import ComarlError, Stopped
from comarl.garbage import uncollected

COMMANDS = {
    "train": ("comarl.cli.train:train", "train a team: comarl train qmix --env smax/3m --seeds 3"),
    "resume": ("comarl.cli.train:resume", "go on with a run that was stopped or killed, bit for bit"),
    "sweep": ("comarl.cli.sweep:sweep", "seeds × methods × settings as Ray tasks, compared in a table"),
    "demo": ("comarl.cli.train:demo", "train QMIX on SMAX 3m, three seeds, into runs/demo"),
    "evaluate": ("comarl.cli.runs:evaluate", "play the greedy policies of a finished run"),
    "cross-play": ("comarl.cli.runs:cross_play", "agents of one team with those of another they never trained with"),
    "export": ("comarl.cli.export:export", "write a run's greedy policies to files that play without JAX"),
    "reproduce": ("comarl.cli.runs:reproduce", "train a finished run again, and compare: the same, bit for bit?"),
    "plot": ("comarl.cli.runs:plot", "draw the learning curves of one or more runs"),
    "render": ("comarl.cli.render:render", "draw an episode: comarl render switch/2 --policy optimal"),
    "list": ("comarl.cli.catalogue:catalogue", "methods, learners, environments and presets"),
    "check-env": ("comarl.cli.catalogue:check_env", "check an environment, also your own, and name what is wrong"),
    "bench": (
        "comarl.cli.bench:bench",
        "where a training's time goes on this machine, phase by phase",
    ),
    "tables": ("comarl.cli.tables:tables", "learned beside exact values on a small game"),
    "surface": ("comarl.cli.seeing:surface", "Q_tot over two agents' utilities, as a picture"),
    "regret": ("comarl.cli.seeing:regret", "is the greedy joint action the best one? On random games"),
    "attention": ("comarl.cli.seeing:attention", "how a trained mixer or critic weighs the agents over an episode"),
}
"""Each command's function (it takes the arguments after the command and returns the exit status) and a summary."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. A user's mistake is one line on standard error and status 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ε shows a question mark
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except Stopped as stop:
        print("stopped", stop, file=sys.stderr)
        return stop.status
    except ComarlError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted; what was written until now stays", 130)
    except BrokenPipeError:
        # Whoever read standard output has left (comarl list | head): Python must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise ComarlError(f"which command? One of {', '.join(COMMANDS)} ('comarl --help' shows them)")
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"comarl {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise ComarlError(f"unknown command '{name}'{hint} ('comarl --help' shows all)")
    module, function = COMMANDS[name][0].split(":")
    with uncollected():
        run = getattr(importlib.import_module(module), function)
    return run(rest)


def _help() -> str:
    commands = "\n".join(f"  {name:10} {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "usage: comarl [-h] [--version] COMMAND ...\n\n"
        "Train cooperative teams whose agents learn together and act apart.\n\n"
        f"commands:\n{commands}\n\n"
        "'comarl COMMAND --help' shows a command's options."
    )


def _fail(message: str, status: int = 2) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status
