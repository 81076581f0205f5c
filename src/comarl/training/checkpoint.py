"""States on disk, through Orbax: arrays and their tree, never code."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from comarl.errors import ComarlError


def save(path: Path, state: Any) -> None:
    """Write any pytree of arrays to the folder ``path``, replacing what is there.

    The folder appears whole or not at all. A whole :class:`~comarl.training.ondevice.RunState` saved here and loaded
    again goes on bit for bit.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), state, force=True)


def load(path: Path, like: Any) -> Any:
    """Read a state of the same structure, shapes and dtypes as ``like``.

    Args:
        path: what :func:`save` was given.
        like: arrays or ``jax.ShapeDtypeStruct``; its values are not used.

    Raises:
        ComarlError: if there is none, or it does not fit.
    """
    if not path.is_dir() or not any(path.iterdir()):
        raise ComarlError(f"no saved state in {path}: the training may not have reached its end")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            _require_shapes(checkpointer.metadata(path.absolute()), shapes)
            return checkpointer.restore(path.absolute(), shapes)
    except (ValueError, KeyError, FileNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ComarlError(f"the saved state in {path} does not fit this configuration: {reason}") from error


def _require_shapes(metadata: Any, like: Any) -> None:
    """Orbax would find out while it reads, and leave coroutines behind that complain when Python ends."""
    if metadata.item_metadata is None:
        raise ValueError("it is incomplete")
    stored = {x.name: x.shape for x in jax.tree.leaves(metadata.item_metadata.tree)}
    for path, x in jax.tree.leaves_with_path(like):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if stored.get(name, x.shape) != x.shape:
            raise ValueError(f"{name} has the shape {stored[name]} there and {x.shape} here")
