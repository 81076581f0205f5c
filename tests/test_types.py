"""Sizes of an environment."""

from comarl.types import EnvSpec


def test_an_environment_without_types_has_agents_of_one_type() -> None:
    assert EnvSpec("x", 3, 1, 1, 2, 10).types == (0, 0, 0)
    assert EnvSpec("x", 3, 1, 1, 2, 10, agent_types=(1, 0, 1)).types == (1, 0, 1)
