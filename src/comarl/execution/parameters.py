"""An agent's parameters by name: what a safetensors file holds, and the policy that they make."""

from collections.abc import Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from comarl.errors import ComarlError, missing_extra
from comarl.execution.manifest import MASK, NEXT, OBSERVATION, Manifest
from comarl.execution.solo import HEADS, Solo
from comarl.nets.agents import Body
from comarl.nets.cells import CELLS, CellKind


def parameters(body: Body) -> dict[str, np.ndarray]:
    """The arrays of a network by their names, such as ``encoder.weight``."""
    return {_name(path): np.ascontiguousarray(x) for path, x in jax.tree.leaves_with_path(body)}


_step = jax.jit(lambda solo, *arrays: solo(*arrays))  # agents that differ in their parameters alone share a program


class ParameterProgram:
    """The policy that the parameters of a safetensors file make in the manifest's network."""

    def __init__(self, manifest: Manifest, agent: int, data: bytes, where: str):
        try:
            from safetensors.numpy import load
        except ImportError as error:
            raise missing_extra("safetensors", "export") from error
        try:
            arrays = load(data)
        except Exception as error:  # whatever a parser of a stranger's bytes may raise
            raise ComarlError(f"{where} is no safetensors file: {error}") from error
        self._solo = _solo(manifest, agent, arrays, where)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One step of ``B`` games."""
        carry = {name: jnp.asarray(x) for name, x in inputs.items() if name not in (OBSERVATION, MASK)}
        after, action, grounds = _step(self._solo, carry, jnp.asarray(inputs[OBSERVATION]), jnp.asarray(inputs[MASK]))
        named = {NEXT + name: x for name, x in after.items()} | {"action": action} | grounds
        return {name: np.asarray(x) for name, x in named.items()}


def _solo(manifest: Manifest, agent: int, arrays: dict[str, np.ndarray], where: str) -> Solo:
    network, sizes = manifest.network, (manifest.obs_dim, manifest.num_actions)
    if network.cell not in CELLS or network.head not in HEADS:
        raise ComarlError(f"{where}: this comarl knows no network with the cell {network.cell} and {network.head}")
    inputs = sum(size for _, size in network.features(*sizes))

    def make() -> Body:
        kind = cast(CellKind, network.cell)
        return Body(inputs, network.hidden, network.outputs, kind, network.layer_norm, key=jax.random.key(0))

    like = eqx.filter_eval_shape(make)
    wanted = {_name(path): x.shape for path, x in jax.tree.leaves_with_path(like)}
    found = {name: x.shape for name, x in arrays.items()}
    differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differ or any(x.dtype != np.float32 for x in arrays.values()):
        raise ComarlError(f"{where} does not fit its manifest: {', '.join(differ) or 'numbers are not float32'}")
    body = jax.tree.map_with_path(lambda path, _: jnp.asarray(arrays[_name(path)]), like)
    return Solo(body, network.head, *sizes, network.last_action, agent, network.agent_ids)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
