"""The two-step game of the QMIX paper (Rashid et al. 2018, §5.1)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, make_timestep
from comarl.types import EnvSpec, TimeStep

START, STATE_2A, STATE_2B = 0, 1, 2

State = Int[Array, ""]


class TwoStep(Env):
    """Two agents; the first one's first action leads to a safe matrix game (2A) or to a risky one (2B).

    In the first state the first agent's action 0 leads to 2A and its action 1 to 2B; the second agent's action has
    no effect, and the reward is 0. In 2A and 2B the joint action's payoff ends the episode. Observations and state
    are the one-hot state ``[3]``, so that every agent sees everything; at the end it stays that of 2A or 2B.

    Attributes:
        payoff: the team's payoffs in 2A and 2B ``[2, A, A]``; the first agent picks the row.
    """

    payoff: np.ndarray = np.array([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], np.float32)

    def __init__(self) -> None:
        self.spec = EnvSpec(name="two-step", num_agents=2, obs_dim=3, state_dim=3, num_actions=2, max_episode_steps=2)

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        del key
        state = jnp.asarray(START, jnp.int32)
        return state, self._timestep(state, first=True)

    def step(self, state: State, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[State, TimeStep]:
        del key
        starting = state == START
        payoff = jnp.asarray(self.payoff)[jnp.maximum(state - STATE_2A, 0), action[0], action[1]]
        state = jnp.where(starting, STATE_2A + action[0], state)
        return state, self._timestep(state, reward=jnp.where(starting, 0.0, payoff), terminated=~starting)

    def _timestep(
        self,
        state: State,
        *,
        reward: Float[Array, ""] | float = 0.0,
        terminated: Array | bool = False,
        first: bool = False,
    ) -> TimeStep:
        features = jax.nn.one_hot(state, self.spec.state_dim)
        return make_timestep(
            jnp.broadcast_to(features, (self.spec.num_agents, self.spec.obs_dim)),
            features,
            num_actions=self.spec.num_actions,
            reward=reward,
            terminated=terminated,
            first=first,
        )


def make(variant: str) -> TwoStep:
    """The game ``two-step``, which has no variants."""
    del variant
    return TwoStep()
