"""The environment, with SMAC's arguments."""

from tests.envs import battle


def _launch() -> None:
    from pysc2 import run_configs

    run_configs.get()


class StarCraft2Env(battle.StarCraft2Env):
    """SMAC: its reset takes nothing."""

    def __init__(self, map_name: str = "8m", seed: int | None = None, continuing_episode: bool = False):
        super().__init__(_launch, map_name, seed, continuing_episode)

    def get_avail_actions(self) -> list[list[int]]:
        """Of all agents."""
        return [self.get_avail_agent_actions(i) for i in range(self.n_agents)]
