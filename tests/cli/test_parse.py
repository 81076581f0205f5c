"""Every mistake on the command line is one line that names it."""

import dataclasses
import io
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from comarl.cli.parse import parse
from comarl.errors import ComarlError


@dataclasses.dataclass(frozen=True)
class Inner:
    """Settings of a group."""

    learning_rate: float = 0.5
    """How fast."""


@dataclasses.dataclass(frozen=True)
class Args:
    """All kinds of options."""

    name: Annotated[str, tyro.conf.Positional]
    """Needed."""
    seeds: int = 1
    """A whole number."""
    cell: Literal["gru", "lstm"] = "gru"
    """One of a few."""
    out: Path | None = None
    """A file."""
    inner: Inner = Inner()


def test_options_have_no_prefix() -> None:
    words = ["--learning-rate", "1e-3", "it", "--seeds=3", "--out", "a/b"]
    assert parse(Args, "prog", words) == Args("it", 3, "gru", Path("a/b"), Inner(0.001))


def test_underscores_are_dashes() -> None:
    assert parse(Args, "prog", ["it", "--learning_rate", "2"]).inner.learning_rate == 2.0


def test_default_may_be_given() -> None:
    assert parse(Args, "prog", ["it"], default=Args("x", 7)).seeds == 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["it", "--sedes", "3"], "prog: unknown option '--sedes': did you mean '--seeds'?"),
        (["it", "--learning-rat=3"], "prog: unknown option '--learning-rat': did you mean '--learning-rate'?"),
        (["it", "--quux"], "prog: unknown option '--quux'"),
        (["it", "and", "more"], "prog: 'and' is one argument too many"),
        (["it", "--seeds", "three"], "--seeds: 'three' is not a whole number"),
        (["it", "--seeds", "1e6"], "--seeds: '1e6' is not a whole number"),
        (["it", "--learning-rate", "fast"], "--learning-rate: 'fast' is not a number"),
        (["it", "--cell", "grru"], "--cell: 'grru' is none of 'gru', 'lstm'"),
        (["it", "--seeds"], "--seeds needs a value"),
    ],
)
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch, columns: str, words: list[str], line: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(ComarlError) as error:
        parse(Args, "prog", words)
    assert str(error.value) == f"{line} ('prog --help' shows the options)"


def test_mistake_is_one_line_without_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(ComarlError) as error:
        parse(Args, "prog", ["it", "--seeds", "three"])
    assert str(error.value) == "--seeds: 'three' is not a whole number ('prog --help' shows the options)"


def test_missing_argument_is_named() -> None:
    with pytest.raises(ComarlError, match=r"^prog: which STR\?"):
        parse(Args, "prog", [])


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ComarlError):
        parse(Args, "prog", ["it", "--seeds", "x"])
    with pytest.raises(ComarlError):
        parse(Args, "prog", ["it", "--seed", "3"])
    assert capfd.readouterr() == ("", "")


def test_help_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Args, "prog", ["--help"], default=Args("x", seeds=7))
    assert not stop.value.code
    said = capsys.readouterr()
    assert said.err == ""
    assert "A whole number. (default: 7)" in said.out
