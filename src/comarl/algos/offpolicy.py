"""What actor-critics that learn from replayed sequences have in common: MADDPG and its kin, and MAAC.

Every agent has a policy on its own history and a critic that training alone has. In an update the critics make a step
towards targets that the target networks give, and then the policies make one along the critics as they are now.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.algos.base import Policy, Update
from comarl.algos.optimise import gradient_norm, gradient_step
from comarl.algos.sequences import unroll
from comarl.algos.targets import TargetUpdate, next_target
from comarl.memory.base import Batch
from comarl.nets.agents import AbstractAgent
from comarl.returns import Returns, TeamReward
from comarl.types import Trajectory

Metrics = dict[str, Float[Array, ""]]


class Networks(eqx.Module):
    """Everything that is learned and copied to the targets.

    Attributes:
        actor: the agents; their heads give what actions are made of.
        critic: whatever the critics are made of.
    """

    actor: AbstractAgent
    critic: Any


class Optimisers(NamedTuple):
    """A state each, for the policies follow critics that have already moved."""

    actor: optax.OptState
    critic: optax.OptState


class OffPolicyState(NamedTuple):
    """The state of :class:`OffPolicy`; ``updates`` counts them.

    Without target networks ``target`` is None and the online ones stand in for them.
    """

    online: Networks
    target: Networks | None
    optimisers: Optimisers
    updates: Int[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicy(abc.ABC):
    """Policies that follow critics, off-policy.

    Attributes:
        make_actor: the agents from a key.
        make_critic: the critics of all agents from a key.
        optimiser: applied to the gradient of the critics, and apart from it to that of the actors.
        returns: targets from rewards and bootstrap values; one-step ones in the papers.
        gamma: γ.
        team_reward: how the learned reward is formed from the agents' rewards; ``individual`` in the papers.
        logit_weight: weight of the mean square of the policies' outputs.
        stored_state: whether a sequence begins with the agents' memory as it was when it was collected.
        burn_in: steps at the start of a sequence that only warm the agents' memory up.
        target_update: as in :func:`comarl.algos.targets.next_target`; ``none`` has no target networks.
        target_interval: counted in updates.
        target_tau: the share of the online network in a soft update.
    """

    make_actor: Callable[[PRNGKeyArray], AbstractAgent]
    make_critic: Callable[[PRNGKeyArray], Any]
    optimiser: optax.GradientTransformation
    returns: Returns
    gamma: float
    team_reward: TeamReward
    logit_weight: float
    stored_state: bool
    burn_in: int
    target_update: TargetUpdate
    target_interval: int
    target_tau: float

    def init(self, key: PRNGKeyArray) -> OffPolicyState:
        """Fresh networks; the targets are the same networks, not another draw."""
        actor_key, critic_key = jax.random.split(key)
        actor: Any = self.make_actor(actor_key)  # optax's types know no modules
        critic = self.make_critic(critic_key)
        online = Networks(actor, critic)
        target = None if self.target_update == "none" else jax.tree.map(jnp.copy, online)
        optimisers = Optimisers(self.optimiser.init(actor), self.optimiser.init(critic))
        return OffPolicyState(online, target, optimisers, jnp.zeros((), jnp.int32))

    @abc.abstractmethod
    def policy(self, state: OffPolicyState, env_steps: Int[Array, ""] | int) -> Policy:
        """How the team explores, and acts when it is judged."""

    def schedules(self, env_steps: int) -> dict[str, float]:
        """Nothing depends on the steps alone."""
        del env_steps
        return {}

    def annotate(
        self, state: OffPolicyState, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Trajectory:
        """Nothing to note: targets are made anew in every update."""
        del state, env_steps, key
        return trajectory

    def update(self, state: OffPolicyState, batch: Batch, key: PRNGKeyArray) -> Update:
        """A step of the critics, then one of the actors against the critics as they are now."""
        target_key, actor_key = jax.random.split(key)
        actor, critic = state.online.actor, state.online.critic
        y = self.targets(state.online if state.target is None else state.target, batch, target_key)
        by_critic, (values, error) = jax.grad(self.critic_loss, has_aux=True)(critic, y, batch)
        by_critic = self.scaled(by_critic)
        critic, critic_state = gradient_step(self.optimiser, by_critic, state.optimisers.critic, critic)
        by_actor, policies = jax.grad(self.actor_loss, has_aux=True)(actor, critic, batch, actor_key)
        actor, actor_state = gradient_step(self.optimiser, by_actor, state.optimisers.actor, actor)
        online, updates = Networks(actor, critic), state.updates + 1
        target = next_target(online, state.target, updates, self.target_update, self.target_interval, self.target_tau)
        metrics = {
            "loss": values["critic_loss"] + policies["policy_loss"],
            **values,
            **policies,
            "grad_norm": gradient_norm((by_critic, by_actor)),
        }
        return Update(OffPolicyState(online, target, Optimisers(actor_state, critic_state), updates), metrics, error)

    @abc.abstractmethod
    def targets(self, target: Networks, batch: Batch, key: PRNGKeyArray) -> Float[Array, "T B N"]:
        """What the agents' values of the replayed transitions should be."""

    @abc.abstractmethod
    def critic_loss(
        self, critic: Any, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, " B"]]]:
        """How far the critics are from ``y``; beside it what to report, and the errors of the sequences."""

    @abc.abstractmethod
    def actor_loss(
        self, actor: AbstractAgent, critic: Any, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        """What the policies lessen, and what to report of it."""

    def scaled(self, gradient: Any) -> Any:
        """The critics' gradient as the optimiser gets it."""
        return gradient

    def outputs(self, actor: AbstractAgent, trajectory: Trajectory) -> Float[Array, "T_plus_1 B N A"]:
        """What the agents' heads give after the burn-in."""
        return unroll(actor, trajectory, stored_state=self.stored_state, burn_in=self.burn_in).q
