"""QPLEX (Wang et al. 2021): duplex dueling, the whole class of values whose greedy actions are consistent (IGM)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from comarl.mixers.base import FactoredMixer, Joint
from comarl.nets.layers import MLP, hypernet

POSITIVE = 1e-10
"""Added to absolute values: a weight of exactly 0 would cut an agent off for good."""


class Kernel(eqx.Module):
    """One term of λ_i(s, u) = Σ_k |key_k(s)| σ(agent_{k,i}(s)) σ(action_{k,i}(s, u))."""

    key: MLP
    agent: MLP
    action: MLP

    def __init__(
        self, num_agents: int, num_actions: int, state_dim: int, *, layers: int, hidden: int, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 3)
        wide = state_dim + num_agents * num_actions
        self.key = hypernet(state_dim, 1, layers=layers, hidden=hidden, key=keys[0])
        self.agent = hypernet(state_dim, num_agents, layers=layers, hidden=hidden, key=keys[1])
        self.action = hypernet(wide, num_agents, layers=layers, hidden=hidden, key=keys[2])

    def __call__(self, joint: Joint) -> Float[Array, " N"]:
        s = joint.ts.state
        u = joint.taken.astype(s.dtype).reshape(-1)
        key = jnp.abs(self.key(s)) + POSITIVE
        return key * jax.nn.sigmoid(self.agent(s)) * jax.nn.sigmoid(self.action(jnp.concatenate([s, u])))


class QPLEX(FactoredMixer):
    """Q_tot = Σ_i Q_i + Σ_i (λ_i - 1) A_i, with A_i = Q_i - V_i ≤ 0 and Q_i, V_i transformed by w_i(s) and b_i(s).

    The advantage is a constant beside λ (``stop_gradient``), as the authors have it: utilities then learn as in VDN,
    and λ alone fits what VDN cannot.
    """

    w: MLP
    b: MLP
    kernels: Kernel
    stop_gradient: bool = eqx.field(static=True)

    def __init__(
        self,
        num_agents: int,
        num_actions: int,
        state_dim: int,
        *,
        kernels: int = 4,
        kernel_layers: int = 1,
        hidden: int = 64,
        stop_gradient: bool = True,
        key: PRNGKeyArray,
    ):
        w_key, b_key, k_key = jax.random.split(key, 3)
        self.w = hypernet(state_dim, num_agents, layers=2, hidden=hidden, key=w_key)
        self.b = hypernet(state_dim, num_agents, layers=2, hidden=hidden, key=b_key)
        self.kernels = jax.vmap(
            lambda k: Kernel(num_agents, num_actions, state_dim, layers=kernel_layers, hidden=hidden, key=k)
        )(jax.random.split(k_key, kernels))
        self.stop_gradient = stop_gradient

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        s = joint.ts.state
        w, b = jnp.abs(self.w(s)) + POSITIVE, self.b(s)
        q, v = w * joint.chosen + b, w * joint.best + b
        advantage = jax.lax.stop_gradient(q - v) if self.stop_gradient else q - v
        return (q + (self.attention(joint).sum(0) - 1) * advantage).sum()

    def attention(self, joint: Joint) -> Float[Array, "kernels N"]:
        """Each kernel's share of λ_i; their sum is λ_i."""
        return jax.vmap(lambda kernel: kernel(joint))(self.kernels)
