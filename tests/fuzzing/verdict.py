"""What every command owes to whoever gives it bad input: an end, a status, and one line in place of a traceback."""

import contextlib
import io
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from comarl import cli
from comarl.errors import ComarlError

SECONDS = 10.0
"""No case takes as long."""


class Hung(BaseException):  # no error that a broad except may swallow
    """A case that did not come to its end."""


class Said(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status.
        error: the line that begins with "error: ", without it; empty if there is none.
    """

    status: int
    error: str


@contextlib.contextmanager
def in_time(seconds: float = SECONDS) -> Generator[None, None, None]:
    """Raises :class:`Hung` if the block takes longer."""

    def ring(*_: Any) -> None:
        raise Hung(f"no end after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def command(*words: object) -> Said:
    """Run a command in this process. Whatever it raises is what a user would see as a traceback."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), in_time():
        status = cli.main([str(word) for word in words])
    said = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "Traceback" not in said
    assert status in (0, 1, 2), said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == (status == 2), said
    if not errors:
        return Said(status, "")
    assert said.endswith(errors[0] + "\n")
    assert 12 < len(errors[0]) < 12_000
    return Said(status, errors[0].removeprefix("error: "))


@contextlib.contextmanager
def refused_or_done() -> Generator[None, None, None]:
    """For a function of the library: only :class:`~comarl.errors.ComarlError` may come out of it, in time."""
    with in_time(), contextlib.suppress(ComarlError):
        yield


def contents(folder: Path) -> dict[str, Any]:
    """Everything below a folder: bytes, links and what is neither; but for the lock, which comes and goes."""
    return {path.relative_to(folder).as_posix(): _content(path) for path in folder.rglob("*") if path.name != ".lock"}


def _content(path: Path) -> Any:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else path.stat().st_mode


CASES = {"configurations": 3000, "metrics": 2500, "folders": 300, "exported teams": 2500, "environments": 2500}
"""How many cases each of the slow tests has."""

SEED = int(os.environ.get("COMARL_FUZZ_SEED", "0"))
"""Another number draws other cases."""


def some(what: str, few: int) -> pytest.MarkDecorator:
    """A test of few cases, and the same of :data:`CASES` among the slow ones."""
    return pytest.mark.parametrize("number", [few, pytest.param(CASES[what], marks=pytest.mark.faults)])


def fuzz(number: int, test: Callable[..., None], **drawn: st.SearchStrategy[Any]) -> None:
    """Call ``test`` with so many cases, each of its arguments drawn."""
    cases = 0

    @hypothesis.settings(
        max_examples=number,
        derandomize=False,
        database=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),  # what explains a failure takes minutes
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.seed(SEED)
    @hypothesis.given(**drawn)
    def run(**case: Any) -> None:
        nonlocal cases
        cases += 1
        test(**case)

    begun = time.perf_counter()
    with warnings.catch_warnings():
        # Of a large case that fails; as an error it would hide the failure.
        warnings.filterwarnings("ignore", "Generating overly large repr", hypothesis.errors.HypothesisWarning)
        run()
    print(f" {test.__name__.strip('_')}: {cases} cases in {time.perf_counter() - begun:.0f} s", flush=True)
    assert cases >= number
