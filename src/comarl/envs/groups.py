"""What steps environments one after the other: this process, another one, or an actor on another machine."""

import abc

from comarl.envs.board import Failure


class LostError(Exception):
    """Whoever steps a group is dead or hangs, and all of its environments are lost."""

    def __init__(self, trace: str):
        super().__init__(trace)
        self.trace = trace


class Group(abc.ABC):
    """Environments that are stepped one after the other."""

    rows: list[int]

    @abc.abstractmethod
    def start(self) -> None:
        """Make them; :meth:`hear` tells when they are."""

    @abc.abstractmethod
    def tell(self, command: bytes) -> None:
        """Let those that are active do what ``command`` says."""

    @abc.abstractmethod
    def hear(self, seconds: float) -> list[Failure]:
        """Wait until they have; which of them failed and are made anew. Raises :class:`LostError`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free them."""
