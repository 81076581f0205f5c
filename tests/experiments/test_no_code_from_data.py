"""Files of a run are data: none of them can run code, or have anything written outside its folder."""

import ast
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import comarl
from comarl.errors import ComarlError
from comarl.experiments.config import NOT_RECORDED, RunConfig, to_json
from comarl.experiments.folder import load_config
from comarl.training import checkpoint
from comarl.training.checkpoint import Series
from comarl.training.logging import read_metrics

ROOT = Path(comarl.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}


def names(tree: ast.AST) -> set[str]:
    """Modules that are imported, and builtins that are called by name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


def arguments(tree: ast.AST) -> set[tuple[str, Any]]:
    """Keyword arguments that are constants, such as ``allow_pickle=True``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {(k.arg, k.value.value) for c in calls for k in c.keywords if k.arg and isinstance(k.value, ast.Constant)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not names(tree) & (MODULES | CALLS)
    assert ("allow_pickle", True) not in arguments(tree)
    assert ("shell", True) not in arguments(tree)


def test_the_search_finds_what_it_looks_for() -> None:
    code = "import pickle as p\nfrom yaml import load\neval('1')\nnumpy.load(f, allow_pickle=True)"
    tree = ast.parse(code)
    assert {"pickle", "yaml", "eval"} <= names(tree)
    assert ("allow_pickle", True) in arguments(tree)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "code was run")


def test_a_pickle_in_place_of_any_file_runs_nothing(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "written"))
    series = Series(tmp_path / "series", 2)
    series.save(10, {"a": checkpoint.np.zeros(3)}, 0.0, {})
    series.close()
    for file in [path for path in (tmp_path / "series").rglob("*") if path.is_file()]:
        file.write_bytes(bomb)
    with pytest.raises(ComarlError, match="no checkpoint can be used"):
        Series(tmp_path / "series", 2).restore({"a": checkpoint.np.zeros(3)})
    for name, read in (("config.json", load_config), ("metrics.jsonl", read_metrics)):
        (tmp_path / name).write_bytes(bomb + b"\n")
        with pytest.raises(ComarlError):
            read(tmp_path)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("name", NOT_RECORDED)
def test_a_recorded_configuration_does_not_say_where_to_write(tmp_path: Path, name: str) -> None:
    data = to_json(RunConfig()) | {name: "/elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ComarlError, match=f"^'{name}' is no part of a recorded configuration"):
        load_config(tmp_path)
    data = to_json(RunConfig())
    data["agent"][name] = "/elsewhere"  # nor in a group, where names are settings too
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ComarlError, match=f"^'{name}' is no part of a recorded configuration"):
        load_config(tmp_path)
