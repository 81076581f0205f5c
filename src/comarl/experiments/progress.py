"""Who is told how a run goes on."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Who is told how a run goes on. A text that ends with … is under way until the next call."""

    def say(self, text: str) -> None:
        """A line of news."""
        ...

    def start(self, begun: Mapping[int, int], steps: int, score: str) -> None:
        """Training begins: the environment steps that each seed has already and wants, and what a score is."""
        ...

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """A seed has come this far; ``row`` holds ``epsilon``, ``loss`` and the latest ``score``."""
        ...

    def stop(self) -> None:
        """Training is over, or broken off."""
        ...


class Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Nothing."""

    def start(self, begun: Mapping[int, int], steps: int, score: str) -> None:
        """Nothing."""

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""
