"""The global state and the faster simulator function, against JaxMARL's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.adapters.jaxmarl import Smax
from comarl.envs.adapters.smax_units import global_state, push_apart
from comarl.envs.registry import make_env


@pytest.fixture(scope="module", params=["2s3z", "smacv2_5_units"])
def smax(request: pytest.FixtureRequest) -> Smax:
    env = make_env(f"smax/{request.param}")
    assert isinstance(env, Smax)
    return env


def crowded(env: Smax, seed: int) -> Array:
    """JaxMARL's state with everything drawn: units that overlap, wounds, cooldowns, some dead."""
    keys = jax.random.split(jax.random.key(seed), 4)
    world = env.begin(keys[0]).world.state
    units = world.unit_health.shape
    return world.replace(
        unit_positions=16 + jax.random.normal(keys[1], world.unit_positions.shape),
        unit_health=world.unit_health * jax.random.uniform(keys[2], units),
        unit_weapon_cooldowns=jax.random.uniform(keys[3], units, minval=-40.0, maxval=2.0),
        unit_alive=jnp.arange(units[0]) % 4 != 0,
    )


def test_an_agents_unit_is_its_own_part_of_the_state(smax: Smax) -> None:
    """Each ally's features of JaxMARL's world state, scaled by hand; enemies have features and are no agents."""
    sim, world = smax.units, crowded(smax, 3)
    with jax.numpy_rank_promotion("allow"):
        theirs = np.asarray(sim.get_world_state(world))
    ours = np.asarray(global_state(sim, world))
    width = 4 + sim.unit_type_bits  # health, x, y, cooldown, and one bit for each type
    assert len(smax.spec.units) == smax.spec.num_agents == sim.num_allies < sim.num_agents
    for i, (start, stop) in enumerate(smax.spec.units):
        health, x, y, cooldown, *kind = theirs[i * width : (i + 1) * width]
        length = sim.unit_type_weapon_cooldowns[world.unit_types[i]]
        by_hand = [health, x / sim.map_width, y / sim.map_height, max(cooldown, 0.0) / length, *kind]
        np.testing.assert_allclose(ours[start:stop], by_hand, rtol=1e-5, atol=1e-6)
        assert bool(ours[start:stop].any()) == bool(world.unit_alive[i])


@pytest.mark.parametrize("unit", [0, 3, 4, 9])
def test_what_happens_to_a_unit_shows_in_its_own_part_alone(smax: Smax, unit: int) -> None:
    world = crowded(smax, 1)
    moved = world.replace(
        unit_positions=world.unit_positions.at[unit].add(1.0),
        unit_health=world.unit_health.at[unit].multiply(0.5),
        unit_alive=world.unit_alive.at[unit].set(True),
    )
    changed = np.flatnonzero(global_state(smax.units, world) != global_state(smax.units, moved))
    parts = [i for i, (start, stop) in enumerate(smax.spec.units) if ((changed >= start) & (changed < stop)).any()]
    assert changed.size > 0
    assert parts == ([unit] if unit < smax.spec.num_agents else [])


def test_the_global_state_is_jaxmarls_scaled(smax: Smax) -> None:
    world = crowded(smax, 1)
    with jax.numpy_rank_promotion("allow"):
        theirs = smax.units.get_world_state(world)
    # Per unit: health, x, y, cooldown, six type bits; then teams and types.
    theirs = np.asarray(theirs)[: 10 * 10].reshape(10, 10).copy()
    theirs[:, 1:3] /= 32
    theirs[:, 3] = np.maximum(theirs[:, 3], 0) / smax.units.unit_type_weapon_cooldowns[world.unit_types]
    ours = np.asarray(global_state(smax.units, world)).reshape(10, 10)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert np.abs(ours).max() < 4.1  # a cooldown of 2 s at most, of .5 s at least
    np.testing.assert_array_equal(ours[::4], 0.0)  # the dead


@pytest.mark.parametrize("seed", range(3))
def test_units_are_pushed_apart_as_by_jaxmarl(smax: Smax, seed: int) -> None:
    world = crowded(smax, seed)
    with jax.numpy_rank_promotion("allow"):
        theirs = type(smax.units)._push_units_away(smax.units, world).unit_positions
    ours = push_apart(smax.units, world).unit_positions
    assert np.abs(np.asarray(theirs - world.unit_positions)).max() > 0.01  # some overlapped
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(ours[::4], world.unit_positions[::4])  # the dead stay
    assert smax.units._push_units_away(world).unit_positions.tolist() == ours.tolist()  # it is in use
