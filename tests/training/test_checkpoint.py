"""States on disk."""

import gc
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.errors import ComarlError
from comarl.training import checkpoint


class State(NamedTuple):
    """Of all the kinds that a run's state has."""

    weights: Any
    count: Any
    flags: Any
    nothing: Any


def state(number: float = 1.5) -> State:
    return State({"w": jnp.full((2, 3), number), "b": (jnp.zeros(2),)}, jnp.asarray(7), jnp.array([True, False]), ())


def shapes(of: State) -> State:
    return jax.eval_shape(lambda: of)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "seed_0", state())
    loaded = checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert jax.tree.structure(loaded) == jax.tree.structure(state())
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(state()), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_saving_again_replaces(tmp_path: Path) -> None:
    for number in (1.0, 2.0):
        checkpoint.save(tmp_path / "seed_0", state(number))
    assert (checkpoint.load(tmp_path / "seed_0", shapes(state())).weights["w"] == 2).all()


def test_nothing_saved_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ComarlError, match="no saved state in") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)


WIDER = state()._replace(weights={"w": jnp.zeros((2, 4)), "b": (jnp.zeros(2),)})
RENAMED = state()._replace(weights={"v": jnp.zeros((2, 3)), "b": (jnp.zeros(2),)})


@pytest.mark.parametrize(
    ("other", "what"),
    [(WIDER, r"weights\.w has the shape \(2, 3\) there and \(2, 4\) here"), (RENAMED, "weights")],
    ids=["another shape", "another structure"],
)
def test_a_state_of_something_else_is_one_line(tmp_path: Path, other: State, what: str) -> None:
    """And nothing else: Python must not complain later, which is an error in these tests."""
    checkpoint.save(tmp_path / "seed_0", state())
    with pytest.raises(ComarlError, match=f"does not fit this configuration: .*{what}") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(other))
    assert "\n" not in str(error.value)
    del error
    gc.collect()


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "seed_0").mkdir()
    with pytest.raises(ComarlError, match="no saved state in") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)


def test_an_incomplete_state_is_one_line(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "seed_0", state())
    for name in ("_METADATA", "_CHECKPOINT_METADATA"):
        (tmp_path / "seed_0" / name).unlink()
    with pytest.raises(ComarlError, match="does not fit this configuration") as error:
        checkpoint.load(tmp_path / "seed_0", shapes(state()))
    assert "\n" not in str(error.value)
