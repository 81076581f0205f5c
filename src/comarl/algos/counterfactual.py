"""What an agent's own action is worth beyond what its policy would have earned on average."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from comarl.nets.distributions import chosen


def counterfactual_advantage(
    q: Float[Array, "*batch A"], log_p: Float[Array, "*batch A"], action: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """A_i = Q_i(u) - Σ_a π_i(a) Q_i(a, u_-i) (Foerster et al. 2018, eq. 4; Iqbal and Sha 2019).

    Args:
        q: values of every action of an agent, the others' actions being what they are.
        log_p: of the policy that acts, with its floor if it has one; an action of probability 0 has no part in this.
        action: the agent's action.

    >>> counterfactual_advantage(jnp.array([4.0, 0.0]), jnp.log(jnp.array([0.25, 0.75])), jnp.array(0))
    Array(3., dtype=float32)
    """
    return chosen(q, action) - jnp.sum(jnp.exp(log_p) * q, axis=-1)
