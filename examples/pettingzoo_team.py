"""Play an exported team in a PettingZoo world, on a machine without JAX.

    comarl train qmix --env mpe/simple_spread --run runs/spread
    comarl export runs/spread --out spread
    pip install --no-deps comarl && pip install numpy onnxruntime mpe2     # there, in place of all that training needs
    python examples/pettingzoo_team.py spread mpe2.simple_spread_v3 --episodes 100

Trained in JaxMARL's particle world, it acts in another implementation of it: the observations and the actions have the
same order there, and nothing else has to agree. A world of your own is any module with a ``parallel_env``.
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import comarl

Choose = Callable[[str, Any, dict[str, Any]], Any]
"""From an agent's name, observation and info to its action."""


def play(world: Any, choose: Choose, seed: int) -> float:
    """The return of one episode: the mean over the agents of their summed rewards."""
    observations, infos = world.reset(seed=seed)
    total = 0.0
    while world.agents:
        actions = {name: choose(name, observations[name], infos[name]) for name in world.agents}
        observations, rewards, _, _, infos = world.step(actions)
        total += sum(rewards.values()) / len(world.possible_agents)
    return total


def play_team(world: Any, team: comarl.ExportedTeam, seed: int) -> float:
    """Each agent acts on its own observation and memory; those that have left the world are not asked."""
    members = dict(zip(world.possible_agents, team.agents, strict=True))
    team.reset()

    def choose(name: str, observation: Any, info: dict[str, Any]) -> Any:
        space = world.action_space(name)
        mask = allowed(space, info.get("action_mask"), team.manifest.num_actions)
        return in_space(members[name].act(flat(observation, team), mask), space)

    return play(world, choose, seed)


def flat(observation: Any, team: comarl.ExportedTeam) -> np.ndarray:
    """The observation as one vector, as long as the team was trained with: shorter ones end in zeros."""
    vector = np.asarray(observation, np.float32).reshape(-1)
    return np.pad(vector, (0, max(0, team.manifest.obs_dim - vector.size)))


def allowed(space: Any, mask: Any, num_actions: int) -> np.ndarray:
    """What the agent may do, as long as the team was trained with: the actions or components that it has."""
    size = int(space.n) if space.shape == () else int(space.shape[0])
    own = np.ones(size, bool) if mask is None else np.asarray(mask, bool)
    return np.pad(own, (0, num_actions - size))


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
    for i, name in enumerate(world.possible_agents):
        world.action_space(name).seed(i)
    teams = [play_team(world, team, seed) for seed in range(args.episodes)]
    drawn = [play(world, lambda name, *_: world.action_space(name).sample(), seed) for seed in range(args.episodes)]
    print(f"{args.world}, mean return of {args.episodes} episodes")
    for who, returns in (("team", teams), ("random", drawn)):
        print(f"  {who:6} {np.mean(returns):8.2f} ± {np.std(returns) / np.sqrt(args.episodes):.2f} (standard error)")


if __name__ == "__main__":
    main()
