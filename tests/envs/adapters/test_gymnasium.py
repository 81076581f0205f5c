"""Teams with Gymnasium's interface: the real lbforaging and rware, and spaces that cannot be served."""

from typing import Any

import gymnasium
import gymnasium.spaces as spaces
import numpy as np
import pytest

from comarl.envs.adapters.gymnasium import GymnasiumTeam
from comarl.envs.python import Percept, require_sound
from comarl.envs.registry import make_python
from comarl.errors import ComarlError


class Pair(gymnasium.Env[Any, Any]):
    """Two agents, one number for both as reward, masks in the info; terminates at step 2, or is cut at step 3."""

    observation_space = spaces.Tuple([spaces.Box(0, 9, (2,)), spaces.Discrete(3)])
    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])

    def __init__(self, terminates: bool):
        self.terminates = terminates

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._look()

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        seen, info = self._look()
        return seen, 1.5, [self.terminates and self.time == 2] * 2, self.time == 3, info

    def _look(self) -> Any:
        return (np.array([self.time, 4.0]), self.time % 3), {"action_mask": [[1, 0, 0], [0, 1, 1]]}


def test_a_team() -> None:
    env = GymnasiumTeam("own/pair", Pair(terminates=True))
    assert (env.spec.obs_dim, env.spec.state_dim, env.spec.num_actions, env.spec.agent_types) == (3, 6, 3, (0, 1))
    percept = env.reset(0)
    np.testing.assert_array_equal(percept.obs, [[0, 4, 0], [1, 0, 0]])
    np.testing.assert_array_equal(percept.avail, [[True, False, False], [False, True, True]])
    steps = [env.step(np.array([0, 2])) for _ in range(2)]
    np.testing.assert_array_equal(steps[1].obs, [[2, 4, 0], [0, 0, 1]])
    np.testing.assert_array_equal(steps[1].reward, [1.5, 1.5])
    assert [(s.terminated, s.truncated) for s in steps] == [(False, False), (True, False)]


def test_a_team_that_is_cut() -> None:
    env = GymnasiumTeam("own/pair", Pair(terminates=False))
    env.reset(0)
    steps = [env.step(np.array([0, 1])) for _ in range(3)]
    assert [(s.terminated, s.truncated) for s in steps] == [(False, False)] * 2 + [(False, True)]


def test_spaces_that_are_no_teams() -> None:
    with pytest.raises(ComarlError, match=r"the space Box.*\(4,\).* is not a Tuple with a part for each agent"):
        GymnasiumTeam("own/cart", gymnasium.make("CartPole-v1"))


def play(name: str, seed: int) -> tuple[list[Percept], Any]:
    """An episode of random play, and the environment within."""
    env: Any = make_python(name)
    rng, steps = np.random.default_rng(seed), [env.reset(seed)]
    while not (steps[-1].terminated or steps[-1].truncated):
        steps.append(env.step(rng.integers(0, env.spec.num_actions, env.spec.num_agents)))
        require_sound(steps[-1], env.spec)
    return steps, env._env.unwrapped


def test_foraging_tells_an_empty_field_from_the_end_of_time() -> None:
    ends = set()
    for seed in range(30):
        steps, inner = play("lbforaging/Foraging-5x5-2p-1f-v3", seed)
        empty = not inner.field.any()
        assert (steps[-1].terminated, steps[-1].truncated) == (empty, not empty)
        assert empty or len(steps) == 51
        assert sum(step.reward.sum() for step in steps[1:]) == pytest.approx(float(empty))
        ends.add(empty)
        if len(ends) == 2:
            break
    assert ends == {True, False}


@pytest.mark.parametrize("name", ["lbforaging/Foraging-8x8-2p-2f-coop-v3", "robotic-warehouse/rware-tiny-2ag-v2"])
def test_an_episode_owes_nothing_to_the_one_before(name: str) -> None:
    """The package lbforaging puts nobody where a player stood at the end."""
    env: Any = make_python(name)
    for seed in range(30):
        fresh = make_python(name)
        assert all(np.array_equal(x, y) for x, y in zip(env.reset(seed), fresh.reset(seed), strict=True))
        fresh.close()


def test_a_field_is_drawn_as_it_is() -> None:
    env: Any = make_python("lbforaging/Foraging-8x8-2p-2f-coop-v3")
    env.reset(3)
    scene, inner = env.picture(), env._env.unwrapped
    assert scene.size == (8, 8)
    assert [agent.place for agent in scene.agents] == [tuple(player.position) for player in inner.players]
    assert {item.place: int(item.note) for item in scene.items} == {
        (row, column): inner.field[row, column] for row in range(8) for column in range(8) if inner.field[row, column]
    }


def test_the_warehouse_is_only_ever_cut() -> None:
    steps, _ = play("robotic-warehouse/rware-tiny-2ag-v2", 0)
    assert len(steps) == 501
    assert (steps[-1].terminated, steps[-1].truncated) == (False, True)


def test_an_id_that_is_not_registered() -> None:
    with pytest.raises(ComarlError, match="unknown environment 'lbforaging/Foraging-8x8-2p-2f-coop-v9': did you mean"):
        make_python("lbforaging/Foraging-8x8-2p-2f-coop-v9")
