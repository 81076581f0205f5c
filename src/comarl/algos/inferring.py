"""MADDPG among agents that do not know each other's policies (Lowe et al. 2017, §4.2).

An agent's target needs what the others would do next. Here it asks its own guesses of their policies, which it fits to
what they were seen to do; its policy and its critic are MADDPG's.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from comarl.algos.maddpg import MADDPG
from comarl.algos.offpolicy import Metrics, Networks
from comarl.algos.sequences import masked_mean, per_agent
from comarl.memory.base import Batch
from comarl.nets.agents import AbstractAgent
from comarl.nets.critics import ActionCritic
from comarl.nets.inferred import InferredPolicies
from comarl.types import TimeStep


class Central(eqx.Module):
    """What training alone has, in the critics' place.

    Attributes:
        values: the critics, one or twins.
        guesses: of the others' policies.
    """

    values: tuple[ActionCritic, ...]
    guesses: InferredPolicies


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferringMADDPG(MADDPG):
    """MADDPG whose ``make_critic`` gives a :class:`Central`; its optimiser is to be one of :func:`apart`.

    The guesses make one step for each step of the critics, at once with it: the targets ask the target guesses, so
    that neither step depends on the other.

    Attributes:
        guess_entropy: λ, weight of the guesses' entropy.
    """

    guess_entropy: float

    def expected(
        self, target: Networks, after: TimeStep, outputs: Float[Array, "T B N A"], key: PRNGKeyArray
    ) -> Float[Array, "critics T B N"]:
        """Q_i'(x', μ̂'_i^1(o_1') … μ_i'(o_i') … μ̂'_i^n(o_n')): what agent i does itself it knows (eq. 8).

        The paper's critics are given the guesses' log-probabilities. Here they have seen nothing but actions, so the
        guesses draw theirs as the target policies do.
        """
        central: Central = target.critic
        own_key, guess_key = jax.random.split(key)
        own = self.actions.target(outputs, after.avail, own_key)
        guesses, avail = central.guesses(after.obs), central.guesses.about(after.avail)
        joint = central.guesses.joint(own, self.actions.target(guesses, avail, guess_key))
        return jnp.stack([critic.believed(after, joint) for critic in central.values])

    def critic_loss(
        self, critic: Any, y: Float[Array, "T B N"], batch: Batch
    ) -> tuple[Float[Array, ""], tuple[Metrics, Float[Array, " B"]]]:
        """MADDPG's, and the guesses', which have no parameter in common."""
        loss, (metrics, error) = super().critic_loss(critic.values, y, batch)
        guess_loss = self.guess_loss(critic.guesses, batch)
        return loss + guess_loss, (metrics | {"guess_loss": guess_loss}, error)

    def guess_loss(self, guesses: InferredPolicies, batch: Batch) -> Float[Array, ""]:
        """The weighted mean of -[log μ̂_i^j(a_j | o_j) + λ H(μ̂_i^j(· | o_j))] over transitions and pairs (eq. 7).

        Both stand with the sign of what is wanted, a likely past and an undecided guess: λ > 0 flattens the guess. Who
        had no choice tells nothing.
        """
        before, done = self._before(batch)
        outputs, avail = guesses(before.obs), guesses.about(before.avail)
        wanted = self.actions.log_likelihood(outputs, avail, guesses.about(done))
        wanted += self.guess_entropy * self.actions.entropy(outputs, avail)
        told = per_agent(~before.last, wanted) & self.actions.undecided(avail)
        return -masked_mean(batch.weight[None, :, None] * wanted, told)

    def actor_loss(
        self, actor: AbstractAgent, critic: Any, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        """MADDPG's; beside it how far the guesses are from the policies."""
        loss, metrics = super().actor_loss(actor, critic.values, batch, key)
        return loss, metrics | {"guess_divergence": self._divergence(actor, critic.guesses, batch)}

    def _divergence(self, actor: AbstractAgent, guesses: InferredPolicies, batch: Batch) -> Float[Array, ""]:
        """The mean of KL(μ_j || μ̂_i^j) over replayed steps and pairs."""
        before, _ = self._before(batch)
        outputs = guesses.about(jax.lax.stop_gradient(self.outputs(actor, batch.trajectory))[:-1])
        avail = guesses.about(before.avail)
        apart = self.actions.divergence(outputs, guesses(before.obs), avail)
        return masked_mean(apart, per_agent(~before.last, apart) & self.actions.undecided(avail))


def apart(optimiser: optax.GradientTransformation) -> optax.GradientTransformation:
    """That optimiser, once for guesses and once for everything else: neither is clipped for the other's gradient."""
    guesses = jax.tree_util.GetAttrKey("guesses")

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: "guesses" if guesses in path else "others", params)

    return optax.partition({"guesses": optimiser, "others": optimiser}, labels)
