"""Deep recurrent Q-learning of a factored team value, from sequences.

One learner for IQL, VDN, QMIX and all later mixers: double-Q targets over available actions, one-step, n-step or
λ-return targets, with a target network (PyMARL's ``q_learner``) or without (PQN, Gallici et al. 2024). The methods
differ in their mixer alone; replay and on-policy learning differ in the memory that the batches come from.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Update
from comarl.algos.optimise import gradient_norm, gradient_step
from comarl.algos.sequences import learned_steps, masked_mean, sequence_returns, unroll
from comarl.algos.shares import Count, Errors, Metrics, batch_gradient
from comarl.algos.targets import TargetUpdate, next_target
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.mixers.base import AbstractMixer, Joint, mask_unavailable
from comarl.nets.agents import Agent, AgentCarry
from comarl.returns import Returns, TeamReward, form_team_reward
from comarl.types import TimeStep, Trajectory


class Networks(eqx.Module):
    """Everything that is learned, and everything that is copied to the target network."""

    agent: Agent
    mixer: AbstractMixer


class QState(NamedTuple):
    """The state of :class:`QLearning`; ``updates`` counts gradient steps.

    Without a target network ``target`` is None and the online network stands in for it.
    """

    online: Networks
    target: Networks | None
    optimiser: optax.OptState
    updates: Int[Array, ""]


class QPolicy(eqx.Module):
    """ε-greedy on the utilities of available actions; greedy without exploration."""

    agent: Agent
    epsilon: Float[Array, ""]

    def initial_carry(self) -> AgentCarry:
        """The agents' carry before an episode."""
        return self.agent.initial_carry()

    def act(
        self, carry: AgentCarry, ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[AgentCarry, Int[Array, " N"]]:
        """The agents' next carry and their actions ``[N]``."""
        memory, out = self.agent(carry, ts)
        action = greedy(out.q, ts)
        if explore:
            action = epsilon_greedy(action, ts, self.epsilon, key)
        return AgentCarry(memory, action), action


def greedy(q: Float[Array, "*batch N A"], ts: TimeStep) -> Int[Array, "*batch N"]:
    """The available action of highest utility; the lowest index wins ties."""
    return jnp.argmax(mask_unavailable(q, ts), axis=-1).astype(jnp.int32)


def epsilon_greedy(
    action: Int[Array, " N"], ts: TimeStep, epsilon: Float[Array, ""], key: PRNGKeyArray
) -> Int[Array, " N"]:
    """Each agent by itself replaces its action, with probability ε, by a uniform draw from those available."""
    coin_key, draw_key = jax.random.split(key)
    rank = jax.random.uniform(draw_key, ts.avail.shape)
    uniform = jnp.argmax(jnp.where(ts.avail, rank, -1.0), axis=-1).astype(jnp.int32)
    return jnp.where(jax.random.uniform(coin_key, action.shape) < epsilon, uniform, action)


@dataclasses.dataclass(frozen=True)
class QLearning:
    """Value-based learning of a team.

    Attributes:
        make_agent: an agent from a key.
        make_mixer: a mixer from a key.
        optimiser: applied to the gradient of agent and mixer together.
        epsilon: ε after a number of environment steps.
        returns: targets from rewards and bootstrap values, such as :func:`comarl.returns.td_lambda`.
        gamma: γ.
        team_reward: how the learned reward is formed from the agents' rewards.
        stored_state: whether a sequence begins with the agents' memory as it was when it was collected; otherwise
            with that of an episode's start (R2D2's stored state and zero state, Kapturowski et al. 2019).
        burn_in: steps at the start of a sequence that only warm the agents' memory up.
        target_update: ``hard`` copies every ``target_interval`` updates, ``soft`` moves by ``target_tau`` each
            update, ``none`` has no target network.
        target_interval: counted in updates.
        target_tau: the share of the online network in a soft update.
    """

    make_agent: Callable[[PRNGKeyArray], Agent]
    make_mixer: Callable[[PRNGKeyArray], AbstractMixer]
    optimiser: optax.GradientTransformation
    epsilon: optax.Schedule
    returns: Returns
    gamma: float = 0.99
    team_reward: TeamReward = "mean"
    stored_state: bool = True
    burn_in: int = 0
    target_update: TargetUpdate = "hard"
    target_interval: int = 200
    target_tau: float = 0.01

    def init(self, key: PRNGKeyArray) -> QState:
        """Fresh networks; the target is the same network, not another draw."""
        agent_key, mixer_key = jax.random.split(key)
        online = Networks(self.make_agent(agent_key), self.make_mixer(mixer_key))
        params: Any = online  # optax's types know no modules
        target = None if self.target_update == "none" else jax.tree.map(jnp.copy, online)
        return QState(online, target, self.optimiser.init(params), jnp.zeros((), jnp.int32))

    def policy(self, state: QState, env_steps: Int[Array, ""] | int) -> QPolicy:
        """ε-greedy with the ε of that many environment steps."""
        return QPolicy(state.online.agent, jnp.asarray(self.epsilon(env_steps), jnp.float32))

    def schedules(self, env_steps: int) -> dict[str, float]:
        """ε after that many environment steps."""
        return {"epsilon": float(jnp.asarray(self.epsilon(env_steps)))}

    def annotate(
        self, state: QState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """Nothing to note: targets are made anew in every update."""
        del state, env_steps, key
        return trajectory

    def update(self, state: QState, batch: Batch, key: PRNGKeyArray) -> Update:
        """One gradient step on the sequences of ``batch``."""
        del key
        gradient, (metrics, error) = batch_gradient(self.loss, state.online, state.target, batch)
        metrics["grad_norm"] = gradient_norm(gradient)
        online, optimiser = gradient_step(self.optimiser, gradient, state.optimiser, state.online)
        updates = state.updates + 1
        target = next_target(online, state.target, updates, self.target_update, self.target_interval, self.target_tau)
        return Update(QState(online, target, optimiser, updates), metrics, error)

    def loss(
        self, online: Networks, target: Networks | None, batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Metrics, Errors, Count]]:
        """The weighted mean loss over the real transitions of ``batch``.

        Beside it means of what the mixer reports, the errors of the sequences, made from the mixer's ``td_error``, and
        how many these transitions are.
        """
        unrolled = functools.partial(unroll, stored_state=self.stored_state, burn_in=self.burn_in)
        out = unrolled(online.agent, batch.trajectory)
        # Without a target network the second pass would be the first one again.
        target_out = out if target is None else unrolled(target.agent, batch.trajectory)
        target = online if target is None else target
        ts, action = learned_steps(batch.trajectory, self.burn_in)
        q, target_q = mask_unavailable(out.q, ts), mask_unavailable(target_out.q, ts)
        before, after = jax.tree.map(lambda x: x[:-1], ts), jax.tree.map(lambda x: x[1:], ts)
        # Double-Q (van Hasselt et al. 2016): the online utilities choose, the target network values the choice.
        best = jnp.argmax(q[1:], axis=-1).astype(jnp.int32)
        v = _per_step(target.mixer.bootstrap)(Joint(target_q[1:], best, target_out.hidden[1:], after))
        y = jax.lax.stop_gradient(self._targets(after, v))
        loss, metrics = _per_step(online.mixer.loss)(Joint(q[:-1], action, out.hidden[:-1], before), y)
        real = ~before.last
        mean = masked_mean(batch.weight[None] * loss, real)
        means = {name: masked_mean(x, real) for name, x in metrics.items()}
        return mean, ({"loss": mean, **means}, sequence_error(metrics["td_error"], real), real.sum())

    def _targets(self, after: TimeStep, v: Float[Array, "T B *agents"]) -> Float[Array, "T B *agents"]:
        """The returns of every sequence, and of every agent where values are per agent."""
        reward = form_team_reward(after.reward, self.team_reward)
        return sequence_returns(self.returns, reward, self.gamma * after.discount, v, after.last)


def _per_step(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one joint step, mapped over time and sequences ``[T, B]``.

    Over both as one axis: the weights' gradients are then products of matrices (:class:`comarl.nets.layers.Linear`).
    """

    def mapped(*xs: Any) -> Any:
        steps = jax.tree.leaves(xs)[0].shape[:2]
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), xs)
        return jax.tree.map(lambda x: x.reshape(*steps, *x.shape[1:]), jax.vmap(f)(*rows))

    return mapped
