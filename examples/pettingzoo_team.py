"""Play an exported team in a PettingZoo world, on a machine without JAX.

    comarl train qmix --env mpe/simple_spread --run runs/spread
    comarl export runs/spread --out spread
    pip install comarl[export,pettingzoo]
    python examples/pettingzoo_team.py spread mpe2.simple_spread_v3 --episodes 100

Trained in JaxMARL's particle world, it acts in another implementation of it: the observations and the actions have the
same order there, and nothing else has to agree. A world of your own is any module with a ``parallel_env``.
"""

import argparse
import importlib
from typing import Any

import numpy as np

import comarl


def play(world: Any, team: comarl.ExportedTeam, seed: int) -> float:
    """The team's return in one episode: the mean over its agents of the summed rewards."""
    team.reset()
    members = dict(zip(world.possible_agents, team.agents, strict=True))
    observations, infos = world.reset(seed=seed)
    total = 0.0
    while world.agents:
        actions: dict[str, Any] = {}
        for name in world.agents:
            # Each agent acts on its own observation and memory; those that have left are not asked.
            action = members[name].act(flat(observations[name], team), infos[name].get("action_mask"))
            actions[name] = in_space(action, world.action_space(name))
        observations, rewards, _, _, infos = world.step(actions)
        total += sum(rewards.values()) / len(members)
    return total


def flat(observation: Any, team: comarl.ExportedTeam) -> np.ndarray:
    """The observation as one vector, as long as the team was trained with: shorter ones end in zeros."""
    vector = np.asarray(observation, np.float32).reshape(-1)
    return np.pad(vector, (0, max(0, team.manifest.obs_dim - vector.size)))


def in_space(action: np.ndarray, space: Any) -> Any:
    """An index as it is; a vector from [-1, 1] to the bounds of the space."""
    if not action.ndim:
        return int(action)
    own = action[: space.shape[0]]
    return (space.low + (own + 1) / 2 * (space.high - space.low)).astype(space.dtype)


def main() -> None:
    """Play, beside agents that draw at random."""
    parser = argparse.ArgumentParser(description="Play an exported team in a PettingZoo world.")
    parser.add_argument("folder", help="what 'comarl export' wrote")
    parser.add_argument("world", help="a module with a parallel_env, such as mpe2.simple_spread_v3")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()

    team = comarl.load_policy(args.folder)
    assert isinstance(team, comarl.ExportedTeam), "this is a run: export it first"
    world = importlib.import_module(args.world).parallel_env()
    returns = [play(world, team, seed) for seed in range(args.episodes)]
    print(f"{args.world}, {args.episodes} episodes: mean return {np.mean(returns):.2f} (± {np.std(returns):.2f})")


if __name__ == "__main__":
    main()
