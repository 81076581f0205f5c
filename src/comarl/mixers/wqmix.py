"""Weighted QMIX (Rashid et al. 2020, NeurIPS): a monotone Q_tot that fits the better joint actions more closely."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from comarl.mixers.base import CentralMixer, Joint, Metrics
from comarl.mixers.qmix import QMIX
from comarl.nets.critics import JointValue


class WeightedQMIX(CentralMixer):
    """L = w(s, u) (Q_tot - sg y)² + (Q̂* - sg y)², where y is made of Q̂* at Q_tot's greedy joint action.

    OW (optimistic): w = 1 where Q_tot is below y, else α. CW (central): w = 1 where u is the greedy ū or y is above
    Q̂*(s, ū), else α.

    Attributes:
        monotone: Q_tot.
        joint_value: Q̂*.
        alpha: α.
        optimistic: OW, else CW.
    """

    monotone: QMIX
    joint_value: JointValue
    alpha: float = eqx.field(static=True)
    optimistic: bool = eqx.field(static=True)

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        return self.monotone(joint)

    def central(self, joint: Joint) -> Float[Array, ""]:
        return self.joint_value(joint.ts.state, joint.hidden, joint.action)

    def loss(self, joint: Joint, y: Float[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        y = jax.lax.stop_gradient(y)
        q_tot, central = self(joint), self.central(joint)
        w = jnp.where(self._counts(joint, q_tot, y), 1.0, self.alpha)
        loss = w * (q_tot - y) ** 2 + (central - y) ** 2
        metrics = {"q_tot": q_tot, "td_error": jnp.abs(q_tot - y), "central_error": jnp.abs(central - y), "weight": w}
        return loss, metrics

    def _counts(self, joint: Joint, q_tot: Float[Array, ""], y: Float[Array, ""]) -> Bool[Array, ""]:
        if self.optimistic:
            return q_tot < y
        greedy = joint.greedy
        return (joint.action == greedy).all() | (y > self.central(joint._replace(action=greedy)))
