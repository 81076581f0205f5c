"""How devices are shared out; what comes of it is tested in test_seeds.py."""

from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from comarl.training import sharding
from comarl.training.seeds import SEED_AXES
from comarl.training.sharding import _specs, _table, cores_that_meet  # pyright: ignore[reportPrivateUsage]
from tests.probes import Lottery, standard_driver


@pytest.mark.parametrize(
    ("seeds", "envs", "devices", "rows", "columns"),
    [
        (8, 4, 8, 8, 1),
        (6, 32, 8, 6, 1),
        (6, 32, 4, 3, 1),
        (2, 4, 8, 2, 4),
        (1, 12, 8, 1, 6),
        (5, 9, 4, 1, 3),
        (3, 7, 1, 1, 1),
    ],
)
def test_seeds_come_first_and_environments_take_what_is_left(
    seeds: int, envs: int, devices: int, rows: int, columns: int
) -> None:
    table = _table(cast("list[Any]", list(range(devices))), seeds, envs)
    assert table.shape == (rows, columns)
    assert table.ravel().tolist() == list(range(rows * columns))


def test_what_belongs_to_an_environment_is_cut_and_nothing_else() -> None:
    specs = _specs(standard_driver(Lottery()), SEED_AXES)
    assert specs.actors.ts.obs == PartitionSpec("seed", "env", None, None)
    assert specs.memory.data.action == PartitionSpec("seed", None, None, "env", None)
    assert specs.iteration == PartitionSpec()
    kept = cast("list[PartitionSpec]", jax.tree.leaves(specs.learner, is_leaf=lambda x: isinstance(x, PartitionSpec)))
    assert kept
    assert not any("env" in spec for spec in kept)


@pytest.mark.parametrize(
    ("platform", "shares", "devices", "kept"),
    [("cpu", 4, 4, 4), ("cpu", 2, 4, 4), ("cpu", 1, 4, 0), ("cpu", 2, 2, 0), ("cpu", 4, 8, 4), ("gpu", 4, 4, 0)],
)
def test_cores_are_kept_awake_where_each_is_a_device_that_waits_for_others(
    platform: str, shares: int, devices: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On four cores; ``shares`` is how many devices have a seed in common."""
    monkeypatch.setattr(sharding, "cores", lambda: 4)
    table = np.full(devices, SimpleNamespace(platform=platform))
    mesh = SimpleNamespace(shape={"seed": devices // shares, "env": shares}, devices=table, size=devices)
    assert cores_that_meet({"learner": SimpleNamespace(mesh=mesh)}) == kept
