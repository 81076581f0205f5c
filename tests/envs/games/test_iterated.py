"""Iterated matrix games: payoffs of each agent, what each remembers, and how they end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comarl.envs.conformance import check_env
from comarl.envs.games.iterated import OWN_PAYOFFS, ROUNDS, SHARED_PAYOFFS, make
from comarl.envs.registry import FAMILIES

KEY = jax.random.key(0)


def test_the_registry_has_every_game() -> None:
    assert FAMILIES["iterated"].variants == (*OWN_PAYOFFS, *SHARED_PAYOFFS)


@pytest.mark.parametrize("variant", ["prisoners", "climbing"])
def test_keeps_to_the_protocol(variant: str) -> None:
    assert check_env(make(variant)) == []


@pytest.mark.parametrize("variant", [*OWN_PAYOFFS, *SHARED_PAYOFFS])
def test_every_joint_action_pays_both_agents(variant: str) -> None:
    env = make(variant)
    state, ts = env.reset(KEY)
    np.testing.assert_array_equal(ts.reward, [0.0, 0.0])
    joint = list(np.ndindex(*env.payoff.shape[:2]))
    _, ts = jax.vmap(lambda a: env.step(state, a, KEY))(jnp.array(joint, jnp.int32))
    if variant in OWN_PAYOFFS:
        expected = [OWN_PAYOFFS[variant][row][column] for row, column in joint]
    else:
        expected = [(SHARED_PAYOFFS[variant][row][column],) * 2 for row, column in joint]
    np.testing.assert_array_equal(ts.reward, expected)


def test_which_games_are_shared() -> None:
    """One reward for the team is honest where both agents get the same, and nowhere else."""
    assert {name for name in (*OWN_PAYOFFS, *SHARED_PAYOFFS) if make(name).spec.reward != "per agent"} == set(
        SHARED_PAYOFFS
    )


def test_who_gains_only_what_the_other_loses() -> None:
    """A dilemma has a common interest too, and its mean reward a meaning; matching pennies has none."""
    assert {name for name in (*OWN_PAYOFFS, *SHARED_PAYOFFS) if make(name).spec.opposed} == {"pennies"}


def test_the_equilibria_that_make_each_game() -> None:
    """Pure Nash equilibria by definition: nobody gains by moving alone."""

    def equilibria(name: str) -> set[tuple[int, int]]:
        payoff = make(name).payoff
        rows, columns = payoff[..., 0], payoff[..., 1]
        best = (rows == rows.max(0, keepdims=True)) & (columns == columns.max(1, keepdims=True))
        return {(int(row), int(column)) for row, column in np.argwhere(best)}

    assert equilibria("prisoners") == {(1, 1)}  # although (0, 0) is better for both
    assert equilibria("pennies") == set()
    assert equilibria("stag-hunt") == {(0, 0), (1, 1)}
    assert equilibria("chicken") == {(0, 1), (1, 0)}
    assert equilibria("bach-stravinsky") == {(0, 0), (1, 1)}
    assert equilibria("climbing") == {(0, 0), (1, 1)}  # 11 and, easier to find, 7
    assert equilibria("penalty-100") == {(0, 0), (1, 1), (2, 2)}


def test_each_agent_remembers_its_own_action_first() -> None:
    env = make("prisoners")
    state, ts = env.reset(KEY)
    np.testing.assert_array_equal(ts.obs, np.zeros((2, 4)))
    assert bool(ts.first)
    _, ts = env.step(state, jnp.array([0, 1]), KEY)
    np.testing.assert_array_equal(ts.obs, [[1, 0, 0, 1], [0, 1, 1, 0]])
    np.testing.assert_array_equal(ts.state, [1, 0, 0, 1])
    assert not bool(ts.first)


def test_the_last_round_is_a_time_limit() -> None:
    env = make("stag-hunt")
    state, ts = env.reset(KEY)
    step = jax.jit(env.step)
    total = np.zeros(2)
    for i in range(ROUNDS):
        assert not bool(ts.last), i
        state, ts = step(state, jnp.array([0, 0]), KEY)
        total += np.asarray(ts.reward)
    assert bool(ts.last)
    assert float(ts.discount) == 1.0
    np.testing.assert_array_equal(total, [100.0, 100.0])  # 25 rounds of 4
