"""The loss against loops over single numbers, target networks, and how the team acts."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Array

from comarl.algos.qlearning import Networks, QLearning, QPolicy, QState, epsilon_greedy, greedy
from comarl.envs.base import make_timestep
from comarl.memory.base import Batch
from comarl.mixers.base import FactoredMixer, Joint
from comarl.mixers.iql import IQL
from comarl.mixers.qmix import QMIX
from comarl.mixers.vdn import VDN
from comarl.nets.agents import Agent, AgentCarry
from comarl.returns import n_step, td_lambda
from comarl.types import EnvSpec, TimeStep, Trajectory
from tests.probes import random_parameters, random_trajectory, uniform

T, B, N, A, D, S, H = 6, 4, 2, 3, 3, 2, 4
SPEC = EnvSpec("x", N, D, S, A, 10)
KEY = jax.random.key(0)
GAMMA = 0.9
MIXERS: dict[str, Callable[[], FactoredMixer]] = {
    "iql": IQL,
    "vdn": VDN,
    "qmix": lambda: QMIX(N, S, embed=3, hyper_layers=1, key=KEY),
}


def make(mixer: str = "vdn", **options: Any) -> QLearning:
    return QLearning(
        make_agent=lambda key: Agent(SPEC, key=key, hidden=H),
        make_mixer=lambda _: MIXERS[mixer](),
        optimiser=options.pop("optimiser", optax.sgd(0.1)),
        epsilon=options.pop("epsilon", lambda _: jnp.asarray(0.5)),
        returns=functools.partial(td_lambda, lambda_=options.pop("lambda_", 0.0)),
        gamma=GAMMA,
        **options,
    )


def networks(mixer: str, seed: int) -> Networks:
    return random_parameters(lambda: Networks(Agent(SPEC, key=KEY, hidden=H), MIXERS[mixer]()), seed)


ONLINE, TARGET = {m: networks(m, 1) for m in MIXERS}, {m: networks(m, 2) for m in MIXERS}
BATCH = random_trajectory(0, ONLINE["vdn"].agent, steps=T, batch=B, obs=D, state=S)


@jax.jit
def step(agent: Agent, carry: AgentCarry, ts: TimeStep) -> Any:
    return agent(carry, ts)


mix = jax.jit(lambda mixer, joint: mixer(joint))


def stepped(agent: Agent, batch: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Utilities and hidden states ``[T + 1, B, N, ·]``, one sequence and one step after the other."""
    q, hidden = np.zeros((T + 1, B, N, A)), np.zeros((T + 1, B, N, H))
    for b in range(B):
        carry = jax.tree.map(lambda x, b=b: x[b], batch.carry)
        for t in range(T + 1):
            memory, out = step(agent, carry, jax.tree.map(lambda x, t=t, b=b: x[t, b], batch.ts))
            q[t, b], hidden[t, b] = out.q, out.hidden
            carry = AgentCarry(memory, batch.action[min(t, T - 1), b])
    return q, hidden


def slow_loss(online: Networks, target: Networks, batch: Trajectory, lambda_: float, reward_of: Any) -> float:
    """The loss, from the definitions: each real transition by itself, its λ-return summed forwards."""
    errors = slow_errors(online, target, batch, lambda_, reward_of)
    return float(np.mean([np.mean(error**2) for error in errors.values()]))


