"""Off-policy actor-critics: MADDPG (Lowe et al. 2017), its baseline DDPG, twin critics, and FACMAC.

Every agent has a policy on its own history and a critic that training alone has. The policy's gradient goes through the
critic, for which the agent's own action is what it would do now, in a form that has a gradient
(:mod:`comarl.algos.relaxed`), while the others' actions are those that were replayed. The methods differ in what the
critics see alone: everything and the joint action (MADDPG), the agent's own observation and action (DDPG, Lillicrap
et al. 2016), or this and then a mixer over all of them (FACMAC, Peng et al. 2021).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.offpolicy import Metrics, Networks, OffPolicy, OffPolicyState
from comarl.algos.relaxed import Relaxed
from comarl.algos.sequences import acted_steps, learned_steps, masked_mean, per_agent, sequence_returns
from comarl.algos.stochastic import StochasticPolicy
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.mixers.critic import FactoredCritic
from comarl.nets.agents import AbstractAgent
from comarl.nets.critics import ActionCritic
from comarl.returns import form_team_reward
from comarl.types import TimeStep, action_features

AgentCritic = ActionCritic | FactoredCritic
"""What has the agents' values of a joint action, and of one in which agents do something else of their own."""

Critics = tuple[AgentCritic, ...]
"""One, or two whose lesser value makes the targets (Fujimoto et al. 2018; MATD3, Ackermann et al. 2019)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MADDPG(OffPolicy):
    """Policies that climb their critics.

    Attributes:
        actions: what is done, what target policies do, and what the policies' gradient goes through.
    """

    actions: Relaxed

    def policy(self, state: OffPolicyState, env_steps: Int[Array, ""] | int) -> StochasticPolicy:
        """Draws, or noisy vectors; it does not depend on the steps."""
        del env_steps
        return StochasticPolicy(state.online.actor, self.actions)

    def targets(self, target: Networks, batch: Batch, key: PRNGKeyArray) -> Float[Array, "T B N"]:
        """y_i = r_i + γ Q_i'(x', u'), every u'_j by agent j's target policy (Lowe et al. 2017, eq. 6)."""
        ts, _ = learned_steps(batch.trajectory, self.burn_in)
        after: TimeStep = jax.tree.map(lambda x: x[1:], ts)
        # Memories run from the first step on, as when the sequence was collected.
        outputs = self.outputs(target.actor, batch.trajectory)[1:]
        v = self.expected(target, after, outputs, key).min(0)
        reward = form_team_reward(after.reward, self.team_reward)
        return sequence_returns(self.returns, reward, self.gamma * after.discount, v, after.last)

    def expected(
        self, target: Networks, after: TimeStep, outputs: Float[Array, "T B N A"], key: PRNGKeyArray
    ) -> Float[Array, "critics T B N"]:
        """What the target critics say of what the target policies, whose outputs these are, would do."""
        return _values(target.critic, after, self.actions.target(outputs, after.avail, key))

    def critic_loss(
        self, critic: Critics, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, " B"]]]:
        """The weighted mean of (Q_i(x, u) - y_i)² over real transitions and agents, summed over twins.

        Beside it what to report, and the errors of the sequences.
        """
        before, done = self._before(batch)
        q = _values(critic, before, done)
        real = per_agent(~before.last, y)
        loss = masked_mean(batch.weight[None, :, None] * ((q - y[None]) ** 2).sum(0), real)
        error = jnp.abs(q[0] - y)
        metrics = {"critic_loss": loss, "td_error": masked_mean(error, real), "q": masked_mean(q[0], real)}
        return loss, (metrics, sequence_error(error.mean(-1), ~before.last))

    def actor_loss(
        self, actor: AbstractAgent, critic: Critics, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        """The weighted mean of -Q_i(x, u), agent i's own action as its policy is now (Lowe et al. 2017, eq. 5).

        Beside it the mean squared outputs, and what to report. An agent without a choice, such as a dead one, counts
        for the critics and not for the policies.
        """
        before, done = self._before(batch)
        outputs = self.outputs(actor, batch.trajectory)[:-1]
        value = critic[0](before, done, self.actions.soft(outputs, before.avail, key))
        choice = per_agent(~before.last, value) & self.actions.undecided(before.avail)
        policy_loss = -masked_mean(batch.weight[None, :, None] * value, choice)
        squares = masked_mean(outputs**2, before.avail & choice[..., None])
        sureness = self.actions.report(outputs, before.avail)
        metrics = {"policy_loss": policy_loss, **{k: masked_mean(x, choice) for k, x in sureness.items()}}
        return policy_loss + self.logit_weight * squares, metrics

    def _before(self, batch: Batch) -> tuple[TimeStep, Float[Array, "T B N A"]]:
        """The steps acted on, and what was done there, as critics see it."""
        before, action = acted_steps(batch.trajectory, self.burn_in)
        return before, action_features(action, before.avail.shape[-1])


def _values(critics: Critics, ts: TimeStep, action: Float[Array, "T B N A"]) -> Float[Array, "critics T B N"]:
    return jnp.stack([critic(ts, action) for critic in critics])
