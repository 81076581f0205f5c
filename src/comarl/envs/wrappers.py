"""An environment that begins its next episode by itself."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from comarl.envs.base import Env, ObservedEnv, State, select
from comarl.envs.scene import Scene
from comarl.types import Action, EnvSpec, TimeStep


class AutoReset(Env):
    """Starts the next episode on the step after ``last``; the action given there is ignored.

    The last observation of an episode is thus seen once and stored once, and the transition from it to the
    next episode's first step is the only one that must be masked (``ts.last[t]``).
    """

    def __init__(self, env: Env):
        self.env = env
        self.spec: EnvSpec = env.spec

    def reset(self, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        state, ts = self.env.reset(key)
        return (state, ts.last), ts

    def step(self, state: State, action: Action, key: PRNGKeyArray) -> tuple[State, TimeStep]:
        inner, over = state
        if isinstance(self.env, ObservedEnv):
            inner = select(over, self.env.begin(key), self.env.advance(inner, action, key))
            ts = self.env.observe(inner)
        else:
            inner, ts = select(over, self.env.reset(key), self.env.step(inner, action, key))
        return (inner, ts.last), ts

    def outcome(self, state: State) -> dict[str, Float[Array, ""]]:
        return self.env.outcome(state[0])

    def heuristics(self) -> dict[str, Any]:
        return self.env.heuristics()

    def scene(self, state: State) -> Scene | None:
        return self.env.scene(state[0])