def slow_errors(
    online: Networks, target: Networks, batch: Trajectory, lambda_: float, reward_of: Any
) -> dict[tuple[int, int], np.ndarray]:
    """The error of each real transition, by time and sequence."""
    q, hidden = stepped(online.agent, batch)
    target_q, target_hidden = stepped(target.agent, batch)
    ts = jax.tree.map(np.asarray, batch.ts)

    def joint(q: np.ndarray, hidden: np.ndarray, action: Any, t: int, b: int) -> Joint:
        one = jax.tree.map(lambda x: x[t, b], batch.ts)
        return Joint(jnp.asarray(q, jnp.float32), jnp.asarray(action), jnp.asarray(hidden, jnp.float32), one)

    def value(t: int, b: int) -> np.ndarray:
        """The target network's value of what the online network would do."""
        best = []
        for i in range(N):
            possible = [a for a in range(A) if ts.avail[t, b, i, a]]
            best.append(max(possible, key=lambda a, i=i: q[t, b, i, a]))
        chosen = joint(target_q[t, b], target_hidden[t, b], np.array(best), t, b)
        return np.asarray(mix(target.mixer, chosen))

    def lambda_return(t: int, b: int) -> np.ndarray:
        """Σ of n-step returns from t, up to the end of the episode or of the sequence."""
        n_step, total, discount = [], np.asarray(0.0), 1.0
        for k in range(t + 1, T + 1):
            total = total + discount * reward_of(ts.reward[k, b])
            discount *= GAMMA * ts.discount[k, b]
            n_step.append(total + discount * value(k, b))
            if ts.last[k, b]:
                break
        weights = [(1 - lambda_) * lambda_**n for n in range(len(n_step) - 1)] + [lambda_ ** (len(n_step) - 1)]
        return sum((w * g for w, g in zip(weights, n_step, strict=True)), np.asarray(0.0))

    errors = {}
    for t in range(T):
        for b in range(B):
            if not ts.last[t, b]:
                own = mix(online.mixer, joint(q[t, b], hidden[t, b], batch.action[t, b], t, b))
                errors[t, b] = np.asarray(own) - lambda_return(t, b)
    return errors


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(
    ("mixer", "how", "reward_of"),
    [
        ("iql", "individual", lambda r: r),
        ("iql", "sum", np.sum),
        ("vdn", "mean", np.mean),
        ("qmix", "sum", np.sum),
    ],
)
def test_loss_equals_the_slow_one(mixer: str, how: Any, reward_of: Any, lambda_: float) -> None:
    # The batch has all that matters: ends of both kinds, several episodes in one sequence.
    ts = BATCH.ts
    assert (ts.last[:-1] & (ts.discount[:-1] == 0)).any()
    assert (ts.last[:-1] & (ts.discount[:-1] == 1)).any()
    assert (ts.first.sum(0) > 1).any()
    algorithm = make(mixer, lambda_=lambda_, team_reward=how)
    got, (metrics, _, count) = jax.jit(algorithm.loss)(ONLINE[mixer], TARGET[mixer], uniform(BATCH))
    want = slow_loss(ONLINE[mixer], TARGET[mixer], BATCH, lambda_, reward_of)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert metrics["loss"] == got
    assert count == (~ts.last[:-1]).sum() < T * B


LEARN = jax.jit(jax.value_and_grad(make("qmix", lambda_=0.6).loss, argnums=(0, 1), has_aux=True))


def test_every_parameter_is_learned_and_the_target_is_not() -> None:
    _, (online, target) = LEARN(ONLINE["qmix"], TARGET["qmix"], uniform(BATCH))
    assert all(leaf.any() for leaf in jax.tree.leaves(online))
    assert not any(leaf.any() for leaf in jax.tree.leaves(target))


def test_a_batch_without_a_real_transition_teaches_nothing() -> None:
    everywhere = BATCH._replace(ts=BATCH.ts._replace(last=jnp.ones_like(BATCH.ts.last)))
    results = LEARN(ONLINE["qmix"], TARGET["qmix"], uniform(everywhere))
    assert not any(leaf.any() for leaf in jax.tree.leaves(results))  # not even NaN from 0 / 0


