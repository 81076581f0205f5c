"""What agents think of each other's policies."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from comarl.nets.layers import MLP
from comarl.nets.sharing import Shared
from comarl.types import EnvSpec


class InferredPolicies(eqx.Module):
    """The guesses μ̂_i^j(o_j) that every agent i has of every other agent j's policy (Lowe et al. 2017, §4.2).

    One network for each of the ``P = N (N - 1)`` pairs, in the order of i and then j: what one agent has learned of
    another it keeps to itself, whatever the agents share.
    """

    net: Shared[MLP]
    num_agents: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, *, key: PRNGKeyArray, hidden: int = 64):
        n = spec.num_agents
        sizes = (spec.obs_dim, hidden, hidden, spec.num_actions)
        self.net = Shared(lambda k: MLP(sizes, key=k), "agent", (0,) * (n * (n - 1)), key=key)
        self.num_agents = n

    def __call__(self, obs: Float[Array, "*batch N D"]) -> Float[Array, "*batch P A"]:
        """What the heads of the guessed policies give."""
        x = self.about(obs)
        pairs = x.ndim - 2
        return self.net.map(MLP.__call__, in_axes=(pairs,), out_axes=pairs)(x)

    def about(self, x: Shaped[Array, "*batch N features"]) -> Shaped[Array, "*batch P features"]:
        """Of each pair what belongs to the agent j that the guess is about."""
        return x[..., self._pairs()[1], :]

    def joint(
        self, own: Float[Array, "*batch N A"], guessed: Float[Array, "*batch P A"]
    ) -> Float[Array, "*batch N N A"]:
        """The joint action that each agent has in mind: what it does itself, and its guesses of the others."""
        *batch, n, actions = own.shape
        alike = jnp.broadcast_to(own[..., None, :, :], (*batch, n, n, actions))
        return alike.at[..., *self._pairs(), :].set(guessed)

    def _pairs(self) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Who guesses, and about whom."""
        who, whom = np.nonzero(~np.eye(self.num_agents, dtype=bool))
        return who, whom
