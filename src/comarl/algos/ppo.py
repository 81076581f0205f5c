"""Policy gradients with a critic: IPPO, MAPPO and, as their one-epoch case, independent and multi-agent A2C.

The methods differ in what the critic sees alone: the agent's own observation (IPPO, de Witt et al. 2020) or the
global state (MAPPO, Yu et al. 2022). Actions are drawn from a softmax or, where they are vectors, from Gaussians. The
first update after a collection has the ratio 1 everywhere, and its gradient is that of A2C (Mnih et al. 2016); PPO
makes several (Schulman et al. 2017).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.algos.base import Update
from comarl.algos.optimise import gradient_norm, gradient_step
from comarl.algos.sequences import masked_mean, sequence_returns
from comarl.algos.stochastic import Draws, StochasticPolicy
from comarl.algos.value_scale import ValueScale
from comarl.memory.base import Batch
from comarl.memory.replay import sequence_error
from comarl.nets.agents import Agent, AgentCarry
from comarl.nets.critics import Critic
from comarl.nets.distributions import Categorical, Distribution
from comarl.returns import Returns, TeamReward, form_team_reward
from comarl.types import Action, TimeStep, Trajectory


class ActorCritic(eqx.Module):
    """Everything that is learned; the agent's head gives what a distribution is made of."""

    actor: Agent
    critic: Critic


class PPOState(NamedTuple):
    """The state of :class:`PPO`."""

    networks: ActorCritic
    optimiser: optax.OptState
    scale: ValueScale


class PPOCarry(NamedTuple):
    """The carry of :class:`PPOPolicy`.

    Attributes:
        actor: the agents'.
        critic: the critic's memory; it moves on while exploring, for training alone.
    """

    actor: AgentCarry
    critic: Any


