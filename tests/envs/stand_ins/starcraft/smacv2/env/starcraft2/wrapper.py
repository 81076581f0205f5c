"""The environment that draws teams and places."""

from typing import Any

from tests.envs import battle


def _launch() -> None:
    from pysc2 import run_configs

    run_configs.get()


class StarCraftCapabilityEnvWrapper:
    """SMACv2, with the same slip: nobody can ask it for the actions of all agents."""

    def __init__(self, **kwargs: Any):
        config = kwargs["capability_config"]
        assert kwargs["map_name"] in {"10gen_terran", "10gen_protoss", "10gen_zerg"}
        assert kwargs["obs_own_pos"]
        assert kwargs["use_unit_ranges"]
        for key in ("team_gen", "start_positions"):
            config[key] |= {"env_key": key, "n_units": config["n_units"], "n_enemies": config["n_enemies"]}
        self.env_key_to_distribution_map = {
            "team_gen": battle.Weighted(config["team_gen"]),
            "start_positions": battle.Mixed(config["start_positions"]),
        }
        units = (config["n_units"], config["n_enemies"])
        kinds = len(config["team_gen"]["unit_types"])
        self.env = battle.StarCraft2Env(
            _launch, "32x32_flat", kwargs["seed"], kwargs["continuing_episode"], units, kinds
        )

    def reset(self) -> Any:
        """Draw, and begin."""
        drawn = [distribution.generate() for distribution in self.env_key_to_distribution_map.values()]
        return self.env.reset(drawn[0] | drawn[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def get_avail_actions(self) -> Any:
        """Fails."""
        first, second = [self.env.get_avail_agent_actions(i) for i in range(self.env.n_agents)]
        return first, second
