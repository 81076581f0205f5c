"""Counterfactual multi-agent policy gradients (COMA, Foerster et al. 2018).

Agents with policies, and one central critic Q that tells each agent what its own action was worth: the value of the
joint action less what the agent's policy would have earned on average, the others' actions held as they were.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Update
from comarl.algos.counterfactual import counterfactual_advantage
from comarl.algos.optimise import gradient_norm, gradient_step
from comarl.algos.sequences import deciding, masked_mean, sequence_returns
from comarl.algos.stochastic import Floored, StochasticPolicy
from comarl.algos.targets import TargetUpdate, next_target
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.nets.agents import Agent
from comarl.nets.critics import CounterfactualCritic
from comarl.nets.distributions import chosen, entropy, log_probabilities, sample, with_floor
from comarl.returns import Returns, TeamReward, form_team_reward
from comarl.types import TimeStep, Trajectory


class Central(NamedTuple):
    """The critic; ``updates`` counts its gradient steps. Without a target network ``target`` is None."""

    online: CounterfactualCritic
    target: CounterfactualCritic | None
    optimiser: optax.OptState
    updates: Int[Array, ""]


class COMAState(NamedTuple):
    """The state of :class:`COMA`; the actor's head gives logits."""

    actor: Agent
    optimiser: optax.OptState
    critic: Central


class Notes(NamedTuple):
    """What held when the transitions were collected, each ``[T, B, N]``.

    Attributes:
        epsilon: ε of the policy.
        target: the λ-returns that values are regressed on.
    """

    epsilon: Float[Array, "T B N"]
    target: Float[Array, "T B N"]


class Steps(NamedTuple):
    """Joint steps as the critic sees them; leading axes ``[T, B]`` or ``[B]``."""

    ts: TimeStep
    last_action: Int[Array, "*batch N"]
    action: Int[Array, "*batch N"]


