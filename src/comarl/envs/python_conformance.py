"""Whether an environment that Python steps keeps to :class:`comarl.envs.python.PythonEnv`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from comarl.envs.processes import PythonEnvs
from comarl.envs.python import Percept, PythonEnv, require_sound, sound_outcome
from comarl.envs.registry import one_line


class _UnsoundError(Exception):
    """Says what is wrong; nothing further can be played."""


def check_python(envs: PythonEnvs, *, episodes: int, seed: int) -> list[str]:
    """Play random episodes and tell what an environment does wrong.

    Checked are shapes, that all numbers are finite, that every agent always has an available action, the length of
    episodes, the outcomes, and that an episode depends on its seed and the actions alone (if it is said to).

    Args:
        envs: the environment.
        episodes: how many to play; all of them twice, in two environments, the second time from the last to the first,
            so that none of them follows the same one again.
        seed: of the episodes and the actions.
    """
    try:
        return list(_problems(envs, episodes, seed))
    except _UnsoundError as error:
        return [str(error)]
    except Exception as error:  # the environment may raise anything
        return [f"playing an episode raises {one_line(error)}"]


def _problems(envs: PythonEnvs, episodes: int, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    env = envs.make()
    played = [_play(env, seed + i, rng) for i in range(episodes)]
    if not env.repeatable:
        env.close()
        return
    other = envs.make()
    for i, moments in reversed(list(enumerate(played))):
        again = _replay(other, seed + i, [action for _, action in moments[1:]])
        differing = [t for t, (now, then) in enumerate(zip(moments, again, strict=False)) if not _alike(now[0], then)]
        if differing or len(again) != len(moments):
            at = differing[0] if differing else min(len(again), len(moments))
            yield (
                "another episode comes of the same seed and the same actions: draw all randomness from what reset is "
                "seeded with and keep nothing of the episode before, or runs cannot be repeated "
                f"(episode {i}, first at step {at})"
            )
            break
    env.close()
    other.close()


def _play(env: PythonEnv, seed: int, rng: np.random.Generator) -> list[tuple[Percept, np.ndarray]]:
    """An episode's time steps, each with the action that led there."""
    spec = env.spec
    percept = _sound(env.reset(seed), env, "reset")
    moments: list[tuple[Percept, np.ndarray]] = [(percept, np.zeros(0))]
    if percept.terminated or percept.truncated:
        raise _UnsoundError("the episode is over after reset: it has at least one transition")
    while not (percept.terminated or percept.truncated) and len(moments) <= spec.max_episode_steps:
        if spec.continuous:
            action = rng.uniform(-1, 1, (spec.num_agents, spec.num_actions)).astype(np.float32)
        else:
            action = np.where(percept.avail, rng.random(percept.avail.shape), -1.0).argmax(-1).astype(np.int32)
        percept = _sound(env.step(action), env, "step")
        moments.append((percept, action))
    try:
        sound_outcome(env.outcome(), spec)
    except ValueError as error:
        raise _UnsoundError(str(error)) from None
    return moments


def _replay(env: PythonEnv, seed: int, actions: list[np.ndarray]) -> list[Percept]:
    percepts = [env.reset(seed)]
    for action in actions:
        if percepts[-1].terminated or percepts[-1].truncated:
            break
        percepts.append(env.step(action))
    return percepts


def _sound(percept: Any, env: PythonEnv, where: str) -> Percept:
    try:
        require_sound(percept, env.spec)
    except ValueError as error:
        raise _UnsoundError(f"after {where} {error}") from None
    return percept


def _alike(a: Percept, b: Percept) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
