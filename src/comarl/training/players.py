"""Playing the episodes of an evaluation, wherever the environment runs."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted, HostEnv
from comarl.training.evaluate import Episodes, Moment, evaluation_key, evaluation_keys, play, record
from comarl.types import Action, TimeStep


def play_once(env: Env | Hosted, policy: Policy, episodes: int) -> Episodes:
    """Play the evaluation's first so many episodes with a policy of any kind; the result is on the host."""
    if isinstance(env, Hosted):
        return HostPlayer(env, episodes)(policy)
    return jax.device_get(jax.jit(lambda: play(env, policy, evaluation_keys(episodes)))())


def make_player(env: Env | Hosted, episodes: int, *, explore: bool = False) -> Callable[[Policy], Episodes]:
    """Who plays them with learned policies, which differ in their arrays alone: compiled once for all of them."""
    if isinstance(env, Hosted):
        return HostPlayer(env, episodes, explore=explore)
    compiled = jax.jit(lambda policy: play(env, policy, evaluation_keys(episodes), explore=explore))
    return lambda policy: jax.device_get(compiled(policy))


def record_once(
    env: Env | Hosted, policy: Policy, episode: int, *, pictures: bool = False
) -> tuple[list[Moment], dict[str, float]]:
    """Play one of the evaluation's episodes, counted from 0: its ``T + 1`` moments and what it came to.

    Of an environment that Python steps nobody knows the state: with ``pictures`` what it shows stands in its place.
    """
    if isinstance(env, Hosted):
        return _record_hosted(env, policy, episode, pictures)
    moments = record(env, policy, evaluation_key(episode))
    return moments, {name: float(x) for name, x in jax.jit(env.outcome)(moments[-1].state).items()}


def _record_hosted(env: Hosted, policy: Policy, episode: int, pictures: bool) -> tuple[list[Moment], dict[str, float]]:
    moments: list[Moment] = []

    def watch(now: Moment) -> None:
        if now.ts.first[0]:  # also when the environment failed, and the episode is played again
            moments.clear()
        moment = jax.tree.map(lambda x: np.asarray(x[0]), now)
        moments.append(moment._replace(state=player.picture()) if pictures else moment)

    with contextlib.closing(HostPlayer(env, range(episode, episode + 1))) as player:
        result = player(policy, watch)
    return moments, {name: float(x[0]) for name, x in result.outcome.items()}


class HostPlayer:
    """Plays episodes in environments that Python steps.

    As in :func:`comarl.training.evaluate.play` an episode depends on its number and the policy alone, and not on which
    environment plays it: one that has finished an episode begins the next that is left. An episode in which its
    environment failed is played again, with other randomness.

    Args:
        env: the environment; some are started when the first policy plays.
        episodes: how many episodes from the first on, or which ones.
        explore: whether policies explore.
    """

    def __init__(self, env: Hosted, episodes: int | range, *, explore: bool = False):
        numbers = range(episodes) if isinstance(episodes, int) else episodes
        self._env, self._episodes = env, len(numbers)
        self._running: HostEnv | None = None
        keys = evaluation_keys(numbers.stop)[numbers.start :]
        self._begins = np.asarray(jax.random.key_data(jax.vmap(lambda key: jax.random.split(key)[0])(keys)))

        def act(
            policy: Policy, carry: Any, ts: TimeStep, episode: Int[Array, " B"], length: Int[Array, " B"]
        ) -> tuple[Any, Action, Array]:
            def one(carry: Any, ts: TimeStep, episode: Array, length: Array) -> tuple[Any, Action, Array]:
                act_key, env_key = jax.random.split(jax.random.fold_in(jax.random.split(keys[episode])[1], length))
                return *policy.act(carry, ts, act_key, explore), jax.random.key_data(env_key)

            return jax.vmap(one)(carry, ts, episode, length)

        self._act = jax.jit(act)

    def __call__(self, policy: Policy, watch: Callable[[Moment], None] = lambda now: None) -> Episodes:
        """Play them all; ``watch`` is shown every environment's moment ``[B, ...]``, without its state."""
        env = self._running = self._running or self._env.start(min(self._episodes, self._env.at_once))
        episode, following = np.arange(env.count), env.count
        results = _no_results(self._episodes, env)
        active, length = np.ones(env.count, bool), np.zeros(env.count, np.int32)
        cuts = np.zeros(env.count, np.uint32)
        ts = env.reset(self._begins[episode])
        returns = np.zeros_like(ts.reward)
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (env.count, *x.shape)), policy.initial_carry())
        form = env.spec.action_form
        watch(_moment(ts, carry, np.zeros((env.count, *form.shape), form.dtype), returns, length))
        while active.any():
            carry, action, seeds = self._act(policy, carry, ts, episode, length)
            seeds = np.where(ts.last[:, None], self._begins[episode], seeds)
            seeds[:, 1] += cuts  # or the episode would begin, and fail, in the same way again
            before, ts = ts, env.step(np.asarray(action), seeds, active)
            cuts = np.where(ts.last, 0, cuts + (ts.first & ~before.last)).astype(np.uint32)
            returns, length = counted(ts, returns, length)
            watch(_moment(ts, carry, action, returns, length))
            ended = np.flatnonzero(ts.last & active)
            _write(results, episode[ended], ended, returns, length, env)
            left = np.arange(following, min(following + len(ended), self._episodes))
            following += len(left)
            episode[ended[: len(left)]] = left
            active[ended[len(left) :]] = False
        return results

    def picture(self) -> Any:
        """What the first environment shows (:meth:`comarl.envs.base.HostEnv.picture`)."""
        return self._running.picture(0) if self._running else None

    def close(self) -> None:
        """Free the environments."""
        if self._running is not None:
            self._running.close()


def counted(ts: TimeStep, returns: Any, length: Any) -> tuple[Any, Any]:
    """Rewards ``[B, N]`` and transitions ``[B]`` of the current episodes, once ``ts`` is added."""
    returns = np.where(ts.first[:, None], 0.0, returns + ts.reward).astype(np.float32)
    return returns, np.where(ts.first, 0, length + 1).astype(np.int32)


def _moment(ts: TimeStep, carry: Any, action: Any, returns: Any, length: Any) -> Moment:
    return Moment((), ts, carry, action, returns, length)


def _no_results(episodes: int, env: HostEnv) -> Episodes:
    returns = np.zeros((episodes, env.spec.num_agents), np.float32)
    outcome = {name: np.zeros(episodes, np.float32) for name in env.spec.outcomes}
    return Episodes(returns, np.zeros(episodes, np.int32), outcome)  # pyright: ignore[reportArgumentType] -- NumPy's


def _write(
    results: Any, episode: np.ndarray, ended: np.ndarray, returns: np.ndarray, length: np.ndarray, env: HostEnv
) -> None:
    """What the environments ``ended`` came to, as results of their episodes."""
    if len(ended):
        results.returns[episode], results.length[episode] = returns[ended], length[ended]
        for name, value in env.outcome().items():
            results.outcome[name][episode] = value[ended]