def test_padding_changes_nothing() -> None:
    """Neither the reward on a first step nor the action on a last one, not even in what is reported."""
    ts = BATCH.ts
    other = BATCH._replace(
        ts=ts._replace(reward=jnp.where(ts.first[..., None], 1e6, ts.reward)),
        action=jnp.where(ts.last[:-1, :, None], (BATCH.action + 1) % A, BATCH.action),
    )
    # With last actions in view the next episode's first step must not see that action either.
    got, want = (LEARN(ONLINE["qmix"], TARGET["qmix"], uniform(batch)) for batch in (other, BATCH))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def test_individual_rewards_stay_with_their_agents() -> None:
    """With one loss per agent, agent 1's reward moves agent 1's utilities alone (they share nothing here)."""
    algorithm = dataclasses.replace(
        make("iql", team_reward="individual"),
        make_agent=lambda key: Agent(SPEC, key=key, hidden=H, sharing="agent"),
    )
    one = random_parameters(lambda: Networks(Agent(SPEC, key=KEY, hidden=H, sharing="agent"), IQL()), 1)
    raised = BATCH._replace(ts=BATCH.ts._replace(reward=BATCH.ts.reward.at[..., 1].add(1.0)))
    gradient = jax.jit(jax.grad(lambda o, b: algorithm.loss(o, one, uniform(b))[0]))
    for a, b in zip(jax.tree.leaves(gradient(one, BATCH)), jax.tree.leaves(gradient(one, raised)), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert not np.allclose(a[1], b[1])


def test_sequences_have_their_weights_and_their_errors() -> None:
    weight = np.array([1.0, 0.25, 0.0, 0.5], np.float32)
    algorithm = make("qmix", lambda_=0.6)
    loss, (_, error, _) = jax.jit(algorithm.loss)(ONLINE["qmix"], TARGET["qmix"], Batch(BATCH, jnp.asarray(weight), ()))
    slow = slow_errors(ONLINE["qmix"], TARGET["qmix"], BATCH, 0.6, np.mean)
    np.testing.assert_allclose(loss, np.mean([weight[b] * e**2 for (_, b), e in slow.items()]), rtol=1e-4)
    for b in range(B):
        own = [abs(e) for (_, c), e in slow.items() if c == b]
        # R2D2, §2.3: η = .9 of the largest and .1 of the mean. What a sequence weighs has no part in it.
        np.testing.assert_allclose(error[b], 0.9 * max(own) + 0.1 * np.mean(own), rtol=1e-4)


def tail(batch: Trajectory, agent: Agent, start: int) -> Trajectory:
    """The sequences from ``start`` on, with the memory that stepping there leaves behind."""
    memories = []
    for b in range(B):
        carry = jax.tree.map(lambda x, b=b: x[b], batch.carry)
        for t in range(start):
            memory, _ = step(agent, carry, jax.tree.map(lambda x, t=t, b=b: x[t, b], batch.ts))
            carry = AgentCarry(memory, batch.action[t, b])
        memories.append(carry)
    carry = jax.tree.map(lambda *x: jnp.stack(x), *memories)
    return Trajectory(jax.tree.map(lambda x: x[start:], batch.ts), batch.action[start:], carry)


@pytest.mark.parametrize("burn_in", [1, 3])
def test_burn_in_is_stepping_there_and_learning_from_the_rest(burn_in: int) -> None:
    algorithm, plain = make("vdn", burn_in=burn_in, target_update="none"), make("vdn", target_update="none")
    online = ONLINE["vdn"]
    got = jax.jit(jax.value_and_grad(algorithm.loss, has_aux=True))(online, None, uniform(BATCH))
    # The memory at the start of the rest is a constant: nothing is learned through the burn-in either.
    rest = tail(BATCH, online.agent, burn_in)
    want = jax.jit(jax.value_and_grad(plain.loss, has_aux=True))(online, None, uniform(rest))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), got, want)


def test_burn_in_warms_each_network_up_by_itself() -> None:
    online, target = ONLINE["vdn"], TARGET["vdn"]
    # Long episodes, so that what the target remembers is still there where it is asked.
    batch = random_trajectory(1, online.agent, steps=T, batch=B, obs=D, state=S, limit=20)
    got, _ = jax.jit(make("vdn", burn_in=2).loss)(online, target, uniform(batch))
    rest, of_target = tail(batch, online.agent, 2), tail(batch, target.agent, 2)
    q = np.asarray(UNROLL(online.agent, rest))
    target_q = np.asarray(UNROLL(target.agent, of_target))
    ts: TimeStep = jax.tree.map(np.asarray, rest.ts)
    best = np.where(ts.avail, q, -np.inf).argmax(-1)[1:]
    v = np.take_along_axis(target_q[1:], best[..., None], -1)[..., 0].sum(-1)
    y = ts.reward.mean(-1)[1:] + GAMMA * ts.discount[1:] * v
    own = np.take_along_axis(q[:-1], np.asarray(rest.action)[..., None], -1)[..., 0].sum(-1)
    np.testing.assert_allclose(got, ((own - y) ** 2)[~ts.last[:-1]].mean(), rtol=1e-4)
    shared, _ = jax.jit(make("vdn").loss)(online, target, uniform(rest))  # the target with the online memory
    assert not np.allclose(got, shared, rtol=1e-3)


UNROLL = jax.jit(lambda agent, x: agent.unroll(x.carry, x.ts, x.action)[1].q)


