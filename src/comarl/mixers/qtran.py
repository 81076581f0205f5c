"""QTRAN (Son et al. 2019): a joint value without restriction, and utilities whose sum is tied to it.

Q' = Σ_i Q_i(u_i) + V(s) must equal Q_jt at the greedy joint action ū and be no less anywhere else; then ū is Q_jt's
best joint action too.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from comarl.mixers.base import CentralMixer, Joint, Metrics, squared_error
from comarl.nets.critics import JointValue
from comarl.nets.layers import MLP


class AbstractQTRAN(CentralMixer):
    """What both forms share: Q_jt learns from the target, Q' from Q_jt as a constant.

    Attributes:
        joint_value: Q_jt.
        state_value: V, or None for V = 0 (no difference is left to it where everything is observed).
        opt_weight: weight of the loss at the greedy joint action.
        nopt_weight: weight of the loss elsewhere.
    """

    joint_value: eqx.AbstractVar[JointValue]
    state_value: eqx.AbstractVar[MLP | None]
    opt_weight: eqx.AbstractVar[float]
    nopt_weight: eqx.AbstractVar[float]

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        return joint.chosen.sum() + self._v(joint)

    def central(self, joint: Joint) -> Float[Array, ""]:
        return self.joint_value(joint.ts.state, joint.hidden, joint.action)

    def loss(self, joint: Joint, y: Float[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        td, metrics = squared_error(self.central(joint), y)
        greedy = joint._replace(action=joint.greedy)
        opt = (self(greedy) - jax.lax.stop_gradient(self.central(greedy))) ** 2
        nopt = self._elsewhere(joint)
        metrics |= {"opt_loss": opt, "nopt_loss": nopt}
        return td + self.opt_weight * opt + self.nopt_weight * nopt, metrics

    @abc.abstractmethod
    def _elsewhere(self, joint: Joint) -> Float[Array, ""]:
        """The loss of Q' where it is less than Q_jt."""

    def _v(self, joint: Joint) -> Float[Array, ""]:
        return jnp.zeros(()) if self.state_value is None else self.state_value(joint.ts.state)[0]


class QTRANBase(AbstractQTRAN):
    """QTRAN-base: L_nopt = min(Q'(u) - Q_jt(u), 0)²."""

    joint_value: JointValue
    state_value: MLP | None
    opt_weight: float = eqx.field(static=True)
    nopt_weight: float = eqx.field(static=True)

    def _elsewhere(self, joint: Joint) -> Float[Array, ""]:
        return jnp.minimum(self(joint) - jax.lax.stop_gradient(self.central(joint)), 0.0) ** 2


class QTRANAlt(AbstractQTRAN):
    """QTRAN-alt: the least gap over an agent's own actions, the others keeping theirs, is 0.

    L_nopt-min = mean_i (min_a [Q'(a, u_{-i}) - Q_jt(a, u_{-i})])², over available actions a.
    """

    joint_value: JointValue
    state_value: MLP | None
    opt_weight: float = eqx.field(static=True)
    nopt_weight: float = eqx.field(static=True)

    def _elsewhere(self, joint: Joint) -> Float[Array, ""]:
        central = self.joint_value.alternatives(joint.ts.state, joint.hidden, joint.action)
        others = (joint.chosen.sum() - joint.chosen)[:, None]
        gap = joint.q + others + self._v(joint) - jax.lax.stop_gradient(central)
        return jnp.mean(jnp.where(joint.ts.avail, gap, jnp.inf).min(-1) ** 2)
