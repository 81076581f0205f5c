"""Tables of a small game: its rewards and successors from the environment, learned values from trained networks."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from comarl.algos.qlearning import Networks
from comarl.envs.base import Env
from comarl.envs.one_agent import OneAgent
from comarl.errors import ComarlError
from comarl.mixers.base import CentralMixer, Joint
from comarl.nets.agents import Utilities
from comarl.report.exact import Game, JointAction, Matrix
from comarl.types import TimeStep


def tabulate(env: Env, names: tuple[str, ...]) -> Game:
    """Write a game out by taking every joint action in every state.

    Args:
        env: a deterministic environment of two agents, whose ``ts.state`` tells its states apart.
        names: of its states in the order of discovery (breadth first, the first agent's action slowest).

    Raises:
        ComarlError: if there are not two agents, or not as many states as names.
    """
    if env.spec.num_agents != 2:
        raise ComarlError(f"{env.spec.name} has {env.spec.num_agents} agents: tables are for two")
    size, key = env.spec.num_actions, jax.random.key(0)
    begin, step = jax.jit(env.reset), jax.jit(env.step)
    state, ts = begin(key)
    found = {_identity(ts): 0}
    queue: list[tuple[Any, tuple[JointAction, ...]]] = [(state, ())]
    rewards: list[Matrix] = []
    successors: list[dict[JointAction, int | None]] = []
    for state, path in queue:  # grows meanwhile
        rewards.append(np.zeros((size, size)))
        successors.append({})
        for action in itertools.product(range(size), range(size)):
            after, ts = step(state, jnp.asarray(action, jnp.int32), key)
            rewards[-1][action] = np.asarray(ts.reward, np.float64).mean()
            successors[-1][action] = None if ts.last else found.setdefault(_identity(ts), len(queue))
            if successors[-1][action] == len(queue):
                queue.append((after, (*path, action)))
    if len(queue) != len(names):
        raise ComarlError(f"{env.spec.name} has {len(queue)} states, not {len(names)}: {', '.join(names)}")
    return Game(
        paths={name: path for name, (_, path) in zip(names, queue, strict=True)},
        reward=dict(zip(names, rewards, strict=True)),
        successor={
            name: {action: None if i is None else names[i] for action, i in to.items()}
            for name, to in zip(names, successors, strict=True)
        },
        limit=env.spec.max_episode_steps,
    )


def _identity(ts: TimeStep) -> bytes:
    return np.asarray(ts.state).tobytes()


class Tables(NamedTuple):
    """What trained networks say of a game of two agents, state by state.

    Attributes:
        q_tot: Q_tot of every joint action ``[A, A]``; where there is one value per agent and no team value, the
            utilities ``[2, A]``.
        central: the unrestricted value of every joint action ``[A, A]``, of a method that has one.
    """

    q_tot: dict[str, np.ndarray]
    central: dict[str, np.ndarray] | None


def read_tables(env: Env, networks: Networks, game: Game) -> Tables:
    """What trained networks say in every state of a game.

    Args:
        env: the game as the method sees it; ``joint`` sees one agent.
        networks: the trained networks.
        game: the game of two agents.
    """
    mixer = networks.mixer
    return Tables(
        {state: _read(env, networks, mixer, path) for state, path in game.paths.items()},
        {state: _read(env, networks, mixer.central, path) for state, path in game.paths.items()}
        if isinstance(mixer, CentralMixer)
        else None,
    )


def _read(env: Env, networks: Networks, value: Callable[[Joint], Array], path: tuple[JointAction, ...]) -> np.ndarray:
    ts, now = _follow(env, networks, path)
    if isinstance(env, OneAgent):
        size = env.env.spec.num_actions
        return np.asarray(now.q, np.float64).reshape(size, size)
    size = env.spec.num_actions
    actions = jnp.asarray(list(np.ndindex(size, size)), jnp.int32)
    values = jax.vmap(lambda action: value(Joint(now.q, action, now.hidden, ts)))(actions)
    table = now.q if values.ndim == 2 else values.reshape(size, size)
    return np.asarray(table, np.float64)


def _follow(env: Env, networks: Networks, path: tuple[JointAction, ...]) -> tuple[TimeStep, Utilities]:
    """The time step at the end of a path, and the agents' utilities there."""
    key = jax.random.key(0)
    actions = jnp.asarray(path, jnp.int32).reshape(len(path), 2)
    if isinstance(env, OneAgent):
        actions = actions[:, :1] * env.env.spec.num_actions + actions[:, 1:]
    state, ts = env.reset(key)
    seen = [ts]
    for action in actions:
        state, ts = env.step(state, action, key)
        seen.append(ts)
    history = jax.tree.map(lambda *x: jnp.stack(x), *seen)
    _, out = networks.agent.unroll(networks.agent.initial_carry(), history, actions)
    return ts, jax.tree.map(lambda x: x[-1], out)
