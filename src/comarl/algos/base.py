"""What a driver asks of an algorithm, and what an environment's driver asks of a policy."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PRNGKeyArray

from comarl.memory.base import Batch
from comarl.types import Action, TimeStep, Trajectory


@runtime_checkable
class Policy(Protocol):
    """How a team acts: each agent on its own history. No batch axes."""

    def initial_carry(self) -> Any:
        """The carry before an episode."""
        ...

    def act(self, carry: Any, ts: TimeStep, key: PRNGKeyArray, explore: bool) -> tuple[Any, Action]:
        """The next carry and the joint action; greedy unless ``explore``. A first step clears the carry itself."""
        ...


class Update(NamedTuple):
    """What an update returns.

    Attributes:
        state: the new state.
        metrics: scalars to report.
        error: how wrong the values of each sequence of the batch were, ``[B]``, for a memory that draws by it.
    """

    state: Any
    metrics: dict[str, Float[Array, ""]]
    error: Float[Array, " B"]


@runtime_checkable
class Algorithm(Protocol):
    """A learning rule: pure functions of one state pytree."""

    def init(self, key: PRNGKeyArray) -> Any:
        """The state before learning."""
        ...

    def policy(self, state: Any, env_steps: Int[Array, ""] | int) -> Policy:
        """The policy after ``env_steps`` environment steps (exploration may depend on them)."""
        ...

    def annotate(self, state: Any, trajectory: Trajectory, env_steps: Int[Array, ""], key: PRNGKeyArray) -> Trajectory:
        """An iteration's trajectory with the notes that learning from it needs, made before its first update.

        What the behaviour policy thought, such as its log-probabilities, can only be said while its parameters last.
        It was ``policy(state, env_steps)``.
        """
        ...

    def update(self, state: Any, batch: Batch, key: PRNGKeyArray) -> Update:
        """One gradient step on ``batch``."""
        ...

    def schedules(self, env_steps: int) -> dict[str, float]:
        """What depends on the environment steps alone, such as ε, to report."""
        ...
