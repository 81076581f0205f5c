"""Deep recurrent Q-learning of a factored team value, from replayed sequences.

One learner for IQL, VDN, QMIX and all later mixers (PyMARL's ``q_learner``): double-Q targets over available
actions, a target network, one-step or λ-return targets. The methods differ in their mixer alone.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Update
from comarl.mixers.base import AbstractMixer, Joint, mask_unavailable
from comarl.nets.agents import Agent, AgentCarry
from comarl.returns import TeamReward, form_team_reward, td_lambda
from comarl.types import TimeStep, Trajectory


class Networks(eqx.Module):
    """Everything that is learned, and everything that is copied to the target network."""

    agent: Agent
    mixer: AbstractMixer


class QState(NamedTuple):
    """The state of :class:`QLearning`; ``updates`` counts gradient steps."""

    online: Networks
    target: Networks
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
        gamma: γ.
        lambda_: λ of the targets; 0 is one-step.
        team_reward: how the learned reward is formed from the agents' rewards.
        target_update: ``hard`` copies every ``target_interval`` updates, ``soft`` moves by ``target_tau`` each update.
        target_interval: counted in updates.
        target_tau: the share of the online network in a soft update.
    """

    make_agent: Callable[[PRNGKeyArray], Agent]
    make_mixer: Callable[[PRNGKeyArray], AbstractMixer]
    optimiser: optax.GradientTransformation
    epsilon: optax.Schedule
    gamma: float = 0.99
    lambda_: float = 0.0
    team_reward: TeamReward = "mean"
    target_update: Literal["hard", "soft"] = "hard"
    target_interval: int = 200
    target_tau: float = 0.01

    def init(self, key: PRNGKeyArray) -> QState:
        """Fresh networks; the target is the same network, not another draw."""
        agent_key, mixer_key = jax.random.split(key)
        online = Networks(self.make_agent(agent_key), self.make_mixer(mixer_key))
        params: Any = online  # optax's types know no modules
        target = jax.tree.map(jnp.copy, online)
        return QState(online, target, self.optimiser.init(params), jnp.zeros((), jnp.int32))

    def policy(self, state: QState, env_steps: Int[Array, ""] | int) -> QPolicy:
        """ε-greedy with the ε of that many environment steps."""
        return QPolicy(state.online.agent, jnp.asarray(self.epsilon(env_steps), jnp.float32))

    def schedules(self, env_steps: int) -> dict[str, float]:
        """ε after that many environment steps."""
        return {"epsilon": float(jnp.asarray(self.epsilon(env_steps)))}

    def update(self, state: QState, batch: Trajectory, key: PRNGKeyArray) -> Update:
        """One gradient step on the sequences of ``batch``."""
        del key
        (_, metrics), gradient = jax.value_and_grad(self.loss, has_aux=True)(state.online, state.target, batch)
        metrics["grad_norm"] = optax.tree.norm(gradient)
        params: Any = state.online
        change, optimiser = self.optimiser.update(gradient, state.optimiser, params)
        online: Any = optax.apply_updates(params, change)
        updates = state.updates + 1
        return Update(QState(online, self._new_target(online, state.target, updates), optimiser, updates), metrics)

    def loss(
        self, online: Networks, target: Networks, batch: Trajectory
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The mean loss over the real transitions of ``batch``, and means of what the mixer reports."""
        _, out = online.agent.unroll(batch.carry, batch.ts, batch.action)
        _, target_out = target.agent.unroll(batch.carry, batch.ts, batch.action)
        q, target_q = mask_unavailable(out.q, batch.ts), mask_unavailable(target_out.q, batch.ts)
        before, after = jax.tree.map(lambda x: x[:-1], batch.ts), jax.tree.map(lambda x: x[1:], batch.ts)
        # Double-Q (van Hasselt et al. 2016): the online utilities choose, the target network values the choice.
        best = jnp.argmax(q[1:], axis=-1).astype(jnp.int32)
        v = _per_step(target.mixer.bootstrap)(Joint(target_q[1:], best, target_out.hidden[1:], after))
        y = jax.lax.stop_gradient(self._targets(after, v))
        loss, metrics = _per_step(online.mixer.loss)(Joint(q[:-1], batch.action, out.hidden[:-1], before), y)
        return _masked_mean(loss, ~before.last), {
            "loss": _masked_mean(loss, ~before.last),
            **{name: _masked_mean(x, ~before.last) for name, x in metrics.items()},
        }

    def _targets(self, after: TimeStep, v: Float[Array, "T B *agents"]) -> Float[Array, "T B *agents"]:
        """λ-returns of every sequence, and of every agent where values are per agent."""
        reward = form_team_reward(after.reward, self.team_reward)
        returns = jax.vmap(functools.partial(td_lambda, lambda_=self.lambda_), in_axes=1, out_axes=1)
        if v.ndim == 3:
            reward = jnp.broadcast_to(reward.reshape(*reward.shape[:2], -1), v.shape)
            returns = jax.vmap(returns, in_axes=(2, None, 2, None), out_axes=2)
        return returns(reward, self.gamma * after.discount, v, after.last)

    def _new_target(self, online: Any, target: Any, updates: Int[Array, ""]) -> Any:
        if self.target_update == "soft":
            return optax.incremental_update(online, target, self.target_tau)
        due = updates % self.target_interval == 0
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), online, target)


def _per_step(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one joint step, mapped over time and sequences."""
    return jax.vmap(jax.vmap(f))


def _masked_mean(x: Float[Array, "T B"], mask: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(mask.sum(), 1)
