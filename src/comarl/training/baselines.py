"""Fixed policies to read learned curves against."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from comarl.algos.base import Policy
from comarl.envs.base import Env, Hosted
from comarl.types import Action, TimeStep


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RandomPolicy:
    """Each agent draws uniformly from its available actions.

    Attributes:
        continuous: whether an action is a vector; each component that an agent has is then uniform in [-1, 1].
    """

    continuous: bool = False

    def initial_carry(self) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(self, carry: tuple[()], ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[tuple[()], Action]:
        """Random actions, exploring or not."""
        del explore
        if self.continuous:
            return carry, jnp.where(ts.avail, jax.random.uniform(key, ts.avail.shape, minval=-1.0), 0.0)
        rank = jnp.where(ts.avail, jax.random.uniform(key, ts.avail.shape), -1.0)
        return carry, jnp.argmax(rank, axis=-1).astype(jnp.int32)


def baselines(env: Env | Hosted) -> dict[str, Policy]:
    """The random policy, and whatever heuristics the environment brings."""
    return {"random": RandomPolicy(env.spec.continuous), **env.heuristics()}
