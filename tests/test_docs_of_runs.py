"""docs/runs.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_of_faults_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "runs.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in sources} == set()
