"""Ensembles: the sub-policy in use, whoever asks, and none but it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.stats import chisquare

from comarl.algos.maddpg import MADDPG
from comarl.algos.sequences import unroll
from comarl.algos.stochastic import StochasticPolicy
from comarl.api import TeamPolicy
from comarl.envs.wrappers import AutoReset
from comarl.experiments.presets import OF_METHOD
from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.cells import CELLS, CellKind
from comarl.nets.ensemble import Ensemble, EnsembleMemory, Turns
from comarl.training.evaluate import evaluation_keys, play
from comarl.training.ondevice import Actors
from comarl.types import EnvSpec, Trajectory
from tests.probes import Aim, Forbidden, Lottery, make_driver, random_parameters, random_trajectory, train

N, A, OBS, STATE, K = 2, 3, 4, 3, 3
SPEC = EnvSpec("probe/ensemble", N, OBS, STATE, A, 3)
STEPS, BATCH = 8, 5
KEY = jax.random.key(0)


def make(size: int = K, kind: CellKind = "gru", seed: int = 0) -> Ensemble:
    one = lambda key: Agent(SPEC, key=key, kind=kind, hidden=5, sharing="agent")  # noqa: E731
    return random_parameters(lambda: Ensemble(one, size, key=KEY), seed)


def sub_policy(ensemble: Ensemble, k: int) -> Agent:
    return jax.tree.map(lambda x: x[k], ensemble.agents)


def replayed(ensemble: Ensemble, seed: int = 0) -> Trajectory:
    """Several episodes in a sequence, the first of which is under way."""
    agents = sub_policy(ensemble, 0)
    trajectory = random_trajectory(seed, agents, steps=STEPS, batch=BATCH, obs=OBS, state=STATE)
    seeds = jax.random.bits(jax.random.key(seed), (BATCH, 2), jnp.uint32)
    turns = Turns(seeds, jnp.arange(1, BATCH + 1, dtype=jnp.int32))
    carry = trajectory.carry._replace(memory=EnsembleMemory(turns, trajectory.carry.memory))
    return trajectory._replace(carry=carry)


@jax.jit
def unrolled(ensemble: Any, trajectory: Trajectory) -> Any:
    return ensemble.unroll(trajectory.carry, trajectory.ts, trajectory.action)


@jax.jit
def call(ensemble: Any, carry: AgentCarry, ts: Any) -> Any:
    return ensemble(carry, ts)


ENSEMBLE = make()
SEQUENCES = replayed(ENSEMBLE)


def in_use(ensemble: Ensemble, trajectory: Trajectory) -> np.ndarray:
    """Who acts at every step ``[T + 1, B, N]``, an episode after the other."""
    seed, episode = (np.array(x) for x in trajectory.carry.memory.turns)
    which = np.zeros((STEPS + 1, BATCH, N), int)
    for t in range(STEPS + 1):
        episode += np.asarray(trajectory.ts.first[t])
        which[t] = ensemble.in_use(Turns(jnp.asarray(seed), jnp.asarray(episode)))
    return which


WHICH = in_use(ENSEMBLE, SEQUENCES)


@pytest.mark.parametrize("kind", CELLS)
def test_one_sub_policy_is_no_ensemble(kind: CellKind) -> None:
    ensemble = make(1, kind)
    trajectory = replayed(ensemble)
    memory, out = unrolled(ensemble, trajectory)
    plain = trajectory._replace(carry=trajectory.carry._replace(memory=trajectory.carry.memory.memory))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, (memory.memory, out), unrolled(sub_policy(ensemble, 0), plain))


def test_every_step_is_the_sub_policys_in_use_with_its_own_memory() -> None:
    """Beside single agents, each of which steps by itself and forgets where an episode begins."""
    assert all((k == WHICH).any() for k in range(K))
    memory, out = unrolled(ENSEMBLE, SEQUENCES)
    ts, action, carry = SEQUENCES.ts, SEQUENCES.action, SEQUENCES.carry
    agents, last = [sub_policy(ENSEMBLE, k) for k in range(K)], carry.last_action
    remembered = np.array(carry.memory.memory)
    stepped = carry
    for t in range(STEPS + 1):
        now = jax.tree.map(lambda x, t=t: x[t], ts)
        asked = [call(agent, AgentCarry(jnp.asarray(remembered), last), now) for agent in agents]
        for b, i in np.ndindex(BATCH, N):
            after, said = asked[WHICH[t, b, i]]
            np.testing.assert_allclose(out.q[t, b, i], said.q[b, i], rtol=1e-4, atol=1e-5)
            remembered[b, i] = after[b, i]
        once, said = call(ENSEMBLE, stepped, now)
        np.testing.assert_allclose(out.q[t], said.q, rtol=1e-4, atol=1e-5)
        last = action[min(t, STEPS - 1)]
        stepped = AgentCarry(once, last)
    np.testing.assert_allclose(memory.memory, remembered, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, memory.turns, stepped.memory.turns)


def test_draws_are_uniform_and_independent_of_other_agents_and_episodes() -> None:
    seeds, episodes = 1000, 4
    seed = jax.random.bits(KEY, (seeds, 1, 2), jnp.uint32).repeat(episodes, axis=1)
    turns = Turns(seed, jnp.tile(jnp.arange(episodes)[None], (seeds, 1)))
    drawn = np.asarray(ENSEMBLE.in_use(turns))
    one, other = drawn[..., 0], drawn[..., 1]
    for pair in ((one, other), (one[:, 1:], one[:, :-1]), (one[:, 1:], other[:, :-1]), (one[1:], one[:-1])):
        counts = np.bincount((K * pair[0] + pair[1]).reshape(-1), minlength=K * K)
        assert chisquare(counts).pvalue > 1e-3


def test_each_learns_from_its_own_steps_alone() -> None:
    @jax.jit
    def slope(ensemble: Any, mask: Array) -> Any:
        loss = lambda e: jnp.where(mask[..., None], unrolled(e, SEQUENCES)[1].q ** 2, 0.0).sum()  # noqa: E731
        return jax.grad(loss)(ensemble)

    for k in range(K):
        for leaf in jax.tree.leaves(slope(ENSEMBLE, jnp.asarray(k == WHICH))):
            moved = np.asarray(leaf).reshape(K, -1).any(-1)
            np.testing.assert_array_equal(moved, np.arange(K) == k)


def test_an_empty_memory_does_not_change_whose_turn_it_is() -> None:
    forgetful = ENSEMBLE.forgetful(SEQUENCES.carry)
    jax.tree.map(np.testing.assert_array_equal, forgetful.memory.turns, SEQUENCES.carry.memory.turns)
    np.testing.assert_array_equal(forgetful.memory.memory, 0)

    @jax.jit
    def outputs() -> tuple[Array, ...]:
        zero = unroll(ENSEMBLE, SEQUENCES, stored_state=False, burn_in=0)
        return zero.q, unroll(ENSEMBLE, SEQUENCES, stored_state=True, burn_in=3).q

    zero, warm = outputs()
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    close(zero, unrolled(ENSEMBLE, SEQUENCES._replace(carry=forgetful))[1].q)
    close(warm, unrolled(ENSEMBLE, SEQUENCES)[1].q[3:])


def test_a_seed_is_drawn_once() -> None:
    begin = ENSEMBLE.initial_carry()
    one, other = (ENSEMBLE.seeded(begin, jax.random.key(seed)) for seed in (1, 2))
    assert (one.memory.turns.seed != other.memory.turns.seed).any()
    turns = one.memory.turns._replace(episode=jnp.ones((), jnp.int32))
    later = one._replace(memory=one.memory._replace(turns=turns))
    again = ENSEMBLE.seeded(later, jax.random.key(2))
    np.testing.assert_array_equal(again.memory.turns.seed, one.memory.turns.seed)


LOOP: dict[str, Any] = OF_METHOD["maddpg"] | {
    "gamma": 0.5, "target_tau": 0.1, "grad_clip": 10.0, "num_envs": 16, "length": 6, "hidden": 16, "batch_size": 16,
    "buffer_steps": 9600, "sub_policies": 2,
}  # fmt: skip


def stubborn(ensemble: Ensemble) -> Ensemble:
    """Sub-policy k has action k on its mind, then the next one."""
    bias = -100.0 * ((jnp.arange(A)[None] - jnp.arange(K)[:, None]) % A)
    zeros = jax.tree.map(jnp.zeros_like, ensemble)
    head = lambda e: e.agents.body.module.head.bias  # noqa: E731
    return eqx.tree_at(head, zeros, jnp.broadcast_to(bias[:, None], head(zeros).shape))


def test_what_was_done_is_what_the_replayed_sub_policies_would_have_done() -> None:
    """Through the driver, in all episodes of a sequence: from the second iteration on, whose carry has a seed."""
    env, envs = Lottery(), 8
    driver = make_driver(env, "maddpg", **LOOP | {"sub_policies": K, "length": 12, "num_envs": envs})
    algorithm = driver.learner.algorithm
    assert isinstance(algorithm, MADDPG)
    actor = stubborn(random_parameters(lambda: algorithm.init(KEY).online.actor))
    policy = StochasticPolicy(actor, algorithm.actions)

    @jax.jit
    def begin() -> Actors:
        state, ts = jax.vmap(AutoReset(env).reset)(jax.random.split(KEY, envs))
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (envs, *x.shape)), policy.initial_carry())
        return Actors(state, ts, carry, jnp.zeros_like(ts.reward), jnp.zeros(envs, jnp.int32))

    collect = jax.jit(lambda actors, key: driver.collect(policy, actors, key)[:2])
    actors, _ = collect(begin(), jax.random.key(1))
    _, trajectory = collect(actors, jax.random.key(2))
    outputs = jax.jit(algorithm.outputs)(actor, trajectory)
    wanted = np.where(trajectory.ts.avail, outputs, -np.inf)[:-1].argmax(-1)
    np.testing.assert_array_equal(trajectory.action, wanted)
    assert (np.asarray(trajectory.ts.first).sum(0) > 1).all()  # several episodes each
    favourite = np.asarray(outputs).argmax(-1)
    assert all((favourite == k).any() for k in range(K))
    assert (favourite[..., 0] != favourite[..., 1]).any()


def test_evaluation_draws_for_each_episode_and_keeps_to_it() -> None:
    """Forbidden pays 10 for action 1 on its first step."""
    env = Forbidden()
    agents = lambda key: Agent(env.spec, key=key, kind="mlp", hidden=5, sharing="agent")  # noqa: E731
    ensemble = jax.tree.map(jnp.zeros_like, random_parameters(lambda: Ensemble(agents, 2, key=KEY)))
    head = lambda e: e.agents.body.module.head.bias  # noqa: E731
    bias = jnp.broadcast_to(jnp.eye(2)[:, None], head(ensemble).shape)
    policy = StochasticPolicy(eqx.tree_at(head, ensemble, bias))
    returns = np.asarray(jax.jit(lambda: play(env, policy, evaluation_keys(200)).returns)())
    share = (returns == 10).mean(0)
    assert ((share > 0.35) & (share < 0.65)).all()
    assert 0.35 < (returns[:, 0] == returns[:, 1]).mean() < 0.65

    team, same = TeamPolicy(policy, env.spec), TeamPolicy(policy, env.spec)
    episodes = []
    for _ in range(12):
        steps = [team.act(np.ones((2, 1))) for _ in range(3)]
        assert all((step == steps[0]).all() for step in steps)
        np.testing.assert_array_equal(same.act(np.ones((2, 1))), steps[0])
        episodes.append(steps[0].tolist())
        team.reset()
        same.reset()
    assert {tuple(e) for e in episodes} == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("maddpg", {"infer_policies": True, "cell": "gru", "stored_state": False, "burn_in": 2}),
        ("facmac", {"team_reward": "mean"}),
        ("maac", {"cell": "mingru"}),
        ("ddpg", {"continuous": True}),
    ],
    ids=str,
)
def test_the_whole_loop_fits_together(method: str, options: dict[str, Any]) -> None:
    env = Aim() if options.pop("continuous", False) else Lottery()
    driver = make_driver(env, method, **LOOP | options)
    run = jax.eval_shape(driver.init, 0)
    after, _ = jax.eval_shape(driver.chunk, run)
    assert jax.tree.structure(after) == jax.tree.structure(run)
    assert run.learner.online.actor.size == 2


@pytest.mark.paper
@pytest.mark.parametrize(("method", "options"), [("maddpg", {"infer_policies": True}), ("maac", {})], ids=str)
def test_the_whole_loop_learns_with_ensembles(method: str, options: dict[str, Any]) -> None:
    _, log = train(Forbidden(), method, 150, **LOOP | options)
    np.testing.assert_array_equal(log.evaluation.returns, 10)
