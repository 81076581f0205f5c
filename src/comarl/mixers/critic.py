"""A mixer over critics of the agents' own actions (FACMAC, Peng et al. 2021)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from comarl.mixers.base import AbstractMixer, Joint
from comarl.nets.critics import ActionCritic
from comarl.types import TimeStep


class FactoredCritic(eqx.Module):
    """Q_tot(o, u, s) = g(s, Q_1(o_1, u_1), …, Q_N(o_N, u_N)), as every agent's value.

    The policies climb it and nobody looks for its best joint action, so that g need not be monotone; QMIX's, which is,
    is the paper's usual choice (§4.1).

    Attributes:
        own: each agent's critic of its own observation and action.
        mixer: g.
    """

    own: ActionCritic
    mixer: AbstractMixer

    def __call__(
        self, ts: TimeStep, action: Float[Array, "*batch N A"], own: Float[Array, "*batch N A"] | None = None
    ) -> Float[Array, "*batch N"]:
        """The value of one joint action; of ``own`` if given, where all agents do at once what they would do now.

        That is the paper's centralised gradient (eq. 7): MADDPG would move one agent and leave the others as replayed.
        """
        q = self.own(ts, action if own is None else own)
        mix = self._q_tot
        for _ in q.shape[:-1]:
            mix = jax.vmap(mix)
        return jnp.broadcast_to(mix(q, ts)[..., None], q.shape)

    def _q_tot(self, q: Float[Array, " N"], ts: TimeStep) -> Float[Array, ""]:
        # What an agent does is its only action here, and critics have no hidden state.
        return self.mixer(Joint(q[:, None], jnp.zeros(q.shape, jnp.int32), jnp.zeros((q.size, 0)), ts))
