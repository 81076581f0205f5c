"""The fixed policies."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Array
from scipy.stats import kstest, uniform

from comarl.envs.base import make_timestep
from comarl.training.baselines import RandomPolicy, baselines
from tests.probes import Aim, Lottery

act = jax.jit(
    lambda avail, keys: jax.vmap(
        lambda k: RandomPolicy().act((), make_timestep(jnp.zeros((2, 1)), jnp.zeros(1), avail=avail), k, False)[1]
    )(keys)
)


@given(hnp.arrays(bool, (2, 4)).filter(lambda m: m.any(-1).all()), st.integers(0, 2**31))
def test_random_policy_keeps_to_available_actions(avail: np.ndarray, seed: int) -> None:
    actions = np.asarray(act(avail, jax.random.split(jax.random.key(seed), 64)))
    assert avail[np.arange(2)[None], actions].all()


def test_random_policy_is_uniform_and_agents_draw_apart() -> None:
    avail = np.array([[True, True, False, True], [True, True, True, True]])
    actions = np.asarray(act(avail, jax.random.split(jax.random.key(0), 20_000)))
    got = [[(actions[:, i] == a).mean() for a in range(4)] for i in range(2)]
    np.testing.assert_allclose(got, [[1 / 3, 1 / 3, 0, 1 / 3], [1 / 4] * 4], atol=0.014)  # 4 standard errors
    np.testing.assert_allclose((actions[:, 0] == actions[:, 1]).mean(), 1 / 4, atol=0.014)


def test_random_vectors_are_uniform_over_the_components_that_there_are() -> None:
    _, ts = Aim().reset(jax.random.key(0))
    play: RandomPolicy = baselines(Aim())["random"]  # pyright: ignore
    assert play == RandomPolicy(continuous=True)
    keys = jax.random.split(jax.random.key(4), 5000)
    drawn = np.asarray(jax.vmap(lambda key: play.act((), ts, key, False)[1])(keys))
    np.testing.assert_array_equal(drawn[:, 1, 1], 0)
    for component in (drawn[:, 0, 0], drawn[:, 0, 1], drawn[:, 1, 0]):
        assert kstest(component, uniform(-1, 2).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(drawn[:, 0].T)[0, 1]) < 0.06


class WithHeuristic(Lottery):
    """Brings a policy of its own."""

    def heuristics(self) -> dict[str, RandomPolicy]:
        return {"mine": RandomPolicy()}


def test_baselines_are_random_play_and_the_environments_own() -> None:
    assert list(baselines(Lottery())) == ["random"]
    assert list(baselines(WithHeuristic())) == ["random", "mine"]


def test_random_policy_does_not_depend_on_exploring() -> None:
    ts = make_timestep(jnp.zeros((2, 1)), jnp.zeros(1), num_actions=3)
    plays: list[Array] = [RandomPolicy().act((), ts, jax.random.key(5), explore)[1] for explore in (True, False)]
    np.testing.assert_array_equal(*plays)
