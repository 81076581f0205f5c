"""Off-policy actor-critics: MADDPG (Lowe et al. 2017), its baseline DDPG, and twin critics.

Every agent has a policy on its own history and a critic that training alone has. The policy's gradient goes through the
critic, for which the agent's own action is what it would do now, in a form that has a gradient
(:mod:`comarl.algos.relaxed`), while the others' actions are those that were replayed. The methods differ in what the
critics see alone: everything and the joint action (MADDPG), or the agent's own observation and action (DDPG, Lillicrap
et al. 2016).
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
from comarl.algos.optimise import gradient_step
from comarl.algos.relaxed import Relaxed
from comarl.algos.sequences import acted_steps, learned_steps, masked_mean, per_agent, sequence_returns, unroll
from comarl.algos.stochastic import StochasticPolicy
from comarl.algos.targets import TargetUpdate, next_target
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.nets.agents import Agent
from comarl.nets.critics import ActionCritic
from comarl.returns import Returns, TeamReward, form_team_reward
from comarl.types import TimeStep, Trajectory, action_features

Critics = tuple[ActionCritic, ...]
"""One, or two independent ones."""


class Networks(eqx.Module):
    """Everything that is learned and copied to the targets; the agent's head gives what its action is made of."""

    actor: Agent
    critics: Critics


class Optimisers(NamedTuple):
    """A state each, for the policies follow critics that have already moved."""

    actor: optax.OptState
    critics: optax.OptState


