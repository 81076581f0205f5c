"""SMAX and MPE through the adapter: endings, rewards, observations, masks, the scripted team."""

import functools
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.envs.adapters.jaxmarl import MPE, AttackNearest, Mpe, Smax, SmaxState
from comarl.envs.adapters.jaxmarl_parts import import_part
from comarl.envs.conformance import check_env
from comarl.envs.registry import FAMILIES, make_env
from comarl.envs.wrappers import AutoReset
from comarl.errors import ComarlError
from comarl.training.evaluate import evaluation_keys, play
from comarl.types import TimeStep

KEY = jax.random.key(0)
STOP = 4


@functools.cache
def smax() -> tuple[Smax, Any, Any]:
    """The environment with its compiled reset and step."""
    env = make_env("smax/3m")
    assert isinstance(env, Smax)
    return env, jax.jit(env.reset), jax.jit(env.step)


@functools.cache
def mpe(name: str) -> tuple[Mpe, Any, Any]:
    env = make_env(f"mpe/{name}")
    assert isinstance(env, Mpe)
    return env, jax.jit(env.reset), jax.jit(env.step)


def altered(state: SmaxState, **fields: Any) -> SmaxState:
    """The state with these fields of JaxMARL's in place."""
    return state._replace(world=state.world.replace(state=state.world.state.replace(**fields)))


def no_health(state: SmaxState, *units: int) -> SmaxState:
    """Units without health die in the next step. In 3m, 0 to 2 are allies and 3 to 5 enemies."""
    return altered(state, unit_health=state.world.state.unit_health.at[jnp.array(units)].set(0.0))


def smax_step(state: SmaxState) -> tuple[SmaxState, TimeStep]:
    return smax()[2](state, jnp.full(3, STOP), KEY)


def ending(state: SmaxState) -> tuple[bool, float, float, float]:
    """Whether a step from ``state`` is the last, its discount, its reward, and whether it was won."""
    state, ts = smax_step(state)
    assert len(set(ts.reward.tolist())) == 1  # the team shares it
    return bool(ts.last), float(ts.discount), float(ts.reward[0]), float(smax()[0].outcome(state)["won"])


# What the package is like.


