"""The files whose bytes are parsed, each with a good one and with what reads it."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from comarl.errors import ComarlError
from comarl.execution.manifest import MANIFEST, read_manifest
from comarl.execution.write import Origin, write_team
from comarl.experiments.checks import check
from comarl.experiments.config import RunConfig, to_json
from comarl.experiments.folder import load_config, write_json
from comarl.report.curves import read_curve
from comarl.training.checkpoint import Series
from comarl.training.logging import MetricsWriter, cut_metrics


class Parser(NamedTuple):
    """Something that reads a file.

    Attributes:
        file: which; a good one is there.
        read: reads it.
    """

    file: Path
    read: Callable[[], object]


def config(folder: Path) -> Parser:
    """A run's configuration."""
    write_json(folder / "config.json", to_json(RunConfig()))
    return Parser(folder / "config.json", lambda: check(load_config(folder)))


def metrics(folder: Path) -> Parser:
    """A run's metrics: its learning curve, and what is left of them for one that goes on."""
    write_json(folder / "config.json", to_json(RunConfig()))
    writer = MetricsWriter(folder)
    for steps in (10, 20):
        writer.write("train", seed=0, env_steps=steps, loss=0.5)
        writer.write("evaluation", seed=0, env_steps=steps, returns=np.ones((2, 2)), length=np.ones(2), won=np.ones(2))
    writer.write("baseline", policy="random", returns=np.ones((2, 2)), length=np.ones(2), won=np.ones(2))
    writer.close()

    def read() -> None:
        with contextlib.suppress(ComarlError):
            read_curve(folder)
        cut_metrics(folder, {0: 10}, dict)

    return Parser(folder / "metrics.jsonl", read)


def manifest(folder: Path) -> Parser:
    """What an exported team says of itself."""
    from tests.execution.test_manifest import SPEC, policy

    write_team(policy(), SPEC, folder / "team", "safetensors", Origin("vdn", "x", 7))
    return Parser(folder / "team" / MANIFEST, lambda: read_manifest(folder / "team"))


def checkpoint(folder: Path) -> Parser:
    """What stands beside a checkpoint's arrays."""
    state = {"weights": jnp.ones((2, 3)), "key": jax.random.key(0)}
    shapes = jax.eval_shape(lambda: state)
    series = Series(folder / "series", 2)
    series.save(10, state, 0.5, {"train_seconds": 1.0})
    series.close()
    return Parser(folder / "series" / "10" / "_CHECKPOINT_METADATA", lambda: series.restore(shapes))


PARSERS = {"config": config, "metrics": metrics, "manifest": manifest, "checkpoint": checkpoint}