class PPOPolicy(eqx.Module):
    """Draws actions from the agents' distributions; without exploration takes the most probable ones."""

    networks: ActorCritic
    draws: Draws = Draws()

    def initial_carry(self) -> PPOCarry:
        """The carry before an episode."""
        return PPOCarry(self.networks.actor.initial_carry(), self.networks.critic.initial_memory())

    def act(self, carry: PPOCarry, ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[PPOCarry, Action]:
        """The next carry and the actions; the state is looked at only to explore, by the critic's memory."""
        actor, action = StochasticPolicy(self.networks.actor, self.draws).act(carry.actor, ts, key, explore)
        critic = self.networks.critic(carry.critic, ts)[0] if explore else carry.critic
        return PPOCarry(actor, critic), action


class Notes(NamedTuple):
    """What held when the transitions were collected, each ``[T, B, N]``.

    Attributes:
        log_p: log-probabilities of the actions taken.
        value: the critic's values, in units of the reward.
        advantage: generalised advantage estimates.
        target: the λ-returns that values are regressed on.
    """

    log_p: Float[Array, "T B N"]
    value: Float[Array, "T B N"]
    advantage: Float[Array, "T B N"]
    target: Float[Array, "T B N"]


@dataclasses.dataclass(frozen=True)
class PPO:
    """Clipped policy gradients of a team whose agents act alone.

    Attributes:
        make_actor: the agents from a key.
        make_critic: the critic from a key.
        optimiser: applied to the gradient of both together.
        distribution: of actions, from what the agent's head gives and what is available.
        returns: λ-returns from rewards and bootstrap values (:func:`comarl.returns.td_lambda`); a generalised
            advantage (Schulman et al. 2016) is the λ-return less the value.
        gamma: γ.
        team_reward: how the learned reward is formed from the agents' rewards.
        clip: probability ratios count no further than 1 ± this.
        value_clip: values count no further from the old ones than this, in units of the values' spread; 0: no limit.
        entropy_weight: weight of the entropy bonus.
        value_weight: weight of the squared error of the values.
        value_norm: whether the critic is regressed on targets of mean 0 and variance 1.
    """

    make_actor: Callable[[PRNGKeyArray], Agent]
    make_critic: Callable[[PRNGKeyArray], Critic]
    optimiser: optax.GradientTransformation
    returns: Returns
    distribution: Callable[[Array, Array], Distribution] = Categorical.of
    gamma: float = 0.99
    team_reward: TeamReward = "mean"
    clip: float = 0.2
    value_clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    value_norm: bool = True

    def init(self, key: PRNGKeyArray) -> PPOState:
        """Fresh networks."""
        actor_key, critic_key = jax.random.split(key)
        networks = ActorCritic(self.make_actor(actor_key), self.make_critic(critic_key))
        params: Any = networks  # optax's types know no modules
        return PPOState(networks, self.optimiser.init(params), ValueScale.fresh(networks.actor.num_agents))

    def policy(self, state: PPOState, env_steps: Int[Array, ""] | int) -> PPOPolicy:
        """The stochastic policy; it does not depend on the steps."""
        del env_steps
        return PPOPolicy(state.networks, Draws(self.distribution))

    def schedules(self, env_steps: int) -> dict[str, float]:
        """Nothing depends on the steps alone."""
        del env_steps
        return {}

    def annotate(
        self, state: PPOState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """Old log-probabilities and values, advantages and targets, by the parameters that collected."""
        del env_steps, key
        pi, value = self._unroll(state.networks, trajectory)
        v = self._scale(state).restore(value)
        after: TimeStep = jax.tree.map(lambda x: x[1:], trajectory.ts)
        reward = form_team_reward(after.reward, self.team_reward)
        target = sequence_returns(self.returns, reward, self.gamma * after.discount, v[1:], after.last)
        notes = Notes(pi.log_prob(trajectory.action), v[:-1], target - v[:-1], target)
        return trajectory._replace(notes=jax.lax.stop_gradient(notes))

    def update(self, state: PPOState, batch: Batch, key: PRNGKeyArray) -> Update:
        """One gradient step on the sequences of ``batch``."""
        del key
        notes: Notes = batch.trajectory.notes
        real = ~batch.trajectory.ts.last[:-1]
        # The scale moves first: the loss is in units that know the newest targets (Yu et al. 2022, appendix).
        state = state._replace(scale=state.scale.update(notes.target, real))
        gradient, (metrics, error) = jax.grad(self.loss, has_aux=True)(
            state.networks, self._scale(state), batch.trajectory
        )
        metrics["grad_norm"] = gradient_norm(gradient)
        networks, optimiser = gradient_step(self.optimiser, gradient, state.optimiser, state.networks)
        return Update(PPOState(networks, optimiser, state.scale), metrics, error)

    def loss(
        self, networks: ActorCritic, scale: ValueScale, trajectory: Trajectory
    ) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Float[Array, " B"]]]:
        """The clipped surrogate, the values' error and the entropy bonus, over real transitions.

        An agent without a choice, such as a dead one, counts for the critic and not for the policy.
        """
        notes: Notes = trajectory.notes
        pi, value = self._unroll(networks, trajectory)
        real = jnp.broadcast_to(~trajectory.ts.last[:-1, :, None], notes.value.shape)
        deciding = real & pi.undecided
        ratio = jnp.exp(pi.log_prob(trajectory.action) - notes.log_p)
        policy_loss = -masked_mean(surrogate(ratio, _standardised(notes.advantage, deciding), self.clip), deciding)
        y, old = scale.normalise(notes.target), scale.normalise(notes.value)
        value_loss = masked_mean(squared_error(value[:-1], y, old, self.value_clip), real)
        bonus = masked_mean(pi.entropy(), deciding)
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * bonus
        metrics = {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": bonus,
            "approx_kl": masked_mean(ratio - 1 - jnp.log(ratio), deciding),
            "clip_fraction": masked_mean((jnp.abs(ratio - 1) > self.clip).astype(jnp.float32), deciding),
            "value": masked_mean(notes.value, real),
        }
        return loss, (metrics, sequence_error(jnp.abs(value[:-1] - y).mean(-1), real[..., 0]))

    def _unroll(
        self, networks: ActorCritic, trajectory: Trajectory
    ) -> tuple[Distribution, Float[Array, "T_plus_1 B N"]]:
        """Policies at the ``T`` steps acted on and values at all ``T + 1``, from the carry as it was collected."""
        ts, action, carry = trajectory.ts, trajectory.action, trajectory.carry
        before: TimeStep = jax.tree.map(lambda x: x[:-1], ts)
        outputs = networks.actor.unroll(carry.actor, before, action[:-1])[1].q
        return self.distribution(outputs, before.avail), networks.critic.unroll(carry.critic, ts)[1]

    def _scale(self, state: PPOState) -> ValueScale:
        return state.scale if self.value_norm else ValueScale.fresh(state.networks.actor.num_agents)


def surrogate(ratio: Float[Array, "*batch"], advantage: Float[Array, "*batch"], clip: float) -> Float[Array, "*batch"]:
    """min(ρ A, clip(ρ, 1 ± ε) A) (Schulman et al. 2017, eq. 7).

    >>> surrogate(jnp.array([1.5, 1.5, 0.5]), jnp.array([1.0, -1.0, -1.0]), 0.2)
    Array([ 1.2, -1.5, -0.8], dtype=float32)
    """
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def squared_error(
    value: Float[Array, "*batch"], target: Float[Array, "*batch"], old: Float[Array, "*batch"], clip: float
) -> Float[Array, "*batch"]:
    """The larger of the squared errors of the value and of the value held within ``clip`` of the old one; 0: no clip.

    The larger, so that clipping never rewards a value for moving away (Yu et al. 2022, appendix C).
    """
    error = (value - target) ** 2
    if not clip:
        return error
    near = old + jnp.clip(value - old, -clip, clip)
    return jnp.maximum(error, (near - target) ** 2)


def _standardised(x: Float[Array, "T B N"], mask: Bool[Array, "T B N"]) -> Float[Array, "T B N"]:
    """Mean 0 and variance 1 where ``mask`` holds."""
    centred = x - masked_mean(x, mask)
    return centred * jax.lax.rsqrt(masked_mean(centred**2, mask) + 1e-8)
