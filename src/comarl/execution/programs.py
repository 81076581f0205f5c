"""Running an exported agent: ONNX without JAX, StableHLO and parameters with it. Nothing here unpickles."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from comarl.errors import ComarlError, missing_extra
from comarl.execution.manifest import Manifest, Port

Arrays = Mapping[str, np.ndarray]


@runtime_checkable
class Program(Protocol):
    """One agent's policy: from the arrays of the manifest's inputs to those of its outputs, by name."""

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step of ``B`` games, ``[B, ...]``."""
        ...


def load_program(manifest: Manifest, agent: int, data: bytes, where: str) -> Program:
    """The program in a file's bytes.

    Args:
        manifest: which says what it takes and gives.
        agent: whose it is; parameters alone do not know.
        data: the file.
        where: the file's name, for errors.

    Raises:
        ComarlError: if the package that runs it is missing, or if it does not have the manifest's signature.
    """
    match manifest.format:
        case "onnx":
            return OnnxProgram(manifest, data, where)
        case "jax":
            return JaxProgram(manifest, data, where)
        case "safetensors":
            try:
                from comarl.execution.parameters import ParameterProgram
            except ImportError as error:
                raise _needs_jax(where, error) from error
            return ParameterProgram(manifest, agent, data, where)


class OnnxProgram:
    """An ONNX graph in onnxruntime, on one thread: an agent's network is too small to share out."""

    def __init__(self, manifest: Manifest, data: bytes, where: str):
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_extra("onnxruntime", "export") from error
        # The key under which a graph names another file that its parameters are in. onnxruntime would read that file,
        # for a graph from memory wherever a relative path leads; however a graph is encoded, the word stands in it.
        if b"location" in data:
            raise ComarlError(f"{where} asks for parameters in another file, which no exported policy does")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised, and need not be printed as well
        try:
            # From memory: what was hashed is what runs.
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise ComarlError(f"{where} is no ONNX graph that onnxruntime can run: {_first_line(error)}") from error
        _require_ports(where, manifest.inputs, [_onnx_port(x) for x in self._session.get_inputs()])
        _require_ports(where, manifest.outputs, [_onnx_port(x) for x in self._session.get_outputs()])
        self._names = [port.name for port in manifest.outputs]

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step of ``B`` games."""
        outputs = self._session.run(self._names, dict(inputs))
        return {name: np.asarray(x) for name, x in zip(self._names, outputs, strict=True)}


class JaxProgram:
    """A StableHLO program, as ``jax.export`` serialises it."""

    def __init__(self, manifest: Manifest, data: bytes, where: str):
        try:
            import jax
            from jax import export
        except ImportError as error:
            raise _needs_jax(where, error) from error
        try:
            exported = export.deserialize(bytearray(data))
            text = exported.mlir_module()
        except Exception as error:  # whatever a parser of a stranger's bytes may raise
            raise ComarlError(f"{where} is no program that this JAX can run: {_first_line(error)}") from error
        # What XLA calls by name is code outside the program; policies need none but the check of their batch axis.
        if re.search(r"custom_call(?! @shape_assertion\()", text):
            raise ComarlError(f"{where} calls code outside itself, which no exported policy does")
        names = [port.name for port in (*manifest.inputs, *manifest.outputs)]
        found = [
            Port(name, _for_one_game(x.shape), str(x.dtype))
            for name, x in zip(names, (*exported.in_avals, *exported.out_avals), strict=False)
        ]
        _require_ports(where, (*manifest.inputs, *manifest.outputs), found)
        self._inputs = [port.name for port in manifest.inputs]
        self._outputs = [port.name for port in manifest.outputs]
        self._call = jax.jit(exported.call)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One step of ``B`` games."""
        outputs = self._call(*(inputs[name] for name in self._inputs))
        return {name: np.asarray(x) for name, x in zip(self._outputs, outputs, strict=True)}


def _needs_jax(where: str, error: ImportError) -> ComarlError:
    return ComarlError(f"{where} plays in JAX ({error}): install it, or export the team with --format onnx")


def _onnx_port(x: Any) -> Port:
    dtypes = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(bool)": "bool"}
    return Port(str(x.name), _for_one_game(x.shape), dtypes.get(str(x.type), str(x.type)))


def _for_one_game(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Without the batch axis, which must be free: a number there is left, and will not fit the manifest."""
    return tuple(shape) if not shape or isinstance(shape[0], int) else tuple(shape[1:])


def _require_ports(where: str, wanted: Sequence[Port], found: Sequence[Port]) -> None:
    """The file must have the manifest's signature."""
    if tuple(wanted) != tuple(found):
        differ = next((pair for pair in zip(wanted, found, strict=False) if pair[0] != pair[1]), None)
        what = f"{differ[1]} in place of {differ[0]}" if differ else f"{len(found)} arrays"
        raise ComarlError(f"{where} does not fit its manifest: it has {what} (export the team again)")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