def test_only_what_is_needed_is_imported_and_whoever_wants_it_whole_gets_it() -> None:
    code = """
        import io, sys
        kept, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
        sinks = sys.stdout, sys.stderr
        from comarl.envs.registry import make_env
        for name in ("mpe/simple_spread", "smax/3m", "smax/2s3z"):
            make_env(name).heuristics()
        assert not any(name.split(".")[0] in {"jaxmarl", "matplotlib"} for name in sys.modules)
        assert (sys.stdout, sys.stderr) == sinks and sinks[0].getvalue() == ""
        import jaxmarl
        assert jaxmarl.make("MPE_simple_spread_v3").num_agents == 3 and jaxmarl.environments.smax.SMAX
        assert make_env("smax/8m").spec.num_agents == 8
        sys.stdout = kept
        print("as it should be")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("as it should be\n")  # the whole of it prints, whatever sys.stdout is


@pytest.mark.parametrize("name", ["smax/3m", "mpe/simple_spread"])
def test_without_jaxmarl_the_error_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jaxmarl", None)
    with pytest.raises(ComarlError, match=r"package 'jaxmarl' is not installed: pip install 'comarl\[jaxmarl\]'"):
        make_env(name)


def test_every_scenario_and_every_discrete_particle_world_is_listed() -> None:
    assert FAMILIES["smax"].variants == tuple(import_part("smax.smax_env").MAP_NAME_TO_SCENARIO)
    assert FAMILIES["mpe"].variants == FAMILIES["mpe-continuous"].variants == tuple(MPE)
    # Left out: facmac, which has continuous actions only, and the world of one agent.
    missing = {name for name in import_part("mpe").__all__ if name.startswith("Simple")} - set(MPE.values())
    assert missing
    assert all("Facmac" in name or name == "SimpleMPE" for name in missing)


# SMAX: endings.


def test_a_victory_terminates_and_its_bonus_arrives() -> None:
    state, _ = smax()[1](KEY)
    # No health is lost in this step, so the reward is the bonus alone.
    assert ending(no_health(state, 3, 4, 5)) == (True, 0.0, 1.0, 1.0)


def test_a_defeat_terminates_without_bonus() -> None:
    state, _ = smax()[1](KEY)
    assert ending(no_health(state, 0, 1, 2)) == (True, 0.0, 0.0, 0.0)


def test_a_draw_terminates_and_is_not_won() -> None:
    state, _ = smax()[1](KEY)
    assert ending(no_health(state, 0, 1, 2, 3, 4, 5)) == (True, 0.0, 0.0, 0.0)


def test_the_time_limit_is_a_truncation_at_the_101st_transition() -> None:
    env, reset, _ = smax()
    assert env.spec.max_episode_steps == 101
    state, _ = reset(KEY)
    # JaxMARL's counter holds the transitions so far.
    assert ending(altered(state, step=jnp.array(99))) == (False, 1.0, 0.0, 0.0)  # the 100th transition
    assert ending(altered(state, step=jnp.array(100))) == (True, 1.0, 0.0, 0.0)
    assert ending(no_health(altered(state, step=jnp.array(100)), 3, 4, 5)) == (True, 0.0, 1.0, 1.0)


def test_damage_is_rewarded_as_a_fraction_of_the_enemies_health() -> None:
    state, ts = smax()[1](KEY)
    x = jnp.array([10.0, 10.0, 10.0, 12.0, 30.0, 30.0])  # the fourth unit is 2 from the allies: a marine shoots 5 far
    y = jnp.array([10.0, 15.9, 4.1, 10.0, 25.0, 20.0])
    state = altered(state, unit_positions=jnp.stack([x, y], axis=-1))
    ts = smax()[0].observe(state)
    np.testing.assert_array_equal(ts.avail, [[1] * 6 + [0] * 2, [1] * 5 + [0] * 3, [1] * 5 + [0] * 3])
    state, ts = smax()[2](state, jnp.array([5, STOP, STOP]), KEY)
    # One shot of 9 in half a second (a marine's weapon needs .61 s), of 3 marines with 45 each.
    np.testing.assert_allclose(ts.reward, [9 / 45 / 3] * 3, rtol=1e-6)


# SMAX: what is perceived.


def test_the_terminal_observation_is_kept_and_the_next_one_is_a_whole_reset() -> None:
    env = AutoReset(smax()[0])
    step = jax.jit(env.step)
    (state, _), _ = env.reset(KEY)
    state = no_health(state, 0, 3, 4, 5)  # one ally dies with the enemies
    over, ts = step((state, jnp.array(False)), jnp.full(3, STOP), KEY)
    expected = smax_step(state)[1]
    for ours, plain in zip(ts, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-6)
    assert bool(ts.last)
    assert float(ts.reward[0]) == 1.0
    np.testing.assert_array_equal(ts.obs[0], 0.0)  # the dead see nothing
    assert (ts.obs[1:, -10] == 1.0).all()  # the living see their own health
    np.testing.assert_array_equal(ts.avail, [[0, 0, 0, 0, 1, 0, 0, 0]] + 2 * [[1, 1, 1, 1, 1, 0, 0, 0]])

    key = jax.random.key(7)
    _, ts = step(over, jnp.full(3, STOP), key)
    expected = smax()[1](key)[1]
    for ours, plain in zip(ts, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-6)
    assert bool(ts.first)
    assert (ts.obs[:, -10] == 1.0).all()  # nobody is blank
    assert ts.reward.tolist() == [0.0, 0.0, 0.0]


def test_types_are_the_units_types_where_these_are_fixed() -> None:
    # 2s3z: two stalkers, three zealots. smacv2: drawn in every episode.
    assert make_env("smax/2s3z").spec.agent_types == (0, 0, 1, 1, 1)
    assert make_env("smax/smacv2_5_units").spec.agent_types == (0, 0, 0, 0, 0)


def test_smax_conforms() -> None:
    assert check_env(smax()[0], episodes=2) == []


# SMAX: the scripted team.


def test_the_script_attacks_the_nearest_enemy_and_stops_its_dead() -> None:
    env, reset, _ = smax()
    state, _ = reset(KEY)
    x = jnp.array([10.0, 10.0, 10.0, 14.0, 12.0, 20.0])
    y = jnp.array([10.0, 3.0, 25.0, 10.0, 10.0, 25.0])
    alive = jnp.array([True, False, True, True, True, True])
    state = altered(state, unit_positions=jnp.stack([x, y], axis=-1), unit_alive=alive)
    ts = env.observe(state)._replace(first=jnp.array(True))
    policy = AttackNearest(env)
    _, action = policy.act(policy.initial_carry(), ts, KEY)
    # The first unit has two enemies in range, the second of them (action 5 + 1) nearer. The second unit is dead. The
    # third sees nobody (a marine sees 9 far), and walks through the centre (16, 16): its target is the opposite side,
    # [[-1, 0], [0, -1]] @ (-6, 9) + (16, 16) = (22, 7), to the south (action 2).
    assert action.tolist() == [6, STOP, 2]


def test_the_script_forgets_the_last_episode() -> None:
    env, reset, _ = smax()
    _, ts = reset(KEY)
    policy = AttackNearest(env)
    carry, action = policy.act(policy.initial_carry(), ts, KEY)
    stale = jax.tree.map(lambda x: x + 3, carry)
    again, action_again = policy.act(stale, ts, KEY)
    assert action.tolist() == action_again.tolist()
    jax.tree.map(np.testing.assert_array_equal, again, carry)


def test_the_script_meets_itself_and_wins_about_half_its_battles_with_available_actions() -> None:
    env = smax()[0]

    class Checked(AttackNearest):
        def act(self, carry: Any, ts: TimeStep, key: Array, explore: bool = False) -> tuple[Any, Array]:
            carry, action = super().act(carry, ts, key, explore)
            chosen = jnp.take_along_axis(ts.avail, action[:, None], axis=1)
            return carry, jnp.where(chosen.all(), action, -1000)  # an index that spoils the episode

    assert set(env.heuristics()) == {"heuristic"}
    episodes = jax.jit(lambda keys: play(env, Checked(env), keys))(evaluation_keys(64))
    # 3m is a mirror match and the enemy follows the same script: .5 less draws, here within three standard errors.
    assert 0.3 < float(episodes.outcome["won"].mean()) < 0.7
    assert (episodes.length <= 101).all()


# MPE.


def test_spread_lasts_26_transitions_and_is_truncated() -> None:
    env, reset, step = mpe("simple_spread")
    assert env.spec.max_episode_steps == 26
    state, ts = reset(KEY)
    for t in range(1, 27):
        state, ts = step(state, jnp.zeros(3, jnp.int32), KEY)
        assert bool(ts.last) == (t == 26)
        assert float(ts.discount) == 1.0
        assert not bool(ts.first)
    assert (ts.reward != 0).all()  # the last reward is kept


def test_spread_pays_each_agent_its_own() -> None:
    env, reset, step = mpe("simple_spread")
    state, _ = reset(KEY)
    agents = [[-10.0, 0.5], [-10.0, 0.6], [10.0, 0.5]]
    landmarks = [[-10.0, 0.0], [0.0, 0.0], [10.0, 0.0]]
    state = state.replace(p_pos=jnp.array(agents + landmarks))
    _, ts = step(state, jnp.zeros(3, jnp.int32), KEY)
    # Nobody had a velocity, so nobody has moved yet. The nearest agents are .5, |(10, .5)| and .5 from the landmarks,
    # which all share by half; the other half is -1 for each collision of one's own (radii .15: the first two collide).
    shared = -(0.5 + np.hypot(10, 0.5) + 0.5) / 2
    np.testing.assert_allclose(ts.reward, [shared - 0.5, shared - 0.5, shared], rtol=1e-6)
    assert env.spec.reward == "per agent"


def test_the_state_is_the_joined_observations() -> None:
    _, reset, _ = mpe("simple_spread")
    _, ts = reset(KEY)
    np.testing.assert_array_equal(ts.state, ts.obs.reshape(-1))
    assert ts.reward.tolist() == [0.0, 0.0, 0.0]


def test_a_speaker_and_a_listener_are_padded_masked_and_of_two_types() -> None:
    env, reset, _ = mpe("simple_speaker_listener")
    # The speaker sees 3 features and has 3 words, the listener sees 11 and moves in 5 ways.
    _, ts = reset(KEY)
    assert env.spec.agent_types == (0, 1)
    np.testing.assert_array_equal(ts.avail, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(ts.obs[0, 3:], 0.0)
    np.testing.assert_allclose(np.sort(ts.obs[0, :3]), [0.15, 0.15, 0.65])  # the goal's colour
    np.testing.assert_array_equal(ts.state, np.concatenate([ts.obs[0, :3], ts.obs[1]]))


@pytest.mark.parametrize(("away", "reached"), [(0.114, 1.0), (0.116, 0.0)])
def test_a_listener_has_arrived_where_its_circle_meets_the_goals(away: float, reached: float) -> None:
    """Radii .075 and .04."""
    env, reset, _ = mpe("simple_speaker_listener")
    state, _ = reset(KEY)
    goal = state.p_pos[2 + state.goal]
    state = state.replace(p_pos=state.p_pos.at[1].set(goal + jnp.array([0.0, away])))
    outcome = env.outcome(state)
    assert float(outcome["reached"]) == reached
    np.testing.assert_allclose(outcome["distance"], away, atol=1e-6)


def test_types_follow_size_and_class() -> None:
    # world_comm: a leader with 20 actions, three adversaries, two good agents; tag: three adversaries, one good agent.
    assert make_env("mpe/simple_world_comm").spec.agent_types == (0, 1, 1, 1, 2, 2)
    assert make_env("mpe/simple_tag").spec.agent_types == (0, 0, 0, 1)
    assert make_env("mpe/simple_spread").spec.agent_types == (0, 0, 0)


@pytest.mark.paper
def test_spread_conforms() -> None:
    assert check_env(mpe("simple_spread")[0], episodes=2) == []


# MPE with continuous actions.


def corners(env: Mpe, discrete: Mpe, choice: np.ndarray) -> np.ndarray:
    """The vectors that do what these discrete actions do: 1 for what is done and -1 for the rest.

    Where an agent moves and speaks, its discrete action counts the words in fives of movements.
    """
    vectors = np.full((env.spec.num_agents, env.spec.num_actions), -1.0, np.float32)
    for i, u in enumerate(choice):
        pair = discrete._action_sizes[i] != env._action_sizes[i]
        vectors[i, [u % 5, 5 + u // 5] if pair else [u]] = 1.0
    return vectors


@pytest.mark.parametrize("name", MPE)
def test_continuous_worlds_do_what_the_discrete_ones_do_at_their_corners(name: str) -> None:
    env, discrete = make_env(f"mpe-continuous/{name}"), make_env(f"mpe/{name}")
    assert isinstance(env, Mpe)
    assert isinstance(discrete, Mpe)
    assert (env.spec.continuous, discrete.spec.continuous) == (True, False)
    sizes = np.array(discrete._action_sizes)
    pairs = {"simple_reference": [0, 1], "simple_world_comm": [0]}.get(name, [])
    assert [i for i in range(len(sizes)) if sizes[i] != env._action_sizes[i]] == pairs
    # Every action of every agent, the others doing something else each time.
    joint = (np.arange(sizes.max())[:, None] + np.arange(len(sizes))) % sizes
    vectors = np.stack([corners(env, discrete, choice) for choice in joint])
    state = discrete.begin(KEY)
    after = jax.jit(jax.vmap(lambda u: discrete.advance(state, u, KEY)))(jnp.asarray(joint, jnp.int32))
    advance = jax.jit(jax.vmap(lambda u: env.advance(state, u, KEY)))
    alike = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)  # noqa: E731
    jax.tree.map(alike, advance(jnp.asarray(vectors)), after)
    # Whatever lies beyond the bounds does what they do, and components that an agent does not have do nothing.
    jax.tree.map(alike, advance(jnp.asarray(np.where(env._avail, 5 * vectors, 7.0))), after)


def test_half_a_movement_is_half_as_fast_and_opposite_ones_cancel_out() -> None:
    env = make_env("mpe-continuous/simple_spread")
    state, _ = env.reset(KEY)
    # Of the first agent: half to the left; of the second: right and down; of the third: everything.
    vectors = jnp.array([[-1.0, 0, -1, -1, -1], [-1, -1, 1, 1, -1], [1, 1, 1, 1, 1]])
    after, _ = env.step(state, vectors, KEY)
    # An acceleration of 5 for .1, from rest.
    np.testing.assert_allclose(after.p_vel[:3], [[-0.25, 0], [0.5, -0.5], [0, 0]], atol=1e-6)


def test_a_continuous_speaker_and_listener_are_padded() -> None:
    env = make_env("mpe-continuous/simple_speaker_listener")
    assert (env.spec.num_actions, env.spec.agent_types) == (5, (0, 1))
    np.testing.assert_array_equal(env.reset(KEY)[1].avail, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert make_env("mpe-continuous/simple_world_comm").spec.num_actions == 9


@pytest.mark.paper
@pytest.mark.parametrize("name", MPE)
def test_continuous_worlds_conform(name: str) -> None:
    assert check_env(make_env(f"mpe-continuous/{name}")) == []


def test_worlds_with_adversaries_say_that_agents_oppose_each_other() -> None:
    opposed = {name for name in MPE if make_env(f"mpe/{name}").spec.opposed}
    assert opposed == {"simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm"}
    assert not make_env("mpe-continuous/simple_reference").spec.opposed
    assert make_env("mpe-continuous/simple_push").spec.opposed


def test_sides_are_adversaries_and_the_others() -> None:
    two = {"tag": 3, "world_comm": 4, "adversary": 1}  # the adversary who leads is one of them
    for name, adversaries in two.items():
        sides = make_env(f"mpe/simple_{name}").spec.sides
        assert sides == ("adversaries",) * adversaries + ("agents",) * (len(sides) - adversaries)
    assert make_env("mpe/simple_spread").spec.sides == ()
