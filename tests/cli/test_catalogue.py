"""``comarl list`` and ``comarl check-env``."""

import json

import pytest

from comarl.envs import registry
from comarl.experiments.methods import METHODS
from comarl.experiments.presets import PRESETS
from tests.cli.conftest import RunCli, error_line


def test_list_names_everything(run_cli: RunCli) -> None:
    status, out, err = run_cli("list")
    assert (status, err) == (0, "")
    words = set(out.replace(",", " ").split())
    assert set(METHODS) <= words
    assert set(registry.names()) <= words
    assert {name for preset in PRESETS for name in preset} <= words


def test_list_prints_json_alone(run_cli: RunCli) -> None:
    status, out, _ = run_cli("list", "--json")
    known = json.loads(out)
    assert status == 0
    assert [m["name"] for m in known["methods"]] == list(METHODS)
    assert {m["name"] for m in known["methods"] if "continuous" in m["actions"]} >= {"mappo", "maddpg"}
    assert all(m["actions"] == ["discrete"] for m in known["methods"] if m["name"] in ("qmix", "joint", "coma"))
    assert [name for family in known["environments"] for name in family["names"]] == registry.names()
    assert [(p["method"], p["env"], p["learner"]) for p in known["presets"]] == list(PRESETS)


def test_sound_environment(run_cli: RunCli) -> None:
    status, out, _ = run_cli("check-env", "tests.probes:Delayed")
    assert (status, out) == (0, "tests.probes:Delayed: nothing is wrong\n")


@pytest.mark.parametrize(
    ("env", "what"),
    [("NanReward", "reward"), ("NoAction", "available"), ("WrongShape", "obs"), ("WrongType", "obs")],
)
def test_faulty_environment(run_cli: RunCli, env: str, what: str) -> None:
    name = f"tests.cli.faulty:{env}"
    status, out, err = run_cli("check-env", name, "--json")
    result = json.loads(out)
    assert status == 1
    assert result["env"] == name
    assert result["ok"] is False
    assert any(what in problem for problem in result["problems"])
    assert all(f"{name}: {problem}\n" in err for problem in result["problems"])
    assert "Traceback" not in err


def test_unknown_environment(run_cli: RunCli) -> None:
    line = error_line(run_cli("check-env", "smax/3n"))
    assert line.startswith("unknown environment 'smax/3n': did you mean 'smax/3m'?")


@pytest.mark.parametrize("env", ["no_such_module:Env", "tests.probes:NoSuchEnv", "tests.probes:", ":Env"])
def test_environment_that_cannot_be_found(run_cli: RunCli, env: str) -> None:
    assert env.partition(":")[0] in error_line(run_cli("check-env", env))
