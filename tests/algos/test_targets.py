"""Target networks follow."""

import jax.numpy as jnp
import numpy as np
import pytest

from comarl.algos.targets import TargetUpdate, follow

ONLINE, TARGET = {"w": jnp.array([4.0, -2.0])}, {"w": jnp.array([0.0, 2.0])}


@pytest.mark.parametrize(
    ("how", "updates", "wanted"),
    [
        ("hard", 3, [0, 2]),
        ("hard", 5, [4, -2]),
        ("hard", 10, [4, -2]),
        ("soft", 3, [1, 1]),
        ("soft", 5, [1, 1]),
    ],
)
def test_copied_when_due_or_moved_each_time(how: TargetUpdate, updates: int, wanted: list[float]) -> None:
    np.testing.assert_allclose(follow(ONLINE, TARGET, jnp.asarray(updates), how, 5, 0.25)["w"], wanted)


def test_none_stays_none() -> None:
    assert follow(ONLINE, None, jnp.asarray(5), "none", 5, 0.25) is None
