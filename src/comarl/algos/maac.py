"""MAAC (Iqbal and Sha 2019): soft policies, critics that attend to the other agents, and a counterfactual baseline.

Every agent has a policy on its own history; critics of all agents, which training alone has, share what tells whom to
attend to. Values are soft: a policy earns, beside its rewards, α nats of entropy at every step. The critic is fitted
off-policy, on replayed sequences; the policies follow it by the score function, with actions drawn anew for everybody.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Update
from comarl.algos.counterfactual import counterfactual_advantage
from comarl.algos.optimise import gradient_step
from comarl.algos.sequences import (
    acted_steps,
    deciding,
    learned_steps,
    masked_mean,
    per_agent,
    sequence_returns,
    unroll,
)
from comarl.algos.stochastic import StochasticPolicy
from comarl.algos.targets import TargetUpdate, next_target
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.nets.agents import Agent
from comarl.nets.attention_critic import AttentionCritic, share_attention
from comarl.nets.distributions import chosen, entropy, log_probabilities, sample
from comarl.returns import Returns, TeamReward, form_team_reward
from comarl.types import TimeStep, Trajectory


class Networks(eqx.Module):
    """Everything that is learned, and everything that is copied to the targets; the agent's head gives logits."""

    actor: Agent
    critic: AttentionCritic


class Optimisers(NamedTuple):
    """A state each, for the policies follow a critic that has already moved."""

    actor: optax.OptState
    critic: optax.OptState


