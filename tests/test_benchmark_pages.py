"""The pages that benchmarks write into: their marks are there, and the rest of a page stays."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def load(name: str) -> Any:
    """A module of the folder ``benchmarks``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed: by hand -->\nold\n<!-- end of speed -->\nafter\n", encoding="utf-8")
    write_between = load("pages").write_between
    for text in ("new", "newer\nstill"):
        write_between(page, "speed: by hand", text)
        wanted = f"before\n<!-- speed: by hand -->\n{text}\n<!-- end of speed -->\nafter\n"
        assert page.read_text(encoding="utf-8") == wanted


@pytest.mark.parametrize("text", ["", "<!-- speed: by hand -->\n", "<!-- end of speed -->\n"])
def test_a_page_without_the_marks_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="lacks"):
        load("pages").write_between(page, "speed: by hand", "new")
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("page", "script"),
    [
        ("README.md", "learning.py"),
        ("README.md", "run.py"),
        ("docs/speed.md", "scaling.py"),
        ("docs/speed.md", "peers/run.py"),
    ],
)
def test_a_page_has_the_marks_that_its_benchmark_looks_for(page: str, script: str) -> None:
    code = (ROOT / "benchmarks" / script).read_text(encoding="utf-8")
    (mark,) = re.findall(r"MARK = .*?\"(\w+: made by '[\w -]+')\"", code)
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"<!-- {mark} -->" in text
    assert f"<!-- end of {mark.split(':', maxsplit=1)[0]} -->" in text
