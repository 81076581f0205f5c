"""Seeds mapped and shared out among the devices of this process, and each seed's environments among what are left."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from comarl.algos.shares import SHARE, trajectory_specs
from comarl.training.awake import cores
from comarl.training.ondevice import OnDevice
from comarl.types import Trajectory

SEED, ENV = "seed", SHARE
"""The mesh's axes."""


def spread(
    driver: OnDevice, axes: Any, count: int, devices: Sequence[Any]
) -> tuple[Callable[[Any], Any], Callable[[Any], tuple[Any, Any]], Callable[[Any], Any], Any]:
    """``init``, ``train`` and ``evaluate`` for ``count`` seeds at once, and how their states lie on the devices.

    Seeds have nothing to say to each other: every device maps over seeds of its own, and all run the same program. They
    have equally many, so that some devices are left out where their number does not divide that of the seeds.

    Where there are more devices than seeds, several have a seed in common: its environments, what they have collected
    and the sequences of a batch are shared out among them, equally many each; networks are on all of them, and what
    the devices have to tell each other, such as their shares of a gradient, is the compiler's affair.

    Args:
        driver: of one seed.
        axes: of the state, 0 where a seed has parts of its own and None where all seeds share one.
        count: how many seeds there are.
        devices: what there is to compute with.
    """
    mesh = Mesh(_table(devices, count, driver.num_envs), (SEED, ENV))
    manual = type(axes)(*(PartitionSpec() if axis is None else PartitionSpec(SEED) for axis in axes))
    specs = manual
    if mesh.shape[ENV] > 1:
        driver = _sharing_batches(driver, mesh.shape[ENV])
        specs = _specs(driver, axes)
    each = jax.vmap if count > mesh.shape[SEED] else _alone
    init = each(driver.init, in_axes=(0,), out_axes=axes)
    train = each(driver.train, in_axes=(axes,), out_axes=(axes, 0))
    evaluate = each(driver.evaluate, in_axes=(axes,), out_axes=0)
    own = PartitionSpec(SEED)
    options: Any = {"mesh": mesh, "axis_names": {SEED}, "check_vma": False}
    return (
        jax.shard_map(init, in_specs=own, out_specs=manual, **options),
        jax.shard_map(train, in_specs=(manual,), out_specs=(manual, own), **options),
        jax.shard_map(evaluate, in_specs=(manual,), out_specs=own, **options),
        jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs),
    )


def cores_that_meet(layout: Any) -> int:
    """How many cores to keep awake (:mod:`comarl.training.awake`) where states lie like this.

    All of them where each is a device and several have a seed in common; on more cores than devices, what keeps cores
    awake would be where nobody waits.
    """
    mesh = jax.tree.leaves(layout)[0].mesh
    waiting = mesh.shape[ENV] > 1 and mesh.devices.flat[0].platform == "cpu" and mesh.size >= cores()
    return cores() if waiting else 0


def _alone(f: Callable[[Any], Any], in_axes: Any, out_axes: Any) -> Callable[[Any], Any]:
    """``jax.vmap`` over axes of one element, without it: mapped over one, products are slower by half on a CPU."""
    (in_axes,) = in_axes

    def mapped(x: Any) -> Any:
        return _at(out_axes, lambda x: x[None], f(_at(in_axes, lambda x: x[0], x)))

    return mapped


def _at(axes: Any, f: Callable[[Any], Any], x: Any) -> Any:
    """``f`` of the leaves below each 0 in ``axes``, whose structure is the beginning of that of ``x``."""
    change = lambda axis, part: part if axis is None else jax.tree.map(f, part)  # noqa: E731
    return jax.tree.map(change, axes, x, is_leaf=lambda axis: axis is None)


def _table(devices: Sequence[Any], seeds: int, envs: int) -> np.ndarray:
    """The devices as a table: a row for each share of the seeds, a column for each share of their environments."""
    rows = _divisor(seeds, len(devices))
    columns = _divisor(envs, len(devices) // rows)
    return np.array(devices[: rows * columns]).reshape(rows, columns)


def _divisor(count: int, most: int) -> int:
    """The largest divisor of ``count`` that is not above ``most``."""
    return max(n for n in range(1, most + 1) if count % n == 0)


def _specs(driver: OnDevice, axes: Any) -> Any:
    """How each array of the state is cut: where a driver of twice as many environments has one twice as long."""
    twice = dataclasses.replace(driver, num_envs=2 * driver.num_envs).shapes()

    def cut(axis: int | None) -> Callable[[Any, Any], PartitionSpec]:
        def spec(one: Any, two: Any) -> PartitionSpec:
            along = [None if a == b else ENV for a, b in zip(one.shape, two.shape, strict=True)]
            return PartitionSpec(*along) if axis is None else PartitionSpec(SEED, *along)

        return spec

    parts = zip(axes, driver.shapes(), twice, strict=True)
    return type(axes)(*(jax.tree.map(cut(axis), one, two) for axis, one, two in parts))


def _sharing_batches(driver: OnDevice, devices: int) -> OnDevice:
    """The same driver, which has each device learn from sequences of its own."""
    memory = driver.learner.memory

    def read(data: Any, where: Any) -> Trajectory:
        if jax.tree.leaves(where)[0].size % devices:
            return memory.read(data, where)
        own, mesh = trajectory_specs(), jax.sharding.get_abstract_mesh()
        if not memory.by_environment:
            return jax.lax.with_sharding_constraint(memory.read(data, where), own)
        in_specs = (trajectory_specs(None), PartitionSpec(ENV))
        options: Any = {"mesh": mesh, "axis_names": {ENV}, "check_vma": False}
        return jax.shard_map(memory.read, in_specs=in_specs, out_specs=own, **options)(data, where)

    learner = dataclasses.replace(driver.learner, memory=memory._replace(read=read))
    return dataclasses.replace(driver, learner=learner)
