"""The counterfactual advantage: its identities, whatever the policy."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from comarl.algos.counterfactual import counterfactual_advantage
from comarl.nets.distributions import log_probabilities, with_floor


def policies(draw: np.random.Generator, *shape: int, epsilon: float) -> tuple[Array, np.ndarray]:
    """Log-probabilities with a floor, and which actions are available."""
    avail = draw.random(shape) < 0.6
    avail[..., 0] |= ~avail.any(-1)
    logits = jnp.asarray(draw.normal(size=shape) * 5, jnp.float32)
    free = jnp.asarray(avail)
    return with_floor(log_probabilities(logits, free), free, jnp.full(shape[:-1], epsilon)), avail


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_advantages_average_to_nothing(epsilon: float) -> None:
    """Σ_a π_i(a) A_i(a) = 0: the baseline is that of the very policy that acts, floor and masks included."""
    draw = np.random.default_rng(0)
    log_p, avail = policies(draw, 50, 3, 4, epsilon=epsilon)
    q = jnp.asarray(draw.normal(size=(50, 3, 4)), jnp.float32)
    of_each = [counterfactual_advantage(q, log_p, jnp.full((50, 3), a)) for a in range(4)]
    a = np.stack(of_each, axis=-1)
    p = np.where(avail, np.exp(log_p), 0)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose((p * a).sum(-1), 0, atol=1e-5)
    assert np.abs(a[avail]).max() > 1


def test_what_an_additive_reward_credits_an_agent_with_is_its_own() -> None:
    """Q(u) = Σ_i f_i(u_i): A_i does not depend on u_-i. With an interaction it does."""
    draw = np.random.default_rng(1)
    log_p, _ = policies(draw, 2, 3, epsilon=0.2)
    first, second, both = draw.normal(size=3), draw.normal(size=3), draw.normal(size=(3, 3))
    additive = first[:, None] + second[None]

    def credited(table: np.ndarray) -> np.ndarray:
        """The first agent's advantage of each joint action ``[3, 3]``."""
        rows = jnp.asarray(table.T, jnp.float32)  # [u_2, u_1]
        ask = lambda a: counterfactual_advantage(rows, jnp.tile(log_p[:1], (3, 1)), jnp.full(3, a))  # noqa: E731
        return np.stack([ask(a) for a in range(3)])

    np.testing.assert_allclose(credited(additive), np.tile(credited(additive)[:, :1], (1, 3)), atol=1e-5)
    assert np.ptp(credited(additive + both), axis=1).max() > 0.1
