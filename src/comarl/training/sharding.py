"""Seeds mapped, and shared out among the devices of this process."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SEED = "seed"
"""The mesh's one axis."""


def spread(
    init: Callable[[Any], Any], chunk: Callable[[Any], tuple[Any, Any]], axes: Any, count: int
) -> tuple[Callable[[Any], Any], Callable[[Any], tuple[Any, Any]], Any]:
    """Both functions for ``count`` seeds at once, and how their states lie on the devices.

    Seeds have nothing to say to each other: every device maps over seeds of its own, and all run the same program. They
    have equally many, so that some devices are left out where their number does not divide that of the seeds.

    Args:
        init: makes a state of a seed.
        chunk: moves a state on, and reports.
        axes: of the state, 0 where a seed has parts of its own and None where all seeds share one.
        count: how many seeds there are.
    """
    mesh = Mesh(_devices(count), (SEED,))
    own = PartitionSpec(SEED)
    specs = [PartitionSpec() if axis is None else own for axis in axes]
    state = type(axes)(*specs)
    init = jax.vmap(init, out_axes=axes)
    chunk = jax.vmap(chunk, in_axes=(axes,), out_axes=(axes, 0))
    return (
        jax.shard_map(init, mesh=mesh, in_specs=own, out_specs=state, check_vma=False),
        jax.shard_map(chunk, mesh=mesh, in_specs=(state,), out_specs=(state, own), check_vma=False),
        type(axes)(*(NamedSharding(mesh, spec) for spec in specs)),
    )


def _devices(seeds: int) -> Any:
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if seeds % n == 0)
    return devices[:count]
