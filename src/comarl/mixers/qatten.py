"""Qatten (Yang et al. 2020): attention over the agents gives the weights of their utilities."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from comarl.mixers.base import AbstractMixer, Joint, Metrics, squared_error
from comarl.nets.layers import MLP, Linear
from comarl.types import EnvSpec, TimeStep

KEY_SIZE = 32


class Head(eqx.Module):
    """One head's logits, q(s)·k(unit_i) for every agent."""

    query_in: Linear
    query_out: Linear
    key: Linear

    def __init__(self, state_dim: int, unit_dim: int, *, hidden: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.query_in = Linear(state_dim, hidden, key=keys[0])
        self.query_out = Linear(hidden, KEY_SIZE, key=keys[1], use_bias=False)
        self.key = Linear(unit_dim, KEY_SIZE, key=keys[2], use_bias=False)

    def __call__(self, state: Float[Array, " S"], units: Float[Array, "N U"]) -> Float[Array, " N"]:
        return self.key(units) @ self.query_out(jax.nn.relu(self.query_in(state)))


class Qatten(AbstractMixer):
    """Q_tot = Σ_h w_h(s) Σ_i α_{h,i} Q_i + c(s), with α_{h,i} = softmax_i(q_h(s)·k_h(unit_i) / √32).

    A unit is the agent's part of the state where the environment names one (``EnvSpec.units``), else the agent's
    observation.

    Args:
        spec: sizes, and where the units stand.
        heads: number of heads h.
        embed: hidden width of c.
        hyper_hidden: hidden width of the queries and of the heads' weights.
        weighted_heads: w_h(s) = |MLP(s)_h|; else 1.
        nonlinear_keys: each agent's utility is part of its unit, so that weights depend on utilities.
        mask_dead: agents that have no choice (one available action, as the dead in SMAX) get no weight.
        logit_penalty: weight of the loss Σ_h mean_i(logit²).
        key: for the initial parameters.
    """

    heads: Head
    w: MLP | None
    c: MLP
    units: tuple[tuple[int, int], ...] = eqx.field(static=True)
    nonlinear_keys: bool = eqx.field(static=True)
    mask_dead: bool = eqx.field(static=True)
    logit_penalty: float = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        *,
        heads: int = 4,
        embed: int = 32,
        hyper_hidden: int = 64,
        weighted_heads: bool = True,
        nonlinear_keys: bool = False,
        mask_dead: bool = False,
        logit_penalty: float = 1e-3,
        key: PRNGKeyArray,
    ):
        h_key, w_key, c_key = jax.random.split(key, 3)
        self.units, self.nonlinear_keys = spec.units, nonlinear_keys
        self.mask_dead, self.logit_penalty = mask_dead, logit_penalty
        unit_dim = (spec.units[0][1] - spec.units[0][0] if spec.units else spec.obs_dim) + nonlinear_keys
        self.heads = jax.vmap(lambda k: Head(spec.state_dim, unit_dim, hidden=hyper_hidden, key=k))(
            jax.random.split(h_key, heads)
        )
        self.w = MLP((spec.state_dim, hyper_hidden, heads), key=w_key) if weighted_heads else None
        self.c = MLP((spec.state_dim, embed, 1), key=c_key)

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        return self._mixed(joint, self._logits(joint))

    def bootstrap(self, joint: Joint) -> Float[Array, ""]:
        return self(joint)

    def loss(self, joint: Joint, y: Float[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        logits = self._logits(joint)
        loss, metrics = squared_error(self._mixed(joint, logits), y)
        penalty = (logits**2).mean(-1).sum()
        return loss + self.logit_penalty * penalty, metrics | {"squared_logits": penalty}

    def attention(self, joint: Joint) -> Float[Array, "heads N"]:
        """α_{h,i}: each head's weights of the agents, 1 together."""
        return self._weights(joint, self._logits(joint))

    def _mixed(self, joint: Joint, logits: Float[Array, "heads N"]) -> Float[Array, ""]:
        s = joint.ts.state
        q = (self._weights(joint, logits) * joint.chosen[None]).sum(-1)
        return (q if self.w is None else jnp.abs(self.w(s)) * q).sum() + self.c(s)[0]

    def _logits(self, joint: Joint) -> Float[Array, "heads N"]:
        units = unit_features(joint.ts, self.units)
        if self.nonlinear_keys:
            units = jnp.concatenate([units, joint.chosen[:, None]], axis=-1)
        return jax.vmap(lambda head: head(joint.ts.state, units))(self.heads)

    def _weights(self, joint: Joint, logits: Float[Array, "heads N"]) -> Float[Array, "heads N"]:
        scaled = logits / KEY_SIZE**0.5
        if self.mask_dead:
            scaled = jnp.where(_counts(joint.ts)[None], scaled, -jnp.inf)
        return jax.nn.softmax(scaled, axis=-1)


def unit_features(ts: TimeStep, units: tuple[tuple[int, int], ...]) -> Float[Array, "N U"]:
    """Each agent's part of the state, or its observation where there are no such parts."""
    return jnp.stack([ts.state[start:stop] for start, stop in units]) if units else ts.obs


def _counts(ts: TimeStep) -> Bool[Array, " N"]:
    """Who has a choice; everybody if nobody has, so that there is always a weight to give."""
    choice = ts.avail.sum(-1) > 1
    return choice | ~choice.any()
