"""One agent's policy as bytes, in each format; and the names, shapes and dtypes of what it takes and gives."""

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from comarl.errors import missing_extra
from comarl.execution.manifest import ACTION, MASK, NEXT, OBSERVATION, Format, Port
from comarl.execution.parameters import parameters
from comarl.execution.solo import HEADS, Solo

PLATFORMS = ("cpu", "cuda", "tpu")
"""Where a StableHLO program may run; policies use nothing that one of them lacks."""

OPSET = 18
"""ONNX's, of December 2022: the oldest that has all that policies need, for runtimes that are not of this year."""


def input_ports(solo: Solo) -> tuple[Port, ...]:
    """The carry, the observation and the mask."""
    return (
        *(Port(name, x.shape[1:], x.dtype.name) for name, x in solo.initial_carry(1).items()),
        Port(OBSERVATION, (solo.obs_dim,), "float32"),
        Port(MASK, (solo.num_actions,), "bool"),
    )


def output_ports(solo: Solo) -> tuple[Port, ...]:
    """The next carry, the action and what it was chosen by."""
    names = [*(NEXT + name for name in solo.initial_carry(1)), ACTION, *HEADS[solo.head].grounds]
    outputs = jax.eval_shape(_flat(solo), *(_form(port, 1) for port in input_ports(solo)))
    return tuple(Port(name, x.shape[1:], x.dtype.name) for name, x in zip(names, outputs, strict=True))


def _form(port: Port, batch: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *port.shape), np.dtype(port.dtype))


def serialise(solo: Solo, format_: Format) -> bytes:
    """What a file holds.

    Raises:
        ComarlError: if the package that writes the format is missing.
    """
    match format_:
        case "onnx":
            return _to_onnx(solo)
        case "jax":
            return _to_stablehlo(solo)
        case "safetensors":
            return _to_safetensors(solo)


def _flat(solo: Solo) -> Callable[..., tuple[jax.Array, ...]]:
    """The policy as a function of arrays in the order of the ports."""
    names = list(solo.initial_carry(1))

    def step(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        *carry, observation, mask = arrays
        after, action, grounds = solo(dict(zip(names, carry, strict=True)), observation, mask)
        # A vector is the action and the last one of the next step; jax2onnx has a single name for one value.
        apart = (jnp.where(mask, x, 0.0) if x is action else x for x in after.values())
        return (*apart, action, *grounds.values())

    return step


def _to_onnx(solo: Solo) -> bytes:
    """Through jax2onnx; the graph holds its parameters and names its arrays as the manifest does."""
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise missing_extra("jax2onnx", "export") from error
    inputs = [_form(port, "B") for port in input_ports(solo)]
    with _tidy():
        model = to_onnx(
            _flat(solo),
            inputs,
            model_name="policy",
            opset=OPSET,
            input_names=[port.name for port in input_ports(solo)],
            output_names=[port.name for port in output_ports(solo)],
        )
    return model.SerializeToString()


@contextlib.contextmanager
def _tidy() -> Generator[None]:
    """A conversion warns that the length of the batch axis has no type, and leaves ``jnp.cumsum`` replaced."""
    logger, cumsum = logging.getLogger("onnx_ir"), jnp.cumsum
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        jnp.cumsum = cumsum


def _to_stablehlo(solo: Solo) -> bytes:
    (batch,) = export.symbolic_shape("B")
    inputs = [_form(port, batch) for port in input_ports(solo)]
    return bytes(export.export(jax.jit(_flat(solo)), platforms=PLATFORMS)(*inputs).serialize())


def _to_safetensors(solo: Solo) -> bytes:
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise missing_extra("safetensors", "export") from error
    return save(parameters(solo.body), metadata={"format": "comarl"})
