"""The protocol of a mixer: how the team's value is made of the agents' utilities.

A mixer sees one joint step, without time or batch axes; the learner maps it.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from comarl.types import TimeStep

MASKED = -1e9
"""Stands in for the utility of an action that is not available: below any value, yet finite."""

Metrics = dict[str, Float[Array, ""]]


class Joint(NamedTuple):
    """One joint step as a mixer sees it.

    Attributes:
        q: utilities ``[N, A]``, ``MASKED`` where an action is not available.
        action: the joint action whose value is asked for, ``[N]``.
        hidden: the agents' hidden states ``[N, H]``.
        ts: what was perceived at this step; ``ts.state`` is the global state.
    """

    q: Float[Array, "N A"]
    action: Int[Array, " N"]
    hidden: Float[Array, "N H"]
    ts: TimeStep

    @property
    def chosen(self) -> Float[Array, " N"]:
        """The utility of each agent's action, Q_i(τ_i, u_i)."""
        # A comparison and a sum run faster than a gather, whose gradient is a scatter.
        taken = self.action[:, None] == jnp.arange(self.q.shape[-1])[None]
        return jnp.where(taken, self.q, 0.0).sum(-1)


def mask_unavailable(q: Float[Array, "*batch N A"], ts: TimeStep) -> Float[Array, "*batch N A"]:
    """Utilities with ``MASKED`` where an action is not available."""
    return jnp.where(ts.avail, q, MASKED)


class AbstractMixer(eqx.Module):
    """What the learner asks of a mixer."""

    @abc.abstractmethod
    def bootstrap(self, joint: Joint) -> Float[Array, "*agents"]:
        """The value of the greedy ``joint.action`` for the target; shape ``[]`` for a team, ``[N]`` per agent.

        Called on the *target* mixer with the target agents' utilities.
        """

    @abc.abstractmethod
    def loss(self, joint: Joint, y: Float[Array, "*agents"]) -> tuple[Float[Array, ""], Metrics]:
        """The loss of one step against the target ``y`` (a constant), and what to report."""


class FactoredMixer(AbstractMixer):
    """A mixer that is fully described by Q_tot of the joint action: VDN to QPLEX implement ``__call__`` alone."""

    @abc.abstractmethod
    def __call__(self, joint: Joint) -> Float[Array, "*agents"]:
        """Q_tot(τ, u) of ``joint.action``, shape ``[]``; or one value per agent ``[N]``."""

    def bootstrap(self, joint: Joint) -> Float[Array, "*agents"]:
        return self(joint)

    def loss(self, joint: Joint, y: Float[Array, "*agents"]) -> tuple[Float[Array, ""], Metrics]:
        q_tot = self(joint)
        error = q_tot - jax.lax.stop_gradient(y)
        return jnp.mean(error**2), {"q_tot": jnp.mean(q_tot), "td_error": jnp.mean(jnp.abs(error))}
