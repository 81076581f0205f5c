"""A trained team's exported policies take the actions that training's greedy policies take, over 1000 episodes."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import comarl
from comarl.algos.base import Policy
from comarl.envs.base import Env
from comarl.execution.manifest import Format
from comarl.execution.team import load_team
from comarl.experiments.build import build_env
from comarl.experiments.evaluating import load_policies
from comarl.experiments.folder import load_config
from comarl.training.evaluate import evaluation_keys
from comarl.types import TimeStep

pytestmark = pytest.mark.paper

EPISODES = 1000


class Recorded(NamedTuple):
    """``T`` steps of ``E`` episodes, and whether each was still running."""

    ts: TimeStep
    action: Any
    running: Any


def record(env: Env, policy: Policy) -> Recorded:
    """Every step of the greedy policy in the episodes of an evaluation."""

    def episode(key: jax.Array) -> Recorded:
        def step(now: Any, t: jax.Array) -> tuple[Any, Recorded]:
            state, ts, carry, running = now
            carry, action = policy.act(carry, ts, key, False)
            after, following = env.step(state, action, jax.random.fold_in(key, t))
            return (after, following, carry, running & ~following.last), Recorded(ts, action, running)

        state, ts = env.reset(key)
        start = (state, ts, policy.initial_carry(), jnp.asarray(True))
        return jax.lax.scan(step, start, jnp.arange(env.spec.max_episode_steps))[1]

    played = jax.jit(jax.vmap(episode, out_axes=1))(evaluation_keys(EPISODES))
    return jax.device_get(played)


RUNS = {
    "qmix": ("switch/4", {"steps": 20_000, "hidden": 32}),
    "ippo": ("mpe/simple_spread", {"steps": 20_000, "cell": "lstm", "hidden": 32, "sharing": "agent"}),
    "ddpg": ("mpe-continuous/simple_spread", {"steps": 5_000, "hidden": 32, "learning_starts": 1_000}),
}


@pytest.mark.parametrize("method", RUNS)
def test_a_thousand_episodes(method: str, tmp_path: Path) -> None:
    env_name, settings = RUNS[method]
    run = comarl.train(method, env_name, run=tmp_path / "run", eval_every=5_000, eval_episodes=8, **settings)
    config = load_config(run.folder)
    env = build_env(config)
    policy = load_policies(run.folder, config, env)[config.seed]
    played = record(env, policy)
    agent: Any = policy.agent if method == "qmix" else getattr(policy, "actor", None) or policy.networks.actor  # type: ignore[attr-defined]
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (EPISODES, *x.shape)), agent.initial_carry())
    outputs = np.asarray(jax.jit(type(agent).unroll)(agent, start, played.ts, played.action[:-1])[1].q)
    formats: tuple[Format, ...] = ("onnx", "jax")
    for format_ in formats:
        team = load_team(comarl.export(run.folder, format_))
        compared, furthest = 0, 0.0
        for t, running in enumerate(played.running):
            action = team.act(played.ts.obs[t], played.ts.avail[t])
            compared += int(running.sum()) * env.spec.num_agents
            if env.spec.continuous:
                np.testing.assert_allclose(action[running], played.action[t][running], atol=1e-5, rtol=0)
                furthest = max(furthest, float(np.abs(action - played.action[t])[running].max(initial=0)))
                continue
            np.testing.assert_array_equal(action[running], played.action[t][running])
            grounds = np.stack([a.grounds[next(iter(a.grounds))] for a in team.agents], 1)
            want = by_hand(method, outputs[t], played.ts.avail[t])
            np.testing.assert_allclose(grounds[running], want[running], atol=1e-5, rtol=0)
            furthest = max(furthest, float(np.abs(grounds - want)[running].max(initial=0)))
        print(f"{method} on {env_name}, {format_}: {compared:,} actions equal, furthest apart {furthest:.1e}")
        assert compared >= EPISODES * env.spec.num_agents


def by_hand(method: str, outputs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Values of available actions, or the softmax over them."""
    if method == "qmix":
        return np.where(avail, outputs, np.float32(-1e9))
    e = np.where(avail, np.exp(outputs - outputs.max(-1, keepdims=True)), 0.0)
    return e / e.sum(-1, keepdims=True)
