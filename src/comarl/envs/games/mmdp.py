"""The two-state game on which linear factorisation diverges off-policy (Wang et al. 2021, QPLEX, appendix)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from comarl.envs.base import Env, make_timestep
from comarl.types import EnvSpec, TimeStep

ABSORBING, START = 0, 1


class State(NamedTuple):
    """Which of the two states the team is in, and for how many transitions the episode has lasted."""

    place: Int[Array, ""]
    time: Int[Array, ""]


class MMDP(Env):
    """Two agents and two states; a return of 100 is the best, from (0, 0) at every step.

    In state 1, where every episode starts, the joint action (0, 0) gives 1 and everything else 0. The joint action
    (1, 1) leads to state 0, which gives nothing and is never left. The episode is cut after 100 transitions, which is
    a truncation: it ends nothing. Observations and state are the one-hot state ``[2]``.
    """

    def __init__(self) -> None:
        self.spec = EnvSpec(
            name="mmdp/game-1", num_agents=2, obs_dim=2, state_dim=2, num_actions=2, max_episode_steps=100
        )

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        del key
        state = State(jnp.asarray(START, jnp.int32), jnp.asarray(0, jnp.int32))
        return state, self._timestep(state, first=True)

    def step(self, state: State, action: Int[Array, " N"], key: PRNGKeyArray) -> tuple[State, TimeStep]:
        del key
        started = state.place == START
        reward = (started & (action == 0).all()).astype(jnp.float32)
        place = jnp.where(started & ~(action == 1).all(), state.place, ABSORBING)
        state = State(place, state.time + 1)
        return state, self._timestep(state, reward=reward, truncated=state.time >= self.spec.max_episode_steps)

    def _timestep(
        self,
        state: State,
        *,
        reward: Float[Array, ""] | float = 0.0,
        truncated: Bool[Array, ""] | bool = False,
        first: bool = False,
    ) -> TimeStep:
        features = jax.nn.one_hot(state.place, self.spec.state_dim)
        return make_timestep(
            jnp.broadcast_to(features, (self.spec.num_agents, self.spec.obs_dim)),
            features,
            num_actions=self.spec.num_actions,
            reward=reward,
            truncated=truncated,
            first=first,
        )


def make(variant: str) -> MMDP:
    """The game ``mmdp/game-1``, the only one of its family."""
    del variant
    return MMDP()
