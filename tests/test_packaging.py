"""What a fresh machine meets: the lock, the start-up of the command line, the commands of the README, strict tests."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import comarl
from comarl.returns import td_lambda

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements_of(lock: Path) -> list[str]:
    """The lock's requirements, each on one line with its hashes."""
    joined = lock.read_text().replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after ``code``, by their top-level names."""
    report = "\nimport sys; sys.stderr.write('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_there_is_a_lock() -> None:
    assert LOCKS


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_requirement_is_one_version_with_hashes(lock: Path) -> None:
    one_version = re.compile(r"[a-z0-9.-]+==[^ ]+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in requirements_of(lock) if not one_version.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_names_no_place_to_download_from(lock: Path) -> None:
    place = re.compile(r"://|\s@\s|index-url|find-links|trusted-host|\b[\w-]+\.(com|dev|io|net|org)\b|(^|\s)/\w")
    assert [line for line in lock.read_text().splitlines() if place.search(line)] == []


def wanted() -> list[Requirement]:
    """Everything that pyproject.toml asks for: to build, to run, with every extra, and to develop."""
    project = PROJECT["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    build, dev = PROJECT["build-system"]["requires"], PROJECT["dependency-groups"]["dev"]
    names = [*build, *project["dependencies"], *extras, *dev]
    return [requirement for requirement in map(Requirement, sorted(set(names))) if requirement.name != project["name"]]


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_lock_answers_pyproject(requirement: Requirement) -> None:
    locked = [Requirement(line.split(" ")[0]) for line in requirements_of(ROOT / "requirements" / "dev.txt")]
    versions = [
        specifier.version
        for pin in locked
        if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        for specifier in pin.specifier
    ]
    assert versions, "run make lock"
    assert all(requirement.specifier.contains(each) for each in versions), "run make lock"


def test_extra_all_names_every_other_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == "comarl"
    assert everything.extras == extras.keys() - {"all"}


def test_installed_package_is_this_one() -> None:
    assert version("comarl") == PROJECT["project"]["version"]
    (script,) = entry_points(group="console_scripts", name="comarl")
    assert script.value == "comarl.cli:main"


def test_import_loads_no_jax() -> None:
    loaded = loaded_after("import comarl")
    assert "comarl" in loaded
    assert not loaded & {"jax", "jaxlib", "equinox", "optax", "scipy"}


def test_help_loads_no_jax() -> None:
    loaded = loaded_after(
        "import comarl.cli\n"
        "try: status = comarl.cli.main(['--help'])\n"
        "except SystemExit as stop: status = stop.code\n"
        "assert not status"
    )
    assert "comarl" in loaded
    assert not loaded & {"jax", "jaxlib", "equinox", "optax", "scipy"}


def test_ci_runs_only_what_the_readme_shows() -> None:
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in commands if line and not line.startswith(("#", "set ", "cd "))]
    readme = {line.strip().removeprefix("$ ") for line in (ROOT / "README.md").read_text().splitlines()}
    shown = {line.split("#")[0].strip() for line in readme}
    assert commands == ["make test", "make test-bits"]
    assert set(commands) <= shown


def test_changelog_has_an_unreleased_section() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


def test_tests_check_shapes() -> None:
    # Two steps of reward and three of everything else: only the import hook sees it before the sums do.
    with pytest.raises(jaxtyping.TypeCheckError):
        td_lambda(jnp.ones(2), jnp.ones(3), jnp.zeros(3), jnp.zeros(3, bool), 1.0)


def test_tests_check_ranks() -> None:
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_tests_keep_compiled_programs() -> None:
    assert jax.config.jax_compilation_cache_dir


def test_the_interface_stays_what_it_is_after_its_first_use() -> None:
    """A subpackage named like a function would take its place once it is imported."""
    code = "import comarl.api; from comarl import evaluate, load_policy, make, train; print(callable(train))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
    names = {path.stem for path in (ROOT / "src" / "comarl").iterdir()}
    assert not names & set(comarl.__all__)
