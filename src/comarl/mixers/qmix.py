"""QMIX (Rashid et al. 2018; 2020, JMLR 21) and its ablations: monotone mixing, ∂Q_tot/∂Q_i ≥ 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from comarl.mixers.base import FactoredMixer, Joint
from comarl.nets.layers import MLP, Linear, hypernet


class QMIX(FactoredMixer):
    """Q_tot = ELU(q·|W₁(s)| + b₁(s))·|w₂(s)| + V(s).

    Each hypernetwork is one linear layer (ICML) or Linear, ReLU, Linear (JMLR, PyMARL).
    """

    w1: MLP
    b1: Linear
    w2: MLP
    v: MLP

    def __init__(
        self,
        num_agents: int,
        state_dim: int,
        *,
        embed: int = 32,
        hyper_layers: int = 2,
        hyper_hidden: int = 64,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 4)
        self.w1 = hypernet(state_dim, num_agents * embed, layers=hyper_layers, hidden=hyper_hidden, key=keys[0])
        self.b1 = Linear(state_dim, embed, key=keys[1])
        self.w2 = hypernet(state_dim, embed, layers=hyper_layers, hidden=hyper_hidden, key=keys[2])
        self.v = MLP((state_dim, embed, 1), key=keys[3])

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        q, s = joint.chosen, joint.ts.state
        w1 = jnp.abs(self.w1(s)).reshape(q.size, -1)
        h = jax.nn.elu(q @ w1 + self.b1(s))
        return (h * jnp.abs(self.w2(s))).sum() + self.v(s)[0]


class QMIXNS(FactoredMixer):
    """QMIX-NS: the mixing weights are learned but do not depend on the state."""

    w1: Float[Array, "N E"]
    b1: Float[Array, " E"]
    w2: Float[Array, " E"]
    b2: Float[Array, ""]

    def __init__(self, num_agents: int, *, embed: int = 32, key: PRNGKeyArray):
        first_key, second_key = jax.random.split(key)
        first, second = Linear(num_agents, embed, key=first_key), Linear(embed, 1, key=second_key)
        assert first.bias is not None
        assert second.bias is not None
        self.w1, self.b1 = first.weight, first.bias
        self.w2, self.b2 = second.weight[:, 0], second.bias[0]

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        h = jax.nn.elu(joint.chosen @ jnp.abs(self.w1) + self.b1)
        return (h * jnp.abs(self.w2)).sum() + self.b2


class QMIXLin(FactoredMixer):
    """QMIX-Lin: no hidden layer, Q_tot = Σ_i |w_i(s)| Q_i + b(s)."""

    w: MLP
    b: MLP

    def __init__(
        self,
        num_agents: int,
        state_dim: int,
        *,
        embed: int = 32,
        hyper_layers: int = 2,
        hyper_hidden: int = 64,
        key: PRNGKeyArray,
    ):
        w_key, b_key = jax.random.split(key)
        self.w = hypernet(state_dim, num_agents, layers=hyper_layers, hidden=hyper_hidden, key=w_key)
        self.b = MLP((state_dim, embed, 1), key=b_key)

    def __call__(self, joint: Joint) -> Float[Array, ""]:
        s = joint.ts.state
        return (jnp.abs(self.w(s)) * joint.chosen).sum() + self.b(s)[0]
