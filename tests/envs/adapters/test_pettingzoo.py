"""PettingZoo's two interfaces: a team with every difficulty, a game in turns, and the particle worlds of mpe2."""

from typing import Any

import gymnasium.spaces as spaces
import numpy as np
import pytest

from comarl.envs.adapters.pettingzoo import adapt
from comarl.envs.python import Percept, PythonEnv, require_sound
from comarl.envs.registry import make_python
from comarl.errors import ComarlError


class Relay:
    """Three agents with spaces of their own, as a ``ParallelEnv``.

    The scout (two numbers, 2 actions) is there from the beginning and terminates at step 2; the runner (a number
    and a choice of three; 4 actions counted from 1, of which the last is masked at even steps) is always there;
    the keeper (one number; two choices of 2 and 3) joins at step 1. After step 4 the runner is truncated and the keeper
    terminates. Agents are paid 1, 2, 3 for every step that they take, the last included.
    """

    metadata: dict[str, Any] = {"name": "relay"}  # noqa: RUF012 -- as PettingZoo has it
    possible_agents = ("scout_0", "runner_0", "keeper_0")
    max_cycles = 4

    def __init__(self) -> None:
        self.seen = {
            "scout_0": spaces.Box(-1, 1, (2, 1)),
            "runner_0": spaces.Dict(
                {"action_mask": spaces.MultiBinary(4), "it": spaces.Tuple([spaces.Box(0, 9, (1,)), spaces.Discrete(3)])}
            ),
            "keeper_0": spaces.Box(0, 9, (1,)),
        }
        self.acts = {
            "scout_0": spaces.Discrete(2),
            "runner_0": spaces.Discrete(4, start=1),
            "keeper_0": spaces.MultiDiscrete([2, 3]),
        }
        self.taken: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.seen[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.acts[agent]

    def reset(self, seed: int | None = None) -> Any:
        self.time, self.agents, self.taken = 0, ["scout_0", "runner_0"], []
        return self._look(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        self.taken.append(actions)
        self.time += 1
        there = self.agents
        reward = {a: 1.0 + self.possible_agents.index(a) for a in there}
        terminated = {a: (a, self.time) in (("scout_0", 2), ("keeper_0", 4)) for a in there}
        truncated = {a: (a, self.time) == ("runner_0", 4) for a in there}
        seen = self._look()
        self.agents = [a for a in there if not (terminated[a] or truncated[a])]
        if self.time == 1:
            self.agents.append("keeper_0")
            seen["keeper_0"] = np.array([7.0])
        infos = {"keeper_0": {"action_mask": [1, 0, 1, 0, 1, 0]}}
        return seen, reward, terminated, truncated, infos

    def state(self) -> np.ndarray:
        return np.array([[self.time, 5.0]])

    def close(self) -> None:
        """Nothing."""

    def _look(self) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "scout_0": np.array([[0.5], [-0.5]]),
            "runner_0": {
                "action_mask": np.array([1, 1, 1, self.time % 2]),
                "it": (np.array([self.time]), self.time % 3),
            },
            "keeper_0": np.array([7.0 + self.time]),
        }
        return {a: whole[a] for a in self.agents}


def sound(env: PythonEnv, percept: Percept) -> Percept:
    require_sound(percept, env.spec)
    return percept


@pytest.fixture
def relay() -> tuple[Relay, PythonEnv]:
    """The environment and its adapter."""
    inner = Relay()
    return inner, adapt("own/relay", inner)


def test_sizes_are_padded_and_types_derived(relay: Any) -> None:
    spec = relay[1].spec
    assert (spec.num_agents, spec.obs_dim, spec.state_dim, spec.num_actions) == (3, 4, 2, 6)
    assert spec.agent_types == (0, 1, 2)
    assert spec.max_episode_steps == 4
    assert not spec.continuous


def test_agents_come_and_go(relay: Any) -> None:
    inner, env = relay
    first = sound(env, env.reset(0))
    np.testing.assert_array_equal(first.obs, [[0.5, -0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(first.avail.astype(int), [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    steps = [sound(env, env.step(np.array([1, 2, 4]))) for _ in range(4)]
    assert inner.taken[0] == {"scout_0": 1, "runner_0": 3}
    assert inner.taken[1]["keeper_0"].tolist() == [1, 1]  # 4 = 1 · 3 + 1
    assert set(inner.taken[2]) == {"runner_0", "keeper_0"}
    np.testing.assert_array_equal(steps[0].obs[2], [7, 0, 0, 0])
    np.testing.assert_array_equal(steps[0].avail[1:].astype(int), [[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(steps[1].obs[0], 0)  # gone
    np.testing.assert_array_equal(steps[1].avail[0], [True, False, False, False, False, False])
    np.testing.assert_array_equal([s.reward for s in steps], [[1, 2, 0], [1, 2, 3], [0, 2, 3], [0, 2, 3]])
    np.testing.assert_array_equal([s.state for s in steps], [[t, 5] for t in range(1, 5)])


def test_an_episode_is_cut_if_one_of_the_last_was(relay: Any) -> None:
    _, env = relay
    env.reset(0)
    flags = [(s.terminated, s.truncated) for s in (env.step(np.zeros(3, int)) for _ in range(4))]
    assert flags == [(False, False)] * 3 + [(False, True)]


def test_at_a_cut_the_last_observations_and_masks_are_there(relay: Any) -> None:
    """Values are bootstrapped from them."""
    _, env = relay
    env.reset(0)
    last = [env.step(np.zeros(3, int)) for _ in range(4)][-1]
    np.testing.assert_array_equal(last.obs[1:], [[4, 0, 1, 0], [11, 0, 0, 0]])
    np.testing.assert_array_equal(last.avail[1].astype(int), [1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("agent", "kind", "space"),
    [
        ("keeper_0", "seen", spaces.Text(5)),
        ("runner_0", "acts", spaces.Box(-np.inf, np.inf, (2,))),
        ("runner_0", "acts", spaces.Tuple([spaces.Discrete(2)])),
        ("keeper_0", "seen", spaces.Tuple([spaces.Sequence(spaces.Discrete(2))])),
    ],
)
def test_a_space_that_cannot_be_served_is_named(agent: str, kind: str, space: Any) -> None:
    inner = Relay()
    getattr(inner, kind)[agent] = space
    with pytest.raises(ComarlError) as caught:
        adapt("own/relay", inner)
    name = space.spaces[0] if kind == "seen" and isinstance(space, spaces.Tuple) else space
    assert f"environment 'own/relay', agent '{agent}'" in str(caught.value)
    assert str(name) in str(caught.value)


def test_continuous_beside_discrete_actions_are_refused() -> None:
    inner = Relay()
    inner.acts["keeper_0"] = spaces.Box(-1, 1, (2,))
    with pytest.raises(ComarlError, match="some agents have continuous actions and others discrete ones"):
        adapt("own/relay", inner)


class Countdown:
    """A game in turns, as an ``AECEnv``: each takes 1 or 2 from 5; who takes the last gets 3, the other -1."""

    metadata: dict[str, Any] = {"name": "countdown"}  # noqa: RUF012
    possible_agents = ("a", "b")

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(0, 5, (1,))

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def agent_iter(self) -> Any:
        """What AEC environments are told by."""

    def reset(self, seed: int | None = None) -> None:
        self.left, self.agents, self.agent_selection = 5, ["a", "b"], "a"
        self.terminations, self.truncations = ({"a": False, "b": False} for _ in range(2))
        self.rewards, self.infos = {"a": 0.0, "b": 0.0}, {"a": {}, "b": {}}

    def observe(self, agent: str) -> np.ndarray:
        return np.array([self.left])

    def step(self, action: int | None) -> None:
        who = self.agent_selection
        self.agent_selection = "b" if who == "a" else "a"
        if self.terminations[who]:
            assert action is None
            self.agents.remove(who)
            self.rewards = dict.fromkeys(self.agents, 0.0)
            return
        assert action is not None
        self.left = max(0, self.left - 1 - action)
        if self.left == 0:
            self.rewards = {"a": -1.0, "b": -1.0, who: 3.0}
            self.terminations = {"a": True, "b": True}

    def close(self) -> None:
        """Nothing."""


def test_a_game_in_turns() -> None:
    env = adapt("own/countdown", Countdown())
    assert (env.spec.state_dim, env.spec.max_episode_steps) == (2, 10_000)
    seen = [sound(env, env.reset(0))]
    for action in (1, 0, 1):  # 5 - 2 - 1 - 2: the first player takes the last
        mine = np.array([action, 0]) if seen[-1].avail[0, 1] else np.array([0, action])
        seen.append(sound(env, env.step(mine)))
    assert [p.avail[:, 1].tolist() for p in seen[:3]] == [[True, False], [False, True], [True, False]]
    assert [p.obs[0, 0] for p in seen] == [5, 3, 2, 0] or not seen[-1].obs.any()
    np.testing.assert_array_equal([p.reward for p in seen[1:]], [[0, 0], [0, 0], [3, -1]])
    assert [(p.terminated, p.truncated) for p in seen[1:]] == [(False, False)] * 2 + [(True, False)]


# The packages themselves.


def test_a_particle_world_is_mpe2s_own() -> None:
    from mpe2 import simple_spread_v3

    env = make_python("mpe2/simple_spread_v3")
    by_hand = simple_spread_v3.parallel_env()
    percept, (obs, _) = env.reset(11), by_hand.reset(seed=11)
    for t in range(1, 26):
        action = np.random.default_rng(t).integers(0, 5, 3)
        percept = sound(env, env.step(action))
        obs, reward, *_ = by_hand.step(dict(zip(by_hand.agents, map(int, action), strict=True)))
        np.testing.assert_array_equal(percept.obs, np.stack(list(obs.values())))
        np.testing.assert_allclose(percept.reward, list(reward.values()), rtol=1e-6)
        np.testing.assert_array_equal(percept.state, percept.obs.ravel())
        assert (percept.terminated, percept.truncated) == (False, t == 25)
    env.close()


@pytest.mark.parametrize(
    ("name", "types", "actions", "opposed"),
    [
        ("mpe2/simple_tag_v3", (0, 0, 0, 1), 5, True),
        ("mpe2/simple_speaker_listener_v4", (0, 1), 5, False),
        ("pettingzoo/pettingzoo.classic.rps_v2", (), 3, False),
        ("pettingzoo/pettingzoo.classic.tictactoe_v3", (), 9, False),
    ],
)
def test_others_play_to_the_end(name: str, types: Any, actions: int, opposed: bool) -> None:
    env = make_python(name)
    spec = env.spec
    assert (spec.agent_types, spec.num_actions, spec.opposed) == (types, actions, opposed)
    rng, percept, steps = np.random.default_rng(0), sound(env, env.reset(3)), 0
    while not (percept.terminated or percept.truncated):
        action = np.where(percept.avail, rng.random(percept.avail.shape), -1).argmax(-1)
        percept, steps = sound(env, env.step(action)), steps + 1
    assert 1 <= steps <= spec.max_episode_steps
    env.close()


def test_continuous_actions_are_stretched_to_the_space() -> None:
    """Against mpe2 with the numbers of its own: -1 is 0, 1 is 1, and what lies beyond is 1."""
    from mpe2 import simple_spread_v3

    env = make_python("mpe2/simple_spread_v3-continuous")
    by_hand = simple_spread_v3.parallel_env(continuous_actions=True)
    env.reset(4)
    by_hand.reset(seed=4)
    action = np.tile(np.array([-1.0, 0.0, 1.0, 5.0, -0.5], np.float32), (3, 1))
    native = np.array([0.0, 0.5, 1.0, 1.0, 0.25], np.float32)
    percept = env.step(action)
    obs, *_ = by_hand.step(dict.fromkeys(by_hand.agents, native))
    np.testing.assert_array_equal(percept.obs, np.stack(list(obs.values())))
    assert env.spec.continuous
    env.close()


def test_a_module_that_is_none() -> None:
    with pytest.raises(ComarlError, match=r"pettingzoo/json': the module has neither parallel_env nor env"):
        make_python("pettingzoo/json")
    with pytest.raises(ComarlError, match="No module named 'no_such_world'"):
        make_python("pettingzoo/no_such_world")


def test_a_world_that_an_installed_package_has_not() -> None:
    with pytest.raises(ComarlError, match="unknown environment 'mpe2/simple_spred_v3': did you mean 'mpe2/simple_spre"):
        make_python("mpe2/simple_spred_v3")
