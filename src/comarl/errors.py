"""The one exception a user sees."""

import difflib
from collections.abc import Iterable


class ComarlError(Exception):
    """A mistake or a fault that a user can act on.

    The message is one line that says what is wrong and what to do. The command line prints it without a
    traceback and exits with status 2.
    """


class Stopped(ComarlError):  # noqa: N818 -- nothing went wrong
    """A run that was told to stop, and has saved itself.

    Attributes:
        status: what the command line exits with: 128 and the signal's number, or :data:`TIME_IS_UP`.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


TIME_IS_UP = 75
"""The exit status of a run that ``--max-time`` stopped: "temporary failure, try again" in sysexits.h."""


LONGEST_NAME = 200
"""Characters of an unknown name that a message repeats."""


def unknown_name(kind: str, name: str, known: Iterable[str], shown: str = "'comarl list' shows all") -> ComarlError:
    """The error for a name that is not in a registry, with the nearest known name and where the others are ``shown``.

    Of a name that is too long to be one, such as a spoilt file has, only the beginning is told.

    >>> str(unknown_name("method", "qmx", ["iql", "qmix"]))
    "unknown method 'qmx': did you mean 'qmix'? ('comarl list' shows all)"
    """
    name = name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…"
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else ""
    return ComarlError(f"unknown {kind} '{name}'{hint} ({shown})")


def missing_extra(package: str, extra: str) -> ComarlError:
    """The error for an optional package that is not installed.

    >>> str(missing_extra("jaxmarl", "jaxmarl"))
    "the package 'jaxmarl' is not installed: pip install 'comarl[jaxmarl]'"
    """
    return ComarlError(f"the package '{package}' is not installed: pip install 'comarl[{extra}]'")