@dataclasses.dataclass(frozen=True)
class COMA:
    """Policy gradients with a counterfactual baseline, for one reward of the team.

    An update fits the critic first, in one gradient step for each time step from the last to the first, and then moves
    the actor once, by the advantages of the fitted critic (Foerster et al. 2018, appendix, algorithm 1).

    Attributes:
        make_actor: the agents from a key.
        make_critic: the critic from a key.
        actor_optimiser: applied to the policies' gradient.
        critic_optimiser: applied to the critic's.
        epsilon: ε after a number of environment steps.
        returns: λ-returns from rewards and bootstrap values (:func:`comarl.returns.td_lambda`).
        gamma: γ.
        team_reward: how the team's reward is formed from the agents' rewards.
        entropy_weight: weight of an entropy bonus, which the paper does not have.
        target_update: as for :func:`comarl.algos.targets.next_target`; ``none`` has no target network.
        target_interval: counted in updates of the critic.
        target_tau: the share of the critic in a soft update.
    """

    make_actor: Callable[[PRNGKeyArray], Agent]
    make_critic: Callable[[PRNGKeyArray], CounterfactualCritic]
    actor_optimiser: optax.GradientTransformation
    critic_optimiser: optax.GradientTransformation
    epsilon: optax.Schedule
    returns: Returns
    gamma: float = 0.99
    team_reward: TeamReward = "mean"
    entropy_weight: float = 0.0
    target_update: TargetUpdate = "hard"
    target_interval: int = 200
    target_tau: float = 0.01

    def init(self, key: PRNGKeyArray) -> COMAState:
        """Fresh networks; the target is the same critic, not another draw."""
        actor_key, critic_key = jax.random.split(key)
        actor, critic = self.make_actor(actor_key), self.make_critic(critic_key)
        target = None if self.target_update == "none" else jax.tree.map(jnp.copy, critic)
        params: Any = (actor, critic)  # optax's types know no modules
        central = Central(critic, target, self.critic_optimiser.init(params[1]), jnp.zeros((), jnp.int32))
        return COMAState(actor, self.actor_optimiser.init(params[0]), central)

    def policy(self, state: COMAState, env_steps: Int[Array, ""] | int) -> StochasticPolicy:
        """The stochastic policy, whose floor has the ε of that many environment steps."""
        return StochasticPolicy(state.actor, Floored(self._epsilon(env_steps)))

    def schedules(self, env_steps: int) -> dict[str, float]:
        """ε after that many environment steps."""
        return {"epsilon": float(self._epsilon(env_steps))}

    def annotate(
        self, state: COMAState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """The policy's ε, and the critic's targets by its target network.

        G_{t-1} = r_t + γ [(1 - λ) Q_i(s_t, u_t) + λ G_t], with the values of the actions taken. What will be done at
        the last of the ``T + 1`` steps is not known yet: it is drawn from the policy.
        """
        ts, done = trajectory.ts, trajectory.action
        epsilon = jnp.broadcast_to(self._epsilon(env_steps), done.shape)
        logits = state.actor.unroll(trajectory.carry, ts, done)[1].q[-1]
        drawn = sample(with_floor(log_probabilities(logits, ts.avail[-1]), ts.avail[-1], epsilon[-1]), key)
        action = jnp.concatenate([done, drawn[None]])
        critic = state.critic.online if state.critic.target is None else state.critic.target
        v = chosen(critic(ts, _last_actions(trajectory), action), action)
        after: TimeStep = jax.tree.map(lambda x: x[1:], ts)
        reward = form_team_reward(after.reward, self.team_reward)
        target = sequence_returns(self.returns, reward, self.gamma * after.discount, v[1:], after.last)
        return trajectory._replace(notes=Notes(epsilon, target))

    def update(self, state: COMAState, batch: Batch, key: PRNGKeyArray) -> Update:
        """The critic's gradient steps on the sequences of ``batch``, then one of the actor."""
        del key
        steps = _joint_steps(batch.trajectory)
        real = jnp.broadcast_to(~steps.ts.last[..., None], steps.action.shape)
        critic, td_error, critic_norm = self.fit(state.critic, steps, batch.trajectory.notes.target)
        q = critic.online(*steps)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.actor, q, batch.trajectory)
        value_loss = masked_mean(td_error**2, real)
        metrics |= {
            "loss": metrics["loss"] + value_loss,
            "value_loss": value_loss,
            "value": masked_mean(chosen(q, steps.action), real),
            "grad_norm": gradient_norm(gradient),
            "critic_grad_norm": masked_mean(critic_norm, real.any((1, 2))),
        }
        actor, optimiser = gradient_step(self.actor_optimiser, gradient, state.optimiser, state.actor)
        error = sequence_error(jnp.abs(td_error).mean(-1), real[..., 0])
        return Update(COMAState(actor, optimiser, critic), metrics, error)

    def fit(
        self, critic: Central, steps: Steps, target: Float[Array, "T B N"]
    ) -> tuple[Central, Float[Array, "T B N"], Float[Array, " T"]]:
        """One gradient step for each time step, from the last to the first.

        Returns:
            The critic, its errors just before it learned from them, and the norms of its gradients.
        """

        def squared_error(net: CounterfactualCritic, now: Steps, y: Array) -> tuple[Array, Array]:
            error = chosen(net(*now), now.action) - y
            real = jnp.broadcast_to(~now.ts.last[:, None], error.shape)
            return masked_mean(error**2, real), error

        def learn(critic: Central, x: tuple[Steps, Array]) -> tuple[Central, tuple[Array, Array]]:
            gradient, error = jax.grad(squared_error, has_aux=True)(critic.online, *x)
            online, optimiser = gradient_step(self.critic_optimiser, gradient, critic.optimiser, critic.online)
            updates = critic.updates + 1
            target = next_target(
                online, critic.target, updates, self.target_update, self.target_interval, self.target_tau
            )
            # Where all episodes are over there is nothing to learn: an optimiser with momentum would move on.
            nothing = x[0].ts.last.all()
            learned = Central(online, target, optimiser, updates)
            learned = jax.tree.map(lambda new, old: jnp.where(nothing, old, new), learned, critic)
            return learned, (error, gradient_norm(gradient))

        critic, (error, norm) = jax.lax.scan(learn, critic, (steps, target), reverse=True)
        return critic, error, norm

    def loss(
        self, actor: Agent, q: Float[Array, "T B N A"], trajectory: Trajectory
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """-log π(u) A and the entropy bonus, over real transitions of agents that have a choice."""
        ts, _, action = _joint_steps(trajectory)
        logits = actor.unroll(trajectory.carry, ts, action[:-1])[1].q
        log_p = with_floor(log_probabilities(logits, ts.avail), ts.avail, trajectory.notes.epsilon)
        advantage = jax.lax.stop_gradient(counterfactual_advantage(q, log_p, action))
        choice = deciding(ts)
        policy_loss = -masked_mean(chosen(log_p, action) * advantage, choice)
        bonus = masked_mean(entropy(log_p), choice)
        loss = policy_loss - self.entropy_weight * bonus
        spread = masked_mean(jnp.abs(advantage), choice)
        return loss, {"loss": loss, "policy_loss": policy_loss, "entropy": bonus, "advantage": spread}

    def _epsilon(self, env_steps: Int[Array, ""] | int) -> Float[Array, ""]:
        return jnp.asarray(self.epsilon(env_steps), jnp.float32)


def _last_actions(trajectory: Trajectory) -> Int[Array, "T_plus_1 B N"]:
    return jnp.concatenate([trajectory.carry.last_action[None], trajectory.action])


def _joint_steps(trajectory: Trajectory) -> Steps:
    """The ``T`` steps that were acted on."""
    ts: TimeStep = jax.tree.map(lambda x: x[:-1], trajectory.ts)
    return Steps(ts, _last_actions(trajectory)[:-1], trajectory.action)
