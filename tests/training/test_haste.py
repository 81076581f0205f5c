"""Tests of comarl.training.haste."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.training import haste

LOWERED = jax.jit(lambda x: jnp.tanh(x @ x).sum(0)).lower(jnp.eye(3))


def test_the_program_is_the_same() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 3))
    np.testing.assert_allclose(
        haste.compile_quickly(LOWERED)(x), np.tanh(np.asarray(x) @ np.asarray(x)).sum(0), rtol=1e-5
    )


def test_the_compiler_is_told_nothing_that_it_may_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses an option that it does not know, as every later version may."""
    monkeypatch.setattr(haste, "QUICK", {"xla_no_such_option": False})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        haste.compile_quickly(LOWERED)
    for version in ((0, 9, 9), (haste.TRIED[1][0], haste.TRIED[1][1] + 1, 0)):
        monkeypatch.setattr(jax, "__version_info__", version)
        haste.compile_quickly(LOWERED)
