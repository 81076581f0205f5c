"""What there is to train and where: ``comarl list`` and ``comarl check-env``."""

import dataclasses
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from comarl.cli.output import JsonFlag, reporting, showing_progress, table_console
from comarl.cli.parse import parse, require_env
from comarl.envs.registry import FAMILIES, make_env
from comarl.experiments.methods import LEARNERS, METHODS, Method
from comarl.experiments.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class List:
    """Show the methods, the learners, the environments and the presets."""

    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def catalogue(words: list[str]) -> int:
    """Print the tables."""
    args = parse(List, "comarl list", words)
    with reporting(args.json) as report:
        known = _known()
        console = table_console()
        for name, columns in COLUMNS.items():
            if known[name]:
                console.print(_table(name, columns, known[name]))
        report(known)
    return 0


COLUMNS = {
    "methods": ("name", "summary", "source", "actions", "learners"),
    "learners": ("name", "summary", "source"),
    "environments": ("family", "names"),
    "presets": ("method", "env", "learner", "measured", "source"),
}


def _known() -> dict[str, list[dict[str, Any]]]:
    return {
        "methods": [{"name": name, **_method(method)} for name, method in METHODS.items()],
        "learners": [{"name": n, "summary": x.summary, "source": x.source} for n, x in LEARNERS.items()],
        "environments": [
            {"family": f, "summary": family.summary, "names": [f"{f}/{v}" if v else f for v in family.variants]}
            for f, family in FAMILIES.items()
        ],
        "presets": [{"method": m, "env": e, "learner": x, **dataclasses.asdict(p)} for (m, e, x), p in PRESETS.items()],
    }


def _method(method: Method) -> dict[str, Any]:
    learners = [{"name": name, "refused": method.refuses.get(name)} for name in LEARNERS]
    actions = ["discrete", *(["continuous"] if method.continuous else [])]
    return {"summary": method.summary, "source": method.source, "actions": actions, "learners": learners}


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row, column) for column in columns))
    return table


def _cell(row: dict[str, Any], column: str) -> str:
    match column:
        case "names":
            return f"{row['summary']}:\n{', '.join(row['names'])}"
        case "actions":
            return "both" if len(row["actions"]) > 1 else row["actions"][0]
        case "learners":
            return ", ".join(x["name"] for x in row["learners"] if x["refused"] is None)
        case _:
            return row[column]


@dataclasses.dataclass(frozen=True)
class CheckEnv:
    """Check that an environment keeps to the protocol, and name what is wrong. The exit status is 1 if something is."""

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Its name ('comarl list' shows all), or MODULE:FUNCTION of your own."""
    json: JsonFlag = False
    """Print one JSON object on standard output and everything else on standard error."""


def check_env(words: list[str]) -> int:
    """Check, and print each problem."""
    args = parse(CheckEnv, "comarl check-env", words)
    require_env(args.env)
    with reporting(args.json) as report:
        with showing_progress() as progress:
            from comarl.envs import conformance

            env = make_env(args.env)
            progress.say(f"playing {args.env} …")
            problems = conformance.check_env(env)
        for problem in problems:
            print(f"{args.env}: {problem}")
        if not problems:
            print(f"{args.env}: nothing is wrong")
        report({"env": args.env, "ok": not problems, "problems": problems})
    return 1 if problems else 0
