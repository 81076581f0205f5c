"""The command line as a function, and one finished run that the tests share."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from comarl import cli

RunCli = Callable[..., tuple[int, str, str]]

SMALLEST = {
    "num-envs": 2, "length": 4, "steps": 32, "eval-every": 16, "eval-episodes": 4, "learning-starts": 0, "hidden": 4,
    "embed": 4, "hyper-hidden": 4, "batch-size": 2, "updates": 1, "buffer-steps": 64,
}  # fmt: skip
TINY = [word for name, value in SMALLEST.items() for word in (f"--{name}", str(value))]
"""Two chunks of two iterations."""


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Run a command in this process: its status, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


class Trained(NamedTuple):
    """A finished run.

    Attributes:
        folder: the run folder; not to be changed.
        result: what ``--json`` printed.
        stderr: what else was said.
    """

    folder: Path
    result: dict[str, Any]
    stderr: str


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """QMIX, seeds 5 and 6, on an environment that pays 1 whatever is done."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    out, err = io.StringIO(), io.StringIO()
    words = ["train", "qmix", "--env", "tests.probes:Delayed", "--seeds", "2", "--seed", "5", "--run", str(folder)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert cli.main([*words, "--json", *TINY]) == 0, err.getvalue()
    return Trained(folder, json.loads(out.getvalue()), err.getvalue())


def error_line(result: tuple[int, str, str]) -> str:
    """The error of a command that failed: one line, the last on standard error; nothing on standard output."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.endswith(line + "\n")
    return line.removeprefix("error: ")
