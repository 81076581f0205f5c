"""The environments of docs/environments.md are made, conform and train."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.registry import make_env
from comarl.experiments.build import build_driver
from comarl.experiments.config import RunConfig, with_settings
from comarl.training.host import HostDriver
from tests.probes import SMALL

DOCS = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py: [^\n]*\n(.*?)```", DOCS, re.DOTALL))


def test_there_is_one_of_each_kind() -> None:
    assert set(EXAMPLES) == {"my_lever", "my_walk"}


@pytest.mark.parametrize("module", EXAMPLES)
def test_an_example_conforms_and_trains(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{module}.py").write_text(EXAMPLES[module])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = re.findall(rf"comarl check-env ({module}:\w+)", DOCS)[0]
    env = make_env(name, workers=1)
    assert check_env(env) == []
    driver = build_driver(
        with_settings(RunConfig(method="vdn", env=name), SMALL | {"eval_every": 24, "cell": "mlp"}), env
    )
    if isinstance(driver, HostDriver):
        _, log = driver.chunk(driver.init(0))
        driver.close()
    else:
        _, log = jax.jit(lambda: driver.chunk(driver.init(0)))()
    assert np.isfinite(log.metrics["loss"]).all()
    assert ((log.evaluation.returns >= 0) & (log.evaluation.returns <= 1)).all()
