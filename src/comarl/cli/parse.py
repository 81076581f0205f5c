"""Arguments by tyro; every mistake is one line."""

import contextlib
import difflib
import io
import itertools
import re
from typing import Any, TypeVar

import tyro

from comarl.envs.registry import make_env, names
from comarl.errors import ComarlError

T = TypeVar("T")

PLAIN_WORDS = (
    (r"Error parsing (--[\w-]+): (.*)", r"\1: \2"),
    (r"could not convert string to float: ('.*?')", r"\1 is not a number"),
    (r"invalid literal for int\(\) with base 10: ('.*?')", r"\1 is not a whole number"),
    (r"invalid choice ('.*?') for argument '(.*?)'\. Expected one of \((.*)\) ?\.", r"\2: \1 is none of \3"),
    (r"Missing from (.*?): (\S+) .*", r"\1: which \2?"),
    (r"Missing value for argument '(.*?)'\. Expected 1 values\.", r"\1 needs a value"),
)
"""What tyro and Python say, and what we say."""


def parse(arguments: type[T], command: str, words: list[str], **options: Any) -> T:
    """The dataclass ``arguments`` filled from ``words``; prints the help and exits if they ask for it.

    Args:
        arguments: whose fields are the options.
        command: how the program is called, for the help.
        words: what stands after the command.
        options: for :func:`tyro.cli`: ``default``, ``description``.

    Raises:
        ComarlError: if the words do not fit, with the nearest option for one that is unknown.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = _tyro(arguments, command, words, options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ComarlError(f"{_first_paragraph(said.getvalue())} ('{command} --help' shows the options)") from None
    if unknown:
        raise _unknown(arguments, command, unknown)
    return parsed


def require_env(name: str) -> None:
    """Refuse an unknown environment, without importing JAX.

    Raises:
        ComarlError: with the nearest name.
    """
    if ":" not in name and name not in names():
        make_env(name)


def _tyro(arguments: type[T], command: str, words: list[str], options: dict[str, Any]) -> tuple[T, list[str]]:
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(arguments, prog=command, args=words, config=config, return_unknown_args=True, **options)


def _unknown(arguments: type[Any], command: str, words: list[str]) -> ComarlError:
    options = [word for word in words if word.startswith("-")]
    advice = f"('{command} --help' shows the options)"
    if not options:
        return ComarlError(f"{command}: '{words[0]}' is one argument too many {advice}")
    name = options[0].split("=")[0]
    near = difflib.get_close_matches(name.strip("-").replace("_", "-"), _known(arguments, command), n=1, cutoff=0.5)
    hint = f": did you mean '--{near[0]}'?" if near else ""
    return ComarlError(f"{command}: unknown option '{name}'{hint} {advice}")


def _known(arguments: type[Any], command: str) -> list[str]:
    """The options without dashes, read off the help."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        _tyro(arguments, command, ["--help"], {})
    return sorted(set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text.getvalue())))


def _first_paragraph(box: str) -> str:
    """What tyro says in its box between the title and the first rule, on one line."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]  # drawn with blanks and dashes where there is no UTF-8
    ruled = itertools.groupby(lines, lambda line: not line.strip("─╰╯-"))
    said = next((list(group) for is_rule, group in ruled if not is_rule), lines)
    sentence = " ".join(" ".join(said).split())
    for pattern, words in PLAIN_WORDS:
        sentence = re.sub(pattern, words, sentence)
    return sentence.rstrip(".")
