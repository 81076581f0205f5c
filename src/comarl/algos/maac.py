"""MAAC (Iqbal and Sha 2019): soft policies, critics that attend to the other agents, and a counterfactual baseline.

Every agent has a policy on its own history; critics of all agents, which training alone has, share what tells whom to
attend to. Values are soft: a policy earns, beside its rewards, α nats of entropy at every step. The critic is fitted
off-policy, on replayed sequences; the policies follow it by the score function, with actions drawn anew for everybody.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.counterfactual import counterfactual_advantage
from comarl.algos.offpolicy import Metrics, Networks, OffPolicy, OffPolicyState
from comarl.algos.sequences import acted_steps, deciding, learned_steps, masked_mean, per_agent, sequence_returns
from comarl.algos.stochastic import StochasticPolicy
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.nets.agents import AbstractAgent
from comarl.nets.attention_critic import AttentionCritic, share_attention
from comarl.nets.distributions import chosen, entropy, log_probabilities, sample
from comarl.returns import form_team_reward
from comarl.types import TimeStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAAC(OffPolicy):
    """A soft actor-critic of many agents.

    Attributes:
        entropy_temperature: α, what a nat of the policy's entropy is worth.
        attention_penalty: weight of the critics' mean squared attention logits.
    """

    entropy_temperature: float
    attention_penalty: float

    def policy(self, state: OffPolicyState, env_steps: Int[Array, ""] | int) -> StochasticPolicy:
        """Drawn actions: the entropy that is paid for is the exploration."""
        del env_steps
        return StochasticPolicy(state.online.actor)

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
        log_p = log_probabilities(self.outputs(target.actor, batch.trajectory), ts.avail)
        drawn = sample(log_p[1:], key)
        v = chosen(target.critic(after, drawn).q, drawn) - self.entropy_temperature * chosen(log_p[1:], drawn)
        earned = -self.entropy_temperature * chosen(log_p[:-1], action)
        reward = form_team_reward(after.reward, self.team_reward)
        reward = reward.reshape(*reward.shape[:2], -1) + earned
        return sequence_returns(self.returns, reward, self.gamma * after.discount, v, after.last) - earned

    def critic_loss(
        self, critic: AttentionCritic, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, " B"]]]:
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
        self, actor: AbstractAgent, critic: AttentionCritic, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        """Σ_i of the weighted mean of log π_i(a_i) · sg[α log π_i(a_i) - A_i(o, a)], all actions drawn anew.

        Of J_i = E[Q_i(o, a) - α log π_i(a_i)] the gradient in agent i's parameters is E[∇ log π_i(a_i) (Q_i(o, a) -
        α log π_i(a_i))], since what is left, -α E[∇ log π_i(a_i)], is 0. For the same reason anything may be taken off
        that does not depend on a_i: the baseline Σ_a π_i(a) Q_i(o, (a, a_-i)) makes A_i of Q_i.

        Beside it the mean squared logits, and what to report. An agent without a choice, such as a dead one, counts for
        the critics and not for the policies.
        """
        before, _ = acted_steps(batch.trajectory, self.burn_in)
        logits = self.outputs(actor, batch.trajectory)[:-1]
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

    def scaled(self, gradient: AttentionCritic) -> AttentionCritic:
        """With the part of what all critics share divided by their number."""
        return share_attention(gradient)
