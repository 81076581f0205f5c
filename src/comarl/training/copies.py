"""Copies of a run's state that training does not touch."""

import weakref
from typing import Any, cast

import jax
import numpy as np

from comarl.training.ondevice import RunState

LARGE = 2**20
"""Bytes from which on an array's memory is worth keeping."""

ALIGNMENT = 64
"""Bytes; JAX takes aligned memory as it is, and copies what lies otherwise."""


class Copies:
    """Makes copies of states, on the host where JAX can use it.

    On a CPU the memory of a copy that nobody holds any more serves the next one. The operating system hands new memory
    out page by page, when it is first written to: for a replay that takes several times as long as the copying does.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}

    def of(self, state: RunState) -> RunState:
        """One in memory of its own, which the next chunk does not take for its result."""
        try:
            host = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # the user has told JAX to use nothing but the accelerator
            host = jax.devices()[0]
        jax.block_until_ready(state)
        return jax.block_until_ready(jax.tree.map(lambda x: self._copy(x, host), state))

    def _copy(self, x: Any, host: Any) -> jax.Array:
        here = isinstance(x, jax.Array) and host.platform == "cpu" and x.devices() == {host}
        if not here or x.nbytes < LARGE or not isinstance(x.dtype, np.dtype):
            return jax.device_put(x, host, may_alias=False)
        memory = self._memory(x.nbytes)
        array = np.frombuffer(memory, x.dtype)
        # Whoever uses any part of the copy holds this array, which is the lowest that NumPy and JAX can see.
        weakref.finalize(array, self._free[x.nbytes].append, memory)
        # Not np.asarray: the state would keep that view, and could not be donated to the next chunk.
        np.copyto(array.reshape(x.shape), np.from_dlpack(cast(Any, x)))
        return jax.device_put(array.reshape(x.shape), host, may_alias=True)

    def _memory(self, size: int) -> memoryview:
        try:
            return self._free.setdefault(size, []).pop()
        except IndexError:
            whole: Any = np.empty(size + ALIGNMENT, np.uint8)
            offset = -whole.ctypes.data % ALIGNMENT
            return memoryview(whole)[offset : offset + size]