class MAACState(NamedTuple):
    """The state of :class:`MAAC`; ``updates`` counts them.

    Without target networks ``target`` is None and the online ones stand in for them.
    """

    online: Networks
    target: Networks | None
    optimisers: Optimisers
    updates: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class MAAC:
    """A soft actor-critic of many agents.

    Attributes:
        make_actor: the agents from a key.
        make_critic: all agents' critics from a key.
        optimiser: applied to the critics' gradient, and apart from it to that of the actors.
        returns: targets from rewards and bootstrap values; one-step ones in the paper.
        gamma: γ.
        team_reward: how the learned reward is formed from the agents' rewards; ``individual`` in the paper.
        entropy_temperature: α, what a nat of the policy's entropy is worth.
        logit_weight: weight of the policies' mean squared logits.
        attention_penalty: weight of the critics' mean squared attention logits.
        stored_state: whether a sequence begins with the agents' memory as it was when it was collected.
        burn_in: steps at the start of a sequence that only warm the agents' memory up.
        target_update: as in :func:`comarl.algos.targets.next_target`; ``none`` has no target networks.
        target_interval: counted in updates.
        target_tau: the share of the online network in a soft update.
    """

    make_actor: Callable[[PRNGKeyArray], Agent]
    make_critic: Callable[[PRNGKeyArray], AttentionCritic]
    optimiser: optax.GradientTransformation
    returns: Returns
    gamma: float = 0.99
    team_reward: TeamReward = "individual"
    entropy_temperature: float = 0.01
    logit_weight: float = 1e-3
    attention_penalty: float = 1e-3
    stored_state: bool = True
    burn_in: int = 0
    target_update: TargetUpdate = "soft"
    target_interval: int = 200
    target_tau: float = 0.001

    def init(self, key: PRNGKeyArray) -> MAACState:
        """Fresh networks; the targets are the same networks, not another draw."""
        actor_key, critic_key = jax.random.split(key)
        actor: Any = self.make_actor(actor_key)  # optax's types know no modules
        critic: Any = self.make_critic(critic_key)
        online = Networks(actor, critic)
        target = None if self.target_update == "none" else jax.tree.map(jnp.copy, online)
        optimisers = Optimisers(self.optimiser.init(actor), self.optimiser.init(critic))
        return MAACState(online, target, optimisers, jnp.zeros((), jnp.int32))

    def policy(self, state: MAACState, env_steps: Int[Array, ""] | int) -> StochasticPolicy:
        """Drawn actions: the entropy that is paid for is the exploration."""
        del env_steps
        return StochasticPolicy(state.online.actor)

    def schedules(self, env_steps: int) -> dict[str, float]:
        """Nothing depends on the steps alone."""
        del env_steps
        return {}

    def annotate(
        self, state: MAACState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """Nothing to note: targets are made anew in every update."""
        del state, env_steps, key
        return trajectory

    def update(self, state: MAACState, batch: Batch, key: PRNGKeyArray) -> Update:
        """A step of the critics, then one of the actors against the critics as they are now."""
        target_key, actor_key = jax.random.split(key)
        actor, critic = state.online.actor, state.online.critic
        y = self.targets(state.online if state.target is None else state.target, batch, target_key)
        by_critic, (values, error) = jax.grad(self.critic_loss, has_aux=True)(critic, y, batch)
        by_critic = share_attention(by_critic)
        critic, critic_state = gradient_step(self.optimiser, by_critic, state.optimisers.critic, critic)
        by_actor, policies = jax.grad(self.actor_loss, has_aux=True)(actor, critic, batch, actor_key)
        actor, actor_state = gradient_step(self.optimiser, by_actor, state.optimisers.actor, actor)
        online, updates = Networks(actor, critic), state.updates + 1
        target = next_target(online, state.target, updates, self.target_update, self.target_interval, self.target_tau)
        metrics = {
            "loss": values["critic_loss"] + policies["policy_loss"],
            **values,
            **policies,
            "grad_norm": optax.tree.norm((by_critic, by_actor)),
        }
        return Update(MAACState(online, target, Optimisers(actor_state, critic_state), updates), metrics, error)

    def targets(self, target: Networks, batch: Batch, key: PRNGKeyArray) -> Float[Array, "T B N"]:
        """y_i = r_i + γ [Q_i'(o', a') - α log π_i'(a_i' | o_i')], every a_j' drawn from agent j's target policy.

        An entropy belongs to the step where its action is drawn: none is bootstrapped through a termination, and the
        action whose value is asked for earns none in its own value. λ- and n-step returns pass over replayed actions,
        each of which earns its -α log π' too; so the returns are taken of rewards with that, and the first one's is
        taken off again.
        """
        ts, action = learned_steps(batch.trajectory, self.burn_in)
        after: TimeStep = jax.tree.map(lambda x: x[1:], ts)
        # Memories run from the first step on, as when the sequence was collected.
        log_p = log_probabilities(self._logits(target.actor, batch.trajectory), ts.avail)
        drawn = sample(log_p[1:], key)
        v = chosen(target.critic(after, drawn).q, drawn) - self.entropy_temperature * chosen(log_p[1:], drawn)
        earned = -self.entropy_temperature * chosen(log_p[:-1], action)
        reward = form_team_reward(after.reward, self.team_reward)
        reward = reward.reshape(*reward.shape[:2], -1) + earned
        return sequence_returns(self.returns, reward, self.gamma * after.discount, v, after.last) - earned

    def critic_loss(
        self, critic: AttentionCritic, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Float[Array, " B"]]]:
        """Σ_i of the weighted mean of (Q_i(o, a) - y_i)² and of the squared attention logits, over real transitions.

        Beside it what to report, of which losses are means over the agents, and the errors of the sequences.
        """
        before, action = acted_steps(batch.trajectory, self.burn_in)
        said = critic(before, action)
        q = chosen(said.q, action)
        real, weight = per_agent(~before.last, y), batch.weight[None, :, None]
        others = max(q.shape[-1] - 1, 1)
        squares = (said.logits**2).sum((-2, -1)) / others
        critic_loss = masked_mean(weight * (q - y) ** 2, real)
        penalty = masked_mean(weight * squares, real)
        error = jnp.abs(q - y)
        metrics = {
            "critic_loss": critic_loss,
            "td_error": masked_mean(error, real),
            "q": masked_mean(q, real),
            "squared_logits": penalty,
        }
        loss = q.shape[-1] * (critic_loss + self.attention_penalty * penalty)
        return loss, (metrics, sequence_error(error.mean(-1), ~before.last))

    def actor_loss(
        self, actor: Agent, critic: AttentionCritic, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Σ_i of the weighted mean of log π_i(a_i) · sg[α log π_i(a_i) - A_i(o, a)], all actions drawn anew.

        Of J_i = E[Q_i(o, a) - α log π_i(a_i)] the gradient in agent i's parameters is E[∇ log π_i(a_i) (Q_i(o, a) -
        α log π_i(a_i))], since what is left, -α E[∇ log π_i(a_i)], is 0. For the same reason anything may be taken off
        that does not depend on a_i: the baseline Σ_a π_i(a) Q_i(o, (a, a_-i)) makes A_i of Q_i.

        Beside it the mean squared logits, and what to report. An agent without a choice, such as a dead one, counts for
        the critics and not for the policies.
        """
        before, _ = acted_steps(batch.trajectory, self.burn_in)
        logits = self._logits(actor, batch.trajectory)[:-1]
        log_p = log_probabilities(logits, before.avail)
        drawn = sample(log_p, key)
        log_pi = chosen(log_p, drawn)
        advantage = counterfactual_advantage(critic(before, drawn).q, log_p, drawn)
        score = jax.lax.stop_gradient(self.entropy_temperature * log_pi - advantage)
        choice = deciding(before)
        policy_loss = masked_mean(batch.weight[None, :, None] * log_pi * score, choice)
        squares = masked_mean(logits**2, before.avail & choice[..., None])
        metrics = {
            "policy_loss": policy_loss,
            "entropy": masked_mean(entropy(log_p), choice),
            "advantage": masked_mean(jnp.abs(advantage), choice),
        }
        return log_pi.shape[-1] * (policy_loss + self.logit_weight * squares), metrics

    def _logits(self, actor: Agent, trajectory: Trajectory) -> Float[Array, "T_plus_1 B N A"]:
        return unroll(actor, trajectory, stored_state=self.stored_state, burn_in=self.burn_in).q
