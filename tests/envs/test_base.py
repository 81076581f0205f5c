"""Time steps from the words environments use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.base import make_timestep, select, strong

OBS, STATE = jnp.ones((2, 3)), jnp.ones((4,))


@pytest.mark.parametrize(
    ("terminated", "truncated", "discount", "last"),
    [(False, False, 1.0, False), (True, False, 0.0, True), (False, True, 1.0, True), (True, True, 0.0, True)],
)
def test_a_time_limit_is_no_termination_and_termination_wins(
    terminated: bool, truncated: bool, discount: float, last: bool
) -> None:
    ts = make_timestep(OBS, STATE, num_actions=2, terminated=terminated, truncated=truncated)
    assert (float(ts.discount), bool(ts.last)) == (discount, last)


def test_a_scalar_reward_is_shared_and_others_are_kept() -> None:
    np.testing.assert_array_equal(make_timestep(OBS, STATE, num_actions=2, reward=3.0).reward, [3, 3])
    reward = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(make_timestep(OBS, STATE, num_actions=2, reward=reward).reward, [1, 2])


def test_actions_are_all_available_or_as_told() -> None:
    assert make_timestep(OBS, STATE, num_actions=2).avail.tolist() == [[True, True], [True, True]]
    avail = jnp.array([[0, 1], [1, 0]])
    assert make_timestep(OBS, STATE, avail=avail).avail.tolist() == [[False, True], [True, False]]
    with pytest.raises(ValueError, match="needs avail or num_actions"):
        make_timestep(OBS, STATE)


def test_select_picks_whole_trees() -> None:
    yes, no = {"a": jnp.array([1, 2]), "b": jnp.array(0.5)}, {"a": jnp.array([3, 4]), "b": jnp.array(1.5)}
    assert select(jnp.array(True), yes, no)["a"].tolist() == [1, 2]
    assert float(select(jnp.array(False), yes, no)["b"]) == 1.5


def test_strong_arrays_keep_their_values_and_dtypes() -> None:
    tree = strong({"a": jnp.asarray(1), "b": 0.5, "c": jnp.array([True])})
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(tree))
    assert [(leaf.dtype.name, leaf.tolist()) for leaf in tree.values()] == [
        ("int32", 1),
        ("float32", 0.5),
        ("bool", [True]),
    ]
