"""The way into the command line: what it answers without JAX, how mistakes end."""

import os
import subprocess
import sys

import pytest

import comarl
from comarl import cli
from comarl.errors import ComarlError
from tests.cli.conftest import RunCli, error_line


def test_help_names_every_command(run_cli: RunCli) -> None:
    status, out, err = run_cli("--help")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(cli.COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


def test_version(run_cli: RunCli) -> None:
    assert run_cli("--version") == (0, f"comarl {comarl.__version__}\n", "")


def test_no_command(run_cli: RunCli) -> None:
    assert "train" in error_line(run_cli())


def test_unknown_command_suggests_the_nearest(run_cli: RunCli) -> None:
    assert error_line(run_cli("trian")) == "unknown command 'trian': did you mean 'train'? ('comarl --help' shows all)"


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (ComarlError("one thing\nand another"), 2, "error: one thing and another\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; what was written until now stays\n"),
        (FileNotFoundError(2, "No such file or directory", "x/y"), 2, "error: x/y: No such file or directory\n"),
    ],
)
def test_each_failure_is_one_line(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, line: str
) -> None:
    def fail(words: list[str]) -> int:
        raise raised

    monkeypatch.setattr("comarl.cli.catalogue.catalogue", fail)
    assert run_cli("list") == (status, "", line)


def test_a_fault_of_ours_is_not_hidden(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comarl.cli.catalogue.catalogue", lambda words: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run_cli("list")


def fresh(*words: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python that runs the command line and then prints JAX if it has been imported."""
    code = (
        "import sys, comarl.cli\n"
        "try: status = comarl.cli.main(sys.argv[1:])\n"
        "except SystemExit as stop: status = stop.code or 0\n"
        "heavy = {'jax', 'equinox', 'optax', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(status)"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["list"], 0),
        (["list", "--json"], 0),
        *[([command, "--help"], 0) for command in cli.COMMANDS],
        (["train", "qmx"], 2),
        (["train", "qmix", "--env", "smax/3n"], 2),
        (["train", "qmix", "--sedes", "3"], 2),
        (["train", "qmix", "--lr", "fast"], 2),
        (["check-env", "smax/3n"], 2),
        (["plot", "no/such/run"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_without_jax(words: list[str], status: int) -> None:
    done = fresh(*words)
    assert done.returncode == status, done.stderr
    if status:
        assert (done.stderr.count("\n"), done.stderr[:7]) == (1, "error: ")
    else:
        assert "error:" not in done.stderr


@pytest.mark.parametrize("words", [["list"], ["train", "--help"], ["train", "qmix", "--lr", "ε"]])
def test_a_terminal_without_greek_is_no_fault(words: list[str]) -> None:
    command = [sys.executable, "-m", "comarl", *words]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert (done.stdout + done.stderr).isascii()
    assert b"?" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    # The command's output is closed before it is read, as by `head` or a pager that is left.
    with subprocess.Popen(
        [sys.executable, "-m", "comarl", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
