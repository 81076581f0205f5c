"""``comarl bench``: what it hands on and shows, and its mistakes. What is measured is tested with the measuring."""

import json
from typing import Any

import pytest

from comarl.experiments.config import RunConfig
from comarl.experiments.presets import PRESETS
from tests.cli.conftest import RunCli, error_line
from tests.cli.test_docs import check

S = {"median": 0.5, "min": 0.25, "max": 1.0}
RESULT: dict[str, Any] = {
    "phases": {
        "collect": {"seconds": S, "gflop": 0.2, "share": S},
        "environment": {"seconds": S, "gflop": 0.0, "share": None},
        "evaluation": {"seconds": S, "gflop": None, "share": None},
    },
    "rates": {"env_steps_alone": S, "env_steps_acting": S, "updates": S, "evaluation_episodes": S},
    "peak": S,
    "compile_seconds": 3.0,
    "peak_memory_gb": 1.5,
}


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []
    monkeypatch.setattr("comarl.report.speed.measure", lambda *args: asked.extend(args) or RESULT)
    return asked


def test_the_preset_is_measured_and_shown(run_cli: RunCli, asked: list[Any]) -> None:
    status, out, _ = run_cli("bench", "qmix", "--env", "smax/3m", "--rounds", 3)
    assert status == 0
    config, rounds = asked
    assert isinstance(config, RunConfig)
    assert (config.method, config.env, config.length) == (
        "qmix",
        "smax/3m",
        PRESETS["qmix", "smax/3m", "replay"].settings["length"],
    )
    assert rounds == 3
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["collect"].split()[1:6] == ["500", "250", "–", "1,000", "0.200"]
    assert "50.0%" in lines["collect"]
    assert "%" not in lines["environment"]
    assert "updates/s: 0.500   (0.250 – 1.00)" in out


@pytest.mark.usefixtures("asked")
def test_json(run_cli: RunCli) -> None:
    result = json.loads(run_cli("bench", "vdn", "--env", "two-step", "--json")[1])
    assert (result["method"], result["env"], result["rounds"]) == ("vdn", "two-step", 7)
    assert result["phases"] == RESULT["phases"]
    check("bench", {key: None if isinstance(value, dict) else value for key, value in result.items()})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "comarl bench: which METHOD? One of iql, "),
        (["qmx"], "unknown method 'qmx': did you mean 'qmix'?"),
        (["qmix", "--env", "smax/3n"], "unknown environment 'smax/3n': did you mean 'smax/3m'?"),
        (["qmix", "--round", "3"], "comarl bench: unknown option '--round': did you mean '--rounds'?"),
        (["qmix", "--rounds", "0"], "--rounds=0 must be at least 1"),
    ],
)
def test_mistake_is_one_line(run_cli: RunCli, words: list[str], line: str) -> None:
    assert error_line(run_cli("bench", *words)).startswith(line)
