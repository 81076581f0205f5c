"""A search guided by coverage: bytes that reach ever further into what parses them."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing.parsers import PARSERS
from tests.fuzzing.verdict import SEED

RUNS = 10_000

OPTIONS = ("-timeout=10", "-rss_limit_mb=8192", "-max_len=8192", "-print_final_stats=1")
"""A case may take ten seconds, and is not longer than so many bytes."""


@pytest.mark.faults
@pytest.mark.skipif(
    not importlib.util.find_spec("atheris"), reason="atheris is not installed: pip install --group fuzz"
)
@pytest.mark.parametrize("name", PARSERS)
def test_no_bytes_are_too_much(name: str, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "tests.fuzzing.guided",
        name,
        str(tmp_path / name),
        f"-runs={RUNS}",
        f"-seed={SEED + 1}",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run(
        [*words, *OPTIONS], env=environment, cwd=tmp_path, capture_output=True, check=False, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-4000:]
    print(f" {name}: {RUNS} cases, {', '.join(re.findall(r'cov: [0-9]+ ft: [0-9]+', done.stderr)[-1:])}")
    assert f"Done {RUNS} runs" in done.stderr


@pytest.mark.parametrize("name", PARSERS)
def test_the_good_file_is_read(name: str, tmp_path: Path) -> None:
    """Else a search would begin, and end, at the first thing that is refused."""
    parser = PARSERS[name](tmp_path)
    good = parser.file.read_bytes()
    parser.read()
    assert parser.file.exists()
    assert good