def test_without_the_stored_state_sequences_begin_with_an_empty_memory() -> None:
    empty = BATCH._replace(carry=BATCH.carry._replace(memory=jnp.zeros_like(BATCH.carry.memory)))
    networks = ONLINE["vdn"], TARGET["vdn"]
    zero = jax.jit(make("vdn", stored_state=False).loss)
    got, want = zero(*networks, uniform(BATCH)), zero(*networks, uniform(empty))
    stored = jax.jit(make("vdn").loss)(*networks, uniform(BATCH))
    np.testing.assert_array_equal(got[0], want[0])
    assert not np.allclose(got[0], stored[0], rtol=1e-3)
    # What was done before is seen, not remembered: it stays.
    other = BATCH._replace(carry=BATCH.carry._replace(last_action=(BATCH.carry.last_action + 1) % A))
    assert zero(*networks, uniform(other))[0] != got[0]


def test_without_a_target_network_the_online_one_stands_in_and_targets_are_constants() -> None:
    online = ONLINE["qmix"]

    def learn(update: Any) -> Any:
        algorithm = make("qmix", lambda_=0.6, target_update=update)
        return jax.jit(jax.value_and_grad(algorithm.loss, has_aux=True))

    got, want = learn("none")(online, None, uniform(BATCH)), learn("hard")(online, online, uniform(BATCH))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


def test_without_a_target_network_none_is_kept() -> None:
    algorithm = make("qmix", target_update="none")
    state = jax.jit(algorithm.init)(KEY)
    assert state.target is None
    after = jax.jit(algorithm.update)(state, uniform(BATCH), KEY).state
    assert after.target is None
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert not same(after.online, state.online)


def test_n_step_targets() -> None:
    """A return of 2 rewards, where neither an episode nor the sequence ends before."""
    algorithm = dataclasses.replace(make("vdn"), returns=functools.partial(n_step, n=2))
    after: TimeStep = jax.tree.map(lambda x: x[1:], BATCH.ts)
    v = np.random.default_rng(0).normal(size=(T, B)).astype(np.float32)
    y = algorithm._targets(after, jnp.asarray(v))
    for b in range(B):
        for t in range(T):
            want = after.reward[t, b].mean() + GAMMA * after.discount[t, b] * v[t, b]
            if t + 1 < T and not after.last[t, b]:
                second = after.reward[t + 1, b].mean() + GAMMA * after.discount[t + 1, b] * v[t + 1, b]
                want = after.reward[t, b].mean() + GAMMA * after.discount[t, b] * second
            np.testing.assert_allclose(y[t, b], want, rtol=1e-4, atol=1e-5)


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def begin(algorithm: QLearning, mixer: str) -> QState:
    """As after some updates: the target lags behind."""
    online = ONLINE[mixer]
    return QState(online, TARGET[mixer], algorithm.optimiser.init(online), jnp.zeros((), jnp.int32))


def test_update_is_one_step_against_the_gradient_and_a_soft_target_follows() -> None:
    algorithm = make("qmix", lambda_=0.6, optimiser=optax.sgd(0.1), target_update="soft", target_tau=0.25)
    state = begin(algorithm, "qmix")
    after, metrics, _ = jax.jit(algorithm.update)(state, uniform(BATCH), KEY)
    _, (gradient, _) = LEARN(state.online, state.target, uniform(BATCH))
    steps = zip(*map(jax.tree.leaves, (state.online, gradient, after.online, state.target, after.target)), strict=True)
    for w, g, new, target, new_target in steps:
        np.testing.assert_allclose(new, w - 0.1 * g, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(new_target, 0.25 * new + 0.75 * target, rtol=1e-4, atol=1e-5)
    assert after.updates == 1
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)


def test_hard_target_is_copied_every_so_many_updates() -> None:
    algorithm = make("qmix", target_update="hard", target_interval=3)
    state, update = begin(algorithm, "qmix"), jax.jit(algorithm.update)
    old = state.target
    for number in range(1, 8):
        state, _, _ = update(state, uniform(BATCH), KEY)
        if number % 3 == 0:
            assert same(state.target, state.online)  # every parameter, the mixer's too
            old = state.online
        else:
            assert same(state.target, old)
            assert not same(state.target, state.online)


def test_target_starts_as_the_online_network_in_memory_of_its_own() -> None:
    state = jax.jit(make("vdn").init)(KEY)
    assert same(state.target, state.online)
    assert state.updates == 0
    pairs = zip(jax.tree.leaves(state.target), jax.tree.leaves(state.online), strict=True)
    assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)  # may be donated


# How the team acts.


def one_step(avail: Any) -> TimeStep:
    avail = jnp.asarray(avail)
    return make_timestep(jnp.zeros((avail.shape[0], D)), jnp.zeros(S), avail=avail)


