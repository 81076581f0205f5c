"""The data that flows between environments, agents and learners.

Shape letters, used in every docstring:

=====  =============================================================
``T``  time steps of a sequence (a sequence has ``T + 1`` time steps and ``T`` transitions)
``B``  sequences, or environments stepped side by side
``N``  agents
``A``  actions of one agent, or the components of one (padded to the largest, see ``avail``)
``D``  features of one agent's observation (padded likewise)
``S``  features of the global state
``H``  features of one agent's recurrent state
=====  =============================================================
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from comarl.spec import EnvSpec

__all__ = ["Action", "EnvSpec", "TimeStep", "Trajectory", "action_features"]

Action = Int[Array, "*moments N"] | Float[Array, "*moments N A"]
"""Joint actions: an index for each agent, or a vector where :attr:`EnvSpec.continuous` says so."""


def action_features(action: Action, num_actions: int) -> Float[Array, "*moments N A"]:
    """What a network sees of joint actions: an index one-hot, a vector as it is.

    >>> action_features(jnp.array([1, 0]), 3)
    Array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    return action if jnp.issubdtype(action.dtype, jnp.floating) else jax.nn.one_hot(action, num_actions)


class TimeStep(NamedTuple):
    """What a team perceives at one moment; reward and discount are those received *on arrival* here.

    Attributes:
        obs: each agent's observation.
        state: the global state; only central training may look at it.
        avail: which actions each agent may take now, or which components its action has; at least one per agent, also
            at the last step.
        reward: each agent's reward for the step that led here, zero at the first.
        discount: 0 if the episode terminated here, else 1; a time limit is not a termination and keeps 1.
        first: whether an episode begins here.
        last: whether an episode ends here, by termination or by truncation.
    """

    obs: Float[Array, "*batch N D"]
    state: Float[Array, "*batch S"]
    avail: Bool[Array, "*batch N A"]
    reward: Float[Array, "*batch N"]
    discount: Float[Array, "*batch"]
    first: Bool[Array, "*batch"]
    last: Bool[Array, "*batch"]


class Trajectory(NamedTuple):
    """``T`` transitions, ``T + 1`` time steps, of ``B`` environments; time is the leading axis.

    The transition ``t -> t + 1`` is real unless ``ts.last[t]``: then ``t + 1`` is the first step of the next
    episode (auto-reset takes a step of its own) and nothing may be learned from it.

    Attributes:
        ts: what was perceived, ``[T + 1, B, ...]``.
        action: what was done at ``ts[:-1]``, ``[T, B, N]`` or ``[T, B, N, A]``.
        carry: the policy's carry on entering ``ts[0]``, ``[B, ...]``.
        notes: what the algorithm noted of the transitions before it learned from them, ``[T, B, ...]``; nothing for
            most (:meth:`comarl.algos.base.Algorithm.annotate`).
    """

    ts: TimeStep
    action: Action
    carry: Any
    notes: Any = ()
