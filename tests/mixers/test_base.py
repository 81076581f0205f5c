"""What a mixer is given."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from comarl.envs.base import make_timestep
from comarl.mixers.base import MASKED, FactoredMixer, Joint, mask_unavailable
from comarl.mixers.vdn import VDN

Q = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
AVAIL = jnp.array([[True, True, False], [False, True, True]])
TS = make_timestep(jnp.zeros((2, 1)), jnp.zeros(1), avail=AVAIL)


def joint(action: list[int]) -> Joint:
    return Joint(mask_unavailable(Q, TS), jnp.array(action), jnp.zeros((2, 1)), TS)


def test_unavailable_actions_are_worth_less_than_anything() -> None:
    np.testing.assert_array_equal(mask_unavailable(Q, TS), [[1, 2, MASKED], [MASKED, 5, 6]])
    assert MASKED < -1e8
    assert np.isfinite(np.float32(MASKED) ** 2)  # a square of it may be computed before it is masked out


def test_chosen_utilities() -> None:
    np.testing.assert_array_equal(joint([1, 2]).chosen, [2, 6])
    np.testing.assert_array_equal(joint([0, 1]).chosen, [1, 5])


def test_loss_of_a_team_value_is_the_squared_error() -> None:
    loss, metrics = VDN().loss(joint([1, 2]), jnp.asarray(5.0))
    assert loss == (2 + 6 - 5) ** 2
    assert metrics == {"q_tot": 8, "td_error": 3}


class Twice(FactoredMixer):
    """One value per agent."""

    def __call__(self, joint: Joint) -> Float[Array, " N"]:
        return 2 * joint.chosen


def test_loss_of_values_per_agent_is_the_mean_over_agents() -> None:
    loss, metrics = Twice().loss(joint([1, 2]), jnp.array([1.0, 10.0]))
    assert loss == ((4 - 1) ** 2 + (12 - 10) ** 2) / 2
    assert metrics == {"q_tot": 8, "td_error": 2.5}


def test_a_factored_mixer_bootstraps_with_itself() -> None:
    np.testing.assert_array_equal(Twice().bootstrap(joint([1, 2])), [4, 12])