class MADDPGState(NamedTuple):
    """The state of :class:`MADDPG`; ``updates`` counts them.

    Without target networks ``target`` is None and the online ones stand in for them.
    """

    online: Networks
    target: Networks | None
    optimisers: Optimisers
    updates: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class MADDPG:
    """Policies that climb their critics.

    Attributes:
        make_actor: the agents from a key.
        make_critic: all agents' critics from a key.
        optimiser: applied to the gradient of the critics, and apart from it to that of the actors.
        returns: targets from rewards and bootstrap values; one-step ones in the paper.
        actions: what is done, what target policies do, and what the policies' gradient goes through.
        gamma: γ.
        team_reward: how the learned reward is formed from the agents' rewards; ``individual`` in the paper.
        twin: two critics of each agent, whose lesser value makes the targets (Fujimoto et al. 2018; MATD3, Ackermann
            et al. 2019).
        logit_weight: weight of the mean square of the policies' outputs.
        stored_state: whether a sequence begins with the agents' memory as it was when it was collected.
        burn_in: steps at the start of a sequence that only warm the agents' memory up.
        target_update: as in :func:`comarl.algos.targets.next_target`; ``none`` has no target networks.
        target_interval: counted in updates.
        target_tau: the share of the online network in a soft update.
    """

    make_actor: Callable[[PRNGKeyArray], Agent]
    make_critic: Callable[[PRNGKeyArray], ActionCritic]
    optimiser: optax.GradientTransformation
    returns: Returns
    actions: Relaxed
    gamma: float = 0.95
    team_reward: TeamReward = "individual"
    twin: bool = False
    logit_weight: float = 1e-3
    stored_state: bool = True
    burn_in: int = 0
    target_update: TargetUpdate = "soft"
    target_interval: int = 200
    target_tau: float = 0.01

    def init(self, key: PRNGKeyArray) -> MADDPGState:
        """Fresh networks; the targets are the same networks, not another draw."""
        actor_key, *critic_keys = jax.random.split(key, 3)
        actor: Any = self.make_actor(actor_key)  # optax's types know no modules
        critics: Any = tuple(self.make_critic(k) for k in critic_keys[: 1 + self.twin])
        online = Networks(actor, critics)
        target = None if self.target_update == "none" else jax.tree.map(jnp.copy, online)
        optimisers = Optimisers(self.optimiser.init(actor), self.optimiser.init(critics))
        return MADDPGState(online, target, optimisers, jnp.zeros((), jnp.int32))

    def policy(self, state: MADDPGState, env_steps: Int[Array, ""] | int) -> StochasticPolicy:
        """Draws, or noisy vectors; it does not depend on the steps."""
        del env_steps
        return StochasticPolicy(state.online.actor, self.actions)

    def schedules(self, env_steps: int) -> dict[str, float]:
        """Nothing depends on the steps alone."""
        del env_steps
        return {}

    def annotate(
        self, state: MADDPGState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """Nothing to note: targets are made anew in every update."""
        del state, env_steps, key
        return trajectory

    def update(self, state: MADDPGState, batch: Batch, key: PRNGKeyArray) -> Update:
        """A step of the critics, then one of the actors against the critics as they are now."""
        target_key, actor_key = jax.random.split(key)
        actor, critics = state.online.actor, state.online.critics
        y = self.targets(state.online if state.target is None else state.target, batch, target_key)
        by_critics, (values, error) = jax.grad(self.critic_loss, has_aux=True)(critics, y, batch)
        critics, critic_state = gradient_step(self.optimiser, by_critics, state.optimisers.critics, critics)
        by_actor, policies = jax.grad(self.actor_loss, has_aux=True)(actor, critics, batch, actor_key)
        actor, actor_state = gradient_step(self.optimiser, by_actor, state.optimisers.actor, actor)
        online, updates = Networks(actor, critics), state.updates + 1
        target = next_target(online, state.target, updates, self.target_update, self.target_interval, self.target_tau)
        metrics = {
            "loss": values["critic_loss"] + policies["policy_loss"],
            **values,
            **policies,
            "grad_norm": optax.tree.norm((by_critics, by_actor)),
        }
        return Update(MADDPGState(online, target, Optimisers(actor_state, critic_state), updates), metrics, error)

    def targets(self, target: Networks, batch: Batch, key: PRNGKeyArray) -> Float[Array, "T B N"]:
        """y_i = r_i + γ Q_i'(x', u'), every u'_j by agent j's target policy (Lowe et al. 2017, eq. 6)."""
        ts, _ = learned_steps(batch.trajectory, self.burn_in)
        after: TimeStep = jax.tree.map(lambda x: x[1:], ts)
        # Memories run from the first step on, as when the sequence was collected.
        outputs = self._outputs(target.actor, batch.trajectory)[1:]
        v = _values(target.critics, after, self.actions.target(outputs, after.avail, key)).min(0)
        reward = form_team_reward(after.reward, self.team_reward)
        return sequence_returns(self.returns, reward, self.gamma * after.discount, v, after.last)

    def critic_loss(
        self, critics: Critics, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Float[Array, " B"]]]:
        """The weighted mean of (Q_i(x, u) - y_i)² over real transitions and agents, summed over twins.

        Beside it what to report, and the errors of the sequences.
        """
        before, done = self._before(batch)
        q = _values(critics, before, done)
        real = per_agent(~before.last, y)
        loss = masked_mean(batch.weight[None, :, None] * ((q - y[None]) ** 2).sum(0), real)
        error = jnp.abs(q[0] - y)
        metrics = {"critic_loss": loss, "td_error": masked_mean(error, real), "q": masked_mean(q[0], real)}
        return loss, (metrics, sequence_error(error.mean(-1), ~before.last))

    def actor_loss(
        self, actor: Agent, critics: Critics, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The weighted mean of -Q_i(x, u), agent i's own action as its policy is now (Lowe et al. 2017, eq. 5).

        Beside it the mean squared outputs, and what to report. An agent without a choice, such as a dead one, counts
        for the critics and not for the policies.
        """
        before, done = self._before(batch)
        outputs = self._outputs(actor, batch.trajectory)[:-1]
        value = critics[0](before, done, self.actions.soft(outputs, before.avail, key))
        choice = per_agent(~before.last, value) & self.actions.undecided(before.avail)
        policy_loss = -masked_mean(batch.weight[None, :, None] * value, choice)
        squares = masked_mean(outputs**2, before.avail & choice[..., None])
        sureness = self.actions.report(outputs, before.avail)
        metrics = {"policy_loss": policy_loss, **{k: masked_mean(x, choice) for k, x in sureness.items()}}
        return policy_loss + self.logit_weight * squares, metrics

    def _outputs(self, actor: Agent, trajectory: Trajectory) -> Float[Array, "T_plus_1 B N A"]:
        return unroll(actor, trajectory, stored_state=self.stored_state, burn_in=self.burn_in).q

    def _before(self, batch: Batch) -> tuple[TimeStep, Float[Array, "T B N A"]]:
        """The steps acted on, and what was done there, as critics see it."""
        before, action = acted_steps(batch.trajectory, self.burn_in)
        return before, action_features(action, before.avail.shape[-1])


def _values(critics: Critics, ts: TimeStep, action: Float[Array, "T B N A"]) -> Float[Array, "critics T B N"]:
    return jnp.stack([critic(ts, action) for critic in critics])
