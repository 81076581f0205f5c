"""Environments by name, and the user's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from comarl.envs.conformance import require_conformance
from comarl.envs.registry import FAMILIES, make_env, names
from comarl.errors import ComarlError

OWN = """
from comarl.envs.games.two_step import TwoStep

def make():
    return TwoStep()

def wrong():
    return "two-step"

def fails():
    raise RuntimeError("no licence\\nsecond line")

value = 1
"""


def test_names_come_without_jax() -> None:
    """``comarl --help`` and ``comarl list`` must answer at once."""
    code = (
        "import sys; from comarl.envs.registry import names; assert 'smax/3m' in names(); "
        "assert not {'jax', 'numpy', 'jaxmarl', 'jumanji'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_unique_and_belong_to_their_family() -> None:
    assert len(set(names())) == len(names()) == 142
    assert {name.partition("/")[0] for name in names()} == set(FAMILIES)


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith(("smac/", "smacv2/", "smaclite/"))])
def test_every_environment_is_made_and_conforms(name: str) -> None:
    env = make_env(name)
    assert env.spec.name == name
    require_conformance(env)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("smax/3mm", "unknown environment 'smax/3mm': did you mean 'smax/3m'?"),
        ("3m", "unknown environment '3m': did you mean 'smax/3m'?"),
        ("matrix/qtan", "did you mean 'matrix/qtran'?"),
        ("two-step/", "did you mean 'two-step'?"),
        ("smax", "environment 'smax' is a family: choose one, such as smax/3m, smax/2s3z, smax/25m"),
        ("xyzzy", "unknown environment 'xyzzy' ('comarl list' shows all)"),
        # Names are matched whole: part of a name, or more than a name, is no name.
        ("smax/smacv2", "unknown environment"),
        ("mpe/simple_spread_v3", "did you mean 'mpe2/simple_spread_v3'?"),
        ("mpe2", "environment 'mpe2' is a family: choose one, such as mpe2/simple_spread_v3"),
    ],
)
def test_unknown_names(name: str, text: str) -> None:
    with pytest.raises(ComarlError) as error:
        make_env(name)
    assert text in str(error.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the current one, with a module of environments."""
    (tmp_path / "own_envs.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "own_envs", raising=False)
    return tmp_path


@pytest.mark.usefixtures("own")
def test_an_environment_of_the_users_own() -> None:
    assert make_env("own_envs:make").spec.name == "two-step"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own_env:make", "cannot import 'own_env': ModuleNotFoundError: No module named 'own_env'"),
        ("own_envs:mak", "the module 'own_envs' has no function 'mak'"),
        ("own_envs:value", "the module 'own_envs' has no function 'value'"),
        (
            "own_envs:wrong",
            "the function must return a comarl.envs.base.Env, an environment of PettingZoo or a team of Gymnasium, "
            "not str",
        ),
        ("own_envs:fails", "the function failed with RuntimeError: no licence"),
    ],
)
def test_a_wrong_environment_of_the_users_own(name: str, text: str) -> None:
    with pytest.raises(ComarlError) as error:
        make_env(name)
    assert str(error.value) == f"environment '{name}': {text}"
