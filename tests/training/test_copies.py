"""Copies of a state: equal, nobody else's, and in memory that is used again once nobody holds it."""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.training import copies
from comarl.training.copies import Copies
from comarl.training.ondevice import RunState

SIZE = 2**20


def state(number: float) -> RunState:
    """With large arrays of several kinds and shapes, small ones, a random key and one of NumPy's."""
    memory = {
        "floats": jnp.full((SIZE // 4 + 1,), number),
        "bits": jnp.arange(SIZE) % 7 == number,
        "counts": jnp.arange(SIZE // 2).reshape(2, -1, 4) + int(number),
    }
    return RunState(
        {"key": jax.random.key(int(number))}, memory, np.full(3, number, np.float32), jnp.asarray(1), jnp.asarray(2)
    )


def plain(of: RunState) -> list[np.ndarray]:
    return [
        np.array(jax.random.key_data(x) if x.ndim == 0 and str(x.dtype) == "key<fry>" else x)
        for x in jax.tree.leaves(of)
    ]


def places(of: RunState) -> dict[str, int]:
    return {name: x.unsafe_buffer_pointer() for name, x in of.memory.items()}


def test_a_copy_is_equal_and_stays_so() -> None:
    made = Copies()
    first = made.of(state(1.0))
    second = made.of(state(2.0))
    for copy, number in ((first, 1.0), (second, 2.0)):
        assert jax.tree.structure(copy) == jax.tree.structure(state(number))
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(copy))
        for x, y in zip(plain(copy), plain(state(number)), strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            np.testing.assert_array_equal(x, y)


def test_memory_that_nobody_holds_is_used_again() -> None:
    made = Copies()
    copy = made.of(state(1.0))
    before = places(copy)
    assert all(place % copies.ALIGNMENT == 0 for place in before.values())
    del copy
    gc.collect()
    assert places(made.of(state(2.0))) == before


@pytest.mark.parametrize("hold", [np.asarray, lambda x: np.asarray(x)[1:], memoryview, np.from_dlpack])
def test_memory_of_which_anybody_holds_a_part_is_not(hold: Any) -> None:
    made = Copies()
    copy = made.of(state(1.0))
    before = places(copy)
    held = hold(np.asarray(copy.memory["floats"]))
    del copy
    gc.collect()
    after = places(made.of(state(2.0)))
    assert after["floats"] != before["floats"]
    assert after["bits"] == before["bits"]
    assert (np.asarray(held) == 1.0).all()


def test_what_was_copied_can_still_be_donated() -> None:
    """A replay that could not be would be copied at every chunk after a checkpoint."""
    following = jax.jit(lambda of: jax.tree.map(lambda x: x + 1, of), donate_argnums=0)
    now = {"floats": jnp.zeros(SIZE), "counts": jnp.zeros(SIZE, jnp.int32)}
    before = {name: x.unsafe_buffer_pointer() for name, x in now.items()}
    copy = Copies().of(RunState((), now, (), jnp.asarray(0), jnp.asarray(0)))
    now = following(now)
    assert {name: x.unsafe_buffer_pointer() for name, x in now.items()} == before
    assert not np.asarray(copy.memory["floats"]).any()
