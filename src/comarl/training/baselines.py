"""Fixed policies to read learned curves against."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from comarl.algos.base import Policy
from comarl.envs.base import Env
from comarl.types import TimeStep


class RandomPolicy:
    """Each agent draws uniformly from its available actions."""

    def initial_carry(self) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(
        self, carry: tuple[()], ts: TimeStep, key: PRNGKeyArray, explore: bool
    ) -> tuple[tuple[()], Int[Array, " N"]]:
        """Random actions ``[N]``, exploring or not."""
        del explore
        rank = jnp.where(ts.avail, jax.random.uniform(key, ts.avail.shape), -1.0)
        return carry, jnp.argmax(rank, axis=-1).astype(jnp.int32)


def baselines(env: Env) -> dict[str, Policy]:
    """The random policy, and whatever heuristics the environment brings."""
    return {"random": RandomPolicy(), **env.heuristics()}
