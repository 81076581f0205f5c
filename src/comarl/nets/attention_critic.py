"""The attention critic of MAAC (Iqbal and Sha 2019): each agent's values look at those others that matter to it."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.nets.critics import indices
from comarl.nets.distributions import IMPOSSIBLE
from comarl.nets.layers import MLP, Linear
from comarl.nets.sharing import Shared, Sharing
from comarl.types import EnvSpec, TimeStep


class Attended(NamedTuple):
    """What the critic says of joint steps.

    Attributes:
        q: Q_i(o, (a, a_-i)) of every action a of every agent, the others' actions being what they are.
        weights: α, what each head of each agent gives each other one; 1 together, and exactly 0 to itself.
        logits: of these weights, before they are divided by √(features of a head); 0 for the agent itself.
    """

    q: Float[Array, "*batch N A"]
    weights: Float[Array, "*batch N heads N"]
    logits: Float[Array, "*batch N heads N"]


class Attention(eqx.Module):
    """x_i = Σ_{j≠i} α_{ij} LeakyReLU(V e_j), for each head, with α_{ij} = softmax_j((W_k e_j)·(W_q s_i) / √d).

    e_j embeds what agent j perceives and does, s_i what agent i perceives (Iqbal and Sha 2019). W_k, W_q and V
    are one set for all agents, so that all embeddings come to mean the same. With ``uniform`` α_{ij} is 1 / (N - 1),
    the paper's ablation, and there are neither keys nor queries.
    """

    encoder: Shared[Linear]
    query: Linear | None
    key: Linear | None
    value: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, *, heads: int, hidden: int, uniform: bool, sharing: Sharing, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        inputs = spec.obs_dim + spec.num_actions + spec.num_agents
        self.encoder = Shared(lambda k: Linear(inputs, hidden, key=k), sharing, spec.types, key=keys[0])
        self.query = None if uniform else Linear(hidden, hidden, key=keys[1], use_bias=False)
        self.key = None if uniform else Linear(hidden, hidden, key=keys[2], use_bias=False)
        self.value = Linear(hidden, hidden, key=keys[3])
        self.heads = heads

    def __call__(
        self, itself: Float[Array, "*batch N H"], acting: Float[Array, "*batch N inputs"]
    ) -> tuple[Float[Array, "*batch N H"], Float[Array, "*batch N heads N"], Float[Array, "*batch N heads N"]]:
        """What each agent hears of the others, one head after the other, the weights α and their logits.

        Args:
            itself: s_i.
            acting: what each agent perceives and does.
        """
        embedded = jax.nn.leaky_relu(_each(self.encoder, acting))
        logits = self._logits(itself, embedded)
        weights = self._weights(logits)
        value = self._by_head(jax.nn.leaky_relu(self.value(embedded)))
        heard = jnp.einsum("...ihj,...jhd->...ihd", weights, value)
        return heard.reshape(itself.shape), weights, logits

    def _logits(
        self, itself: Float[Array, "*batch N H"], embedded: Float[Array, "*batch N H"]
    ) -> Float[Array, "*batch N heads N"]:
        if self.query is None or self.key is None:
            *batch, agents, _ = itself.shape
            return jnp.zeros((*batch, agents, self.heads, agents))
        query, key = self._by_head(self.query(itself)), self._by_head(self.key(embedded))
        logits = jnp.einsum("...ihd,...jhd->...ihj", query, key)
        return jnp.where(_others(logits), logits, 0.0)

    def _weights(self, logits: Float[Array, "*batch N heads N"]) -> Float[Array, "*batch N heads N"]:
        others = _others(logits)
        features = self.value.weight.shape[-1] // self.heads
        weights = jax.nn.softmax(jnp.where(others, logits / features**0.5, IMPOSSIBLE), axis=-1)
        return jnp.where(others, weights, 0.0)  # who is alone would have all of its own attention

    def _by_head(self, x: Float[Array, "*batch N H"]) -> Float[Array, "*batch N heads features"]:
        return x.reshape(*x.shape[:-1], self.heads, -1)


class AttentionCritic(eqx.Module):
    """Q_i(o, (·, a_-i)) = f_i(s_i, x_i), where s_i is what agent i perceives and x_i what it hears of the others.

    An agent's own action is no input, for the outputs are over it: one pass has all values of all agents. Encoders and
    f_i are each agent's own or shared, as ``sharing`` says; encoders see the agent's index, which tells agents apart
    that share parameters. It has no memory.
    """

    encoder: Shared[Linear]
    attention: Attention
    head: Shared[MLP]
    num_agents: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        *,
        key: PRNGKeyArray,
        heads: int = 4,
        hidden: int = 128,
        uniform: bool = False,
        sharing: Sharing = "agent",
    ):
        if hidden % heads:
            raise ValueError(f"heads={heads} do not divide hidden={hidden}")
        e_key, a_key, h_key = jax.random.split(key, 3)
        inputs, a = spec.obs_dim + spec.num_agents, spec.num_actions
        self.encoder = Shared(lambda k: Linear(inputs, hidden, key=k), sharing, spec.types, key=e_key)
        self.attention = Attention(spec, heads=heads, hidden=hidden, uniform=uniform, sharing=sharing, key=a_key)
        self.head = Shared(lambda k: MLP((2 * hidden, hidden, a), key=k), sharing, spec.types, key=h_key)
        self.num_agents, self.num_actions = spec.num_agents, a

    def __call__(self, ts: TimeStep, action: Int[Array, "*batch N"]) -> Attended:
        """The values of joint steps; agent i's row does not depend on ``action[..., i]``."""
        seen = jnp.concatenate([ts.obs, indices(ts)], axis=-1)
        acting = jnp.concatenate([seen, jax.nn.one_hot(action, self.num_actions)], axis=-1)
        itself = jax.nn.leaky_relu(_each(self.encoder, seen))
        heard, weights, logits = self.attention(itself, acting)
        q = _each(self.head, jnp.concatenate([itself, heard], axis=-1))
        return Attended(q, weights, logits)


def share_attention(gradient: AttentionCritic) -> AttentionCritic:
    """The gradient of a sum over the agents' losses, with the attention's part of it divided by their number.

    The embeddings of acting agents, keys, queries and values are in every agent's Q and would otherwise move N times as
    fast as what is in one agent's alone (as in the authors' code).
    """
    share = jax.tree.map(lambda g: g / gradient.num_agents, gradient.attention)
    return eqx.tree_at(lambda critic: critic.attention, gradient, share)


def _each(net: Shared[Linear] | Shared[MLP], x: Float[Array, "*batch N inputs"]) -> Float[Array, "*batch N outputs"]:
    """Every agent's own network on its own row."""
    agents = x.ndim - 2
    return net.map(type(net.module).__call__, in_axes=(agents,), out_axes=agents)(x)


def _others(like: Float[Array, "*batch N heads N"]) -> Bool[Array, "*batch N heads N"]:
    """Everybody but the agent itself."""
    agents = like.shape[-1]
    return jnp.broadcast_to(~jnp.eye(agents, dtype=bool)[:, None], like.shape)
