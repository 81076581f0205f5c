"""Do the tests notice? Each fault is put back into a copy of the source, and its test must fail.

The faults are those of public_faults.py and slips.py. ``make test-faults``; minutes, so not part of ``make test``,
which sees to it that every line quoted there still stands in the source.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.public_faults import FAULTS, Fault
from tests.slips import SLIPS

ROOT = Path(__file__).parents[1]
SUITE = "test_faults_of_public_code.py"


def name_of(fault: Fault) -> str:
    return " ".join(filter(None, (fault.test, fault.where)))


def copy_of_the_project(folder: Path) -> Path:
    """The source, to be spoilt, and its tests."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Tests, on the source of that folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.faults
def test_without_a_fault_the_copy_passes(tmp_path: Path) -> None:
    done = run(copy_of_the_project(tmp_path), SUITE, *dict.fromkeys(slip.test for slip in SLIPS))
    assert done.returncode == 0, done.stdout


@pytest.mark.faults
@pytest.mark.parametrize("fault", [*FAULTS, *SLIPS], ids=name_of)
def test_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    file = copy_of_the_project(tmp_path) / "src" / "comarl" / fault.file
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    done = run(tmp_path, fault.test if fault in SLIPS else f"{SUITE}::{fault.test}")
    assert done.returncode == 1, done.stdout
    # A wrong number or a missing refusal, not a program that no longer runs.
    assert re.search(r"^E +(AssertionError|assert |Failed: DID NOT RAISE)", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("fault", [*FAULTS, *SLIPS], ids=name_of)
def test_what_is_quoted_stands_in_the_source(fault: Fault) -> None:
    """Once. If a line has moved on, quote it anew."""
    assert (ROOT / "src" / "comarl" / fault.file).read_text(encoding="utf-8").count(fault.right) == 1


@pytest.mark.parametrize("slip", SLIPS, ids=name_of)
def test_who_must_notice_is_there(slip: Fault) -> None:
    file, test = slip.test.split("[")[0].split("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_every_fault_is_put_back() -> None:
    """No test of the suite is left out (the first part of resuming is the weights themselves, which nobody forgets)."""
    suite = (ROOT / "tests" / SUITE).read_text(encoding="utf-8")
    tests = set(re.findall(r"^def (test_\w+)", suite, re.MULTILINE))
    assert {fault.test.split("[")[0] for fault in FAULTS} == tests
