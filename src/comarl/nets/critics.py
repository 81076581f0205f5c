"""Central values: networks that only training sees."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.nets.layers import MLP, Linear


class JointValue(eqx.Module):
    """An unrestricted value of the joint action, from the state and each agent's memory and action.

    Q(s, h, u) = head(relu(state(s) + Σ_i pool(relu(memory(h_i) + e_{i,u_i})))).

    The sizes grow with the number of agents and not with the number of joint actions. The actions' embeddings e are
    drawn from ±1 and not small: where they hardly move a ReLU across its kink, the network is additive in the
    actions, that is a saddle of the fit, and learning stays there.
    """

    action: Float[Array, "N A E"]
    memory: Linear
    pool: Linear
    state: Linear
    head: MLP

    def __init__(
        self, num_agents: int, num_actions: int, state_dim: int, memory_dim: int, *, hidden: int, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 5)
        self.action = jax.random.rademacher(keys[0], (num_agents, num_actions, hidden), jnp.float32)
        self.memory = Linear(memory_dim, hidden, key=keys[1])
        self.pool = Linear(hidden, hidden, key=keys[2], use_bias=False)
        self.state = Linear(state_dim, hidden, key=keys[3])
        self.head = MLP((hidden, hidden, 1), key=keys[4])

    def __call__(
        self, state: Float[Array, " S"], memory: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> Float[Array, ""]:
        """The value of one joint action."""
        chosen = self.action[jnp.arange(action.size), action]
        return self._value(state, self._features(memory, chosen).sum(0))

    def alternatives(
        self, state: Float[Array, " S"], memory: Float[Array, "N H"], action: Int[Array, " N"]
    ) -> Float[Array, "N A"]:
        """The value with agent i's action replaced by each of its actions, the others keeping theirs."""
        features = self._features(memory[:, None], self.action)
        chosen = features[jnp.arange(action.size), action]
        others = chosen.sum(0)[None] - chosen
        return self._value(state, others[:, None] + features)

    def _features(
        self, memory: Float[Array, "N *one H"], action: Float[Array, "N *actions E"]
    ) -> Float[Array, "N *actions E"]:
        return self.pool(jax.nn.relu(self.memory(memory) + action))

    def _value(self, state: Float[Array, " S"], pooled: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
        seen = self.state(state).reshape((1,) * (pooled.ndim - 1) + (-1,))
        return self.head(jax.nn.relu(seen + pooled))[..., 0]