def test_greedy_takes_the_best_available_action() -> None:
    q = jnp.array([[1.0, 5.0, 3.0], [-7.0, -5.0, -6.0], [2.0, 2.0, 1.0]])
    avail = [[True, False, True], [True, False, True], [True, True, True]]
    np.testing.assert_array_equal(greedy(q, one_step(avail)), [2, 2, 0])  # ties: the lowest index


draw_many = jax.jit(lambda action, ts, epsilon, keys: jax.vmap(lambda k: epsilon_greedy(action, ts, epsilon, k))(keys))


def test_epsilon_greedy_frequencies() -> None:
    ts = one_step([[True, True, False, True], [False, True, False, True]])
    keys, epsilon = jax.random.split(KEY, 20_000), jnp.asarray(0.6)
    actions = np.asarray(draw_many(jnp.array([3, 1]), ts, epsilon, keys))
    got = [[(actions[:, i] == a).mean() for a in range(4)] for i in range(2)]
    # ε / |available| for each, and 1 - ε more for the greedy one; 4 standard errors are .014.
    np.testing.assert_allclose(got, [[0.2, 0.2, 0, 0.6], [0, 0.7, 0, 0.3]], atol=0.014)
    # Each agent tosses its own coin: both keep the greedy action together as often as independence says.
    together = ((actions[:, 0] == 3) & (actions[:, 1] == 1)).mean()
    np.testing.assert_allclose(together, 0.6 * 0.7, atol=0.014)


def test_epsilon_zero_is_greedy() -> None:
    actions = draw_many(jnp.array([2, 0]), one_step(np.ones((2, 3), bool)), jnp.asarray(0.0), jax.random.split(KEY, 50))
    np.testing.assert_array_equal(actions, np.tile([2, 0], (50, 1)))


@given(hnp.arrays(bool, (3, 4)).filter(lambda m: m.any(-1).all()), st.integers(0, 2**31))
def test_masks_hold_at_epsilon_one(avail: np.ndarray, seed: int) -> None:
    """Also where the greedy action given is not available, as it may be in no sane caller."""
    ts, keys = one_step(avail), jax.random.split(jax.random.key(seed), 64)
    actions = np.asarray(draw_many(jnp.zeros(3, jnp.int32), ts, jnp.asarray(1.0), keys))
    assert avail[np.arange(3)[None], actions].all()


def test_policy_steps_its_agent_and_remembers_what_it_did() -> None:
    agent = ONLINE["vdn"].agent
    policy = QPolicy(agent, jnp.asarray(1.0))
    ts = jax.tree.map(lambda x: x[0, 0], BATCH.ts)
    carry = policy.initial_carry()
    memory, out = step(agent, carry, ts)
    act = functools.partial(jax.jit(QPolicy.act, static_argnums=4), policy)
    after, action = act(carry, ts, KEY, False)
    np.testing.assert_array_equal(action, greedy(out.q, ts))
    np.testing.assert_array_equal(after.last_action, action)
    np.testing.assert_allclose(after.memory, memory, rtol=1e-5)
    explored = [act(carry, ts, k, True) for k in jax.random.split(KEY, 8)]
    assert len({tuple(action.tolist()) for _, action in explored}) > 1
    for after, action in explored:
        np.testing.assert_array_equal(after.last_action, action)  # what was done by chance is what is remembered


def test_epsilon_follows_the_environment_steps() -> None:
    algorithm = make(epsilon=optax.linear_schedule(1.0, 0.05, 100))
    state = jax.eval_shape(algorithm.init, KEY)
    got = [float(algorithm.policy(state, n).epsilon) for n in (0, 50, 100, 10_000)]
    np.testing.assert_allclose(got, [1.0, 0.525, 0.05, 0.05], rtol=1e-6)
    assert algorithm.schedules(50) == {"epsilon": pytest.approx(0.525)}


class Curious(VDN):
    """A mixer with a report of its own."""

    def loss(self, joint: Joint, y: Array) -> Any:
        return (self(joint) - y) ** 2, {"td_error": jnp.asarray(1.0), "mine": jnp.asarray(3.0)}


def test_a_mixer_reports_what_it_likes() -> None:
    curious = dataclasses.replace(ONLINE["vdn"], mixer=Curious())
    _, (metrics, _, _) = jax.jit(make().loss)(curious, curious, uniform(BATCH))
    assert set(metrics) == {"loss", "td_error", "mine"}
    assert metrics["mine"] == 3
