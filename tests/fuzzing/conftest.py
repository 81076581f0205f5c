"""The run whose copies are spoilt. What is read of it is real; nothing is compiled or trained again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from comarl.envs.base import Env, Hosted
from comarl.errors import ComarlError
from comarl.execution.write import Origin, write_team
from comarl.experiments import provenance, runner
from comarl.experiments.build import Driver, build_driver
from comarl.experiments.config import RunConfig, to_json, with_settings
from tests.execution.test_manifest import SPEC, policy
from tests.probes import SMALL

SETTINGS = SMALL | {
    "steps": 144,
    "checkpoint_every": 0.0,
    "seeds": 2,
    "seed": 3,
    "cell": "mlp",
    "env": "tests.probes:Delayed",
}
"""Two seeds, two chunks."""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    runner.train(with_settings(RunConfig(method="vdn"), SETTINGS | {"run": folder}))
    return folder


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported team; not to be changed."""
    folder = tmp_path_factory.mktemp("teams") / "team"
    write_team(policy(), SPEC, folder, "safetensors", Origin("vdn", "x", 7))
    return folder


class Reached(ComarlError):  # noqa: N818 -- nothing went wrong
    """Everything was read, and training would begin."""


@pytest.fixture
def reading_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run reads before it goes on, without tracing the same driver again and without training."""
    drivers: dict[str, Driver] = {}

    def shared(config: RunConfig, env: Env | Hosted) -> Driver:
        key = json.dumps(to_json(dataclasses.replace(config, seed=0, seeds=1, steps=144)))
        if key not in drivers:
            drivers[key] = build_driver(config, env)
            shapes = drivers[key].shapes()
            object.__setattr__(drivers[key], "shapes", lambda: shapes)
        return drivers[key]

    def reached(*_: Any) -> None:
        raise Reached("everything was read, and training would begin")

    monkeypatch.setattr(runner, "build_driver", shared)
    monkeypatch.setattr(runner, "_programs", reached)
    monkeypatch.setattr(provenance, "git_state", lambda: None)
