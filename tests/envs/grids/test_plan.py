"""A team that plays by heart."""

import jax
import jax.numpy as jnp

from comarl.envs.grids.plan import Plan
from comarl.training.evaluate import play
from comarl.types import TimeStep
from tests.probes import Delayed

KEY = jax.random.key(0)


def test_it_begins_anew_with_every_episode_and_repeats_the_last_joint_action() -> None:
    plan = Plan(("dl", "u."))
    _, ts = Delayed().reset(KEY)
    later: TimeStep = ts._replace(first=jnp.array(False))
    carry, taken = plan.initial_carry(), []
    for step in (ts, later, later, ts, later):
        carry, action = plan.act(carry, step, KEY, True)
        taken.append(action.tolist())
    assert taken == [[0, 2], [1, 4], [1, 4], [0, 2], [1, 4]]


def test_a_driver_can_play_it() -> None:
    assert play(Delayed(), Plan(("d", "l")), KEY[None]).length.tolist() == [2]
