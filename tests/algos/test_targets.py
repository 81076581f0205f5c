"""How target networks follow; that learners call it at every update is tested with each."""

import jax.numpy as jnp
import pytest

from comarl.algos.targets import TargetUpdate, next_target

ONLINE, TARGET = {"w": jnp.full(2, 8.0), "b": jnp.asarray(4.0)}, {"w": jnp.zeros(2), "b": jnp.zeros(())}


@pytest.mark.parametrize(
    ("how", "updates", "share"),
    [
        ("hard", 1, 0),
        ("hard", 2, 0),
        ("hard", 3, 1),
        ("hard", 4, 0),
        ("hard", 6, 1),
        ("soft", 1, 0.25),
        ("soft", 3, 0.25),
    ],
)
def test_what_is_taken_from_the_online_network(how: TargetUpdate, updates: int, share: float) -> None:
    target = next_target(ONLINE, TARGET, jnp.asarray(updates), how, interval=3, tau=0.25)
    assert target["w"].tolist() == [8 * share] * 2
    assert target["b"] == 4 * share


def test_without_a_target_network_there_is_none() -> None:
    assert next_target(ONLINE, None, jnp.asarray(3), "none", interval=3, tau=0.25) is None
