"""The protocol of a mixer: how the team's value is made of the agents' utilities.

A mixer sees one joint step, without time or batch axes; the learner maps it.
"""

import abc
from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
        return jnp.where(self.taken, self.q, 0.0).sum(-1)

    @property
    def taken(self) -> Bool[Array, "N A"]:
        """Which of its actions each agent takes, one-hot."""
        return self.action[:, None] == jnp.arange(self.q.shape[-1])[None]

    @property
    def best(self) -> Float[Array, " N"]:
        """The utility of each agent's greedy action, V_i(τ_i) = max Q_i(τ_i, ·)."""
        return self.q.max(-1)

    @property
    def greedy(self) -> Int[Array, " N"]:
        """Each agent's greedy action ū_i; the lowest index wins ties."""
        return jnp.argmax(self.q, axis=-1).astype(jnp.int32)


def mask_unavailable(q: Float[Array, "*batch N A"], ts: TimeStep) -> Float[Array, "*batch N A"]:
    """Utilities with ``MASKED`` where an action is not available."""
    return jnp.where(ts.avail, q, MASKED)


def squared_error(q_tot: Float[Array, "*agents"], y: Float[Array, "*agents"]) -> tuple[Float[Array, ""], Metrics]:
    """The mean of (Q_tot - sg y)², and what to report of it."""
    error = q_tot - jax.lax.stop_gradient(y)
    return jnp.mean(error**2), {"q_tot": jnp.mean(q_tot), "td_error": jnp.mean(jnp.abs(error))}


class AbstractMixer(eqx.Module):
    """What the learner asks of a mixer."""

    @abc.abstractmethod
    def __call__(self, joint: Joint) -> Float[Array, "*agents"]:
        """Q_tot(τ, u) of ``joint.action``, shape ``[]``; or one value per agent ``[N]``."""

    @abc.abstractmethod
    def bootstrap(self, joint: Joint) -> Float[Array, "*agents"]:
        """The value of the greedy ``joint.action`` for the target; shape ``[]`` for a team, ``[N]`` per agent.

        Called on the *target* mixer with the target agents' utilities.
        """

    @abc.abstractmethod
    def loss(self, joint: Joint, y: Float[Array, "*agents"]) -> tuple[Float[Array, ""], Metrics]:
        """The loss of one step against the target ``y`` (a constant), and what to report.

        The metric ``td_error``, the absolute difference to ``y``, is what prioritised replay goes by.
        """


class FactoredMixer(AbstractMixer):
    """A mixer that is fully described by Q_tot of the joint action: VDN to QPLEX implement ``__call__`` alone."""

    def bootstrap(self, joint: Joint) -> Float[Array, "*agents"]:
        return self(joint)

    def loss(self, joint: Joint, y: Float[Array, "*agents"]) -> tuple[Float[Array, ""], Metrics]:
        return squared_error(self(joint), y)


class CentralMixer(AbstractMixer):
    """A mixer that learns an unrestricted value of the team beside Q_tot: QTRAN's Q_jt, weighted QMIX's Q̂*.

    The targets are made of the unrestricted value; Q_tot follows it as far as its own class allows.
    """

    @abc.abstractmethod
    def central(self, joint: Joint) -> Float[Array, ""]:
        """The unrestricted value of ``joint.action``."""

    def bootstrap(self, joint: Joint) -> Float[Array, ""]:
        return self.central(joint)


@runtime_checkable
class Attentive(Protocol):
    """A mixer that weighs the agents, and can show how."""

    def attention(self, joint: Joint) -> Float[Array, "heads N"]:
        """What each head, or kernel, gives each agent."""
        ...
