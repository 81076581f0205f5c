"""Environments that actors of Ray's step, on whatever machines Ray has."""

import contextlib
import os
import sys
from typing import Any

from comarl.cluster import connect
from comarl.envs.actor import ASKED, SEEN, Actor, copied
from comarl.envs.board import Board, Failure
from comarl.envs.groups import Group, LostError
from comarl.envs.worker import RESET
from comarl.spec import EnvSpec

CPUS = 0.001
"""What an actor asks for of those that Ray counts: so little that none waits for room. What asks for nothing at all is
put anywhere, and not on one machine after the other."""

CLOSE_SECONDS = 2.0
"""How long an actor may take to free its environments."""


class RayGroup(Group):
    """In an actor.

    Args:
        address: of a Ray (:func:`comarl.cluster.connect`).
        name: of the environment in the registry.
        spec: what the driver knows of it.
        board: where its rows are.
        rows: which are this group's.
    """

    def __init__(self, address: str, name: str, spec: EnvSpec, board: Board, rows: list[int]):
        self.rows = rows
        self._ray = connect(address)
        self._name, self._spec, self._board = name, spec, board
        self._actor: Any = None
        self._answer: Any = None

    def start(self) -> None:
        make = self._ray.remote(num_cpus=CPUS, max_restarts=0, scheduling_strategy="SPREAD")(Actor)
        self._actor = make.remote(self._name, self._spec, len(self.rows), os.getcwd(), sys.path)
        self._answer = self._actor.begin.remote()

    def tell(self, command: bytes) -> None:
        self._answer = self._actor.move.remote(command == RESET, copied(self._board, ASKED, self.rows))

    def hear(self, seconds: float) -> list[Failure]:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(self._answer, timeout=max(seconds, 0.0))
        except errors.GetTimeoutError:
            self._kill()
            raise LostError(f"its actor did not answer within {seconds:.0f} s") from None
        except errors.RayTaskError as error:  # not of an environment: the actor could not begin
            raise LostError(str(error)) from None
        except errors.RayError as error:
            raise LostError(f"its actor was lost ({type(error).__name__})") from None
        if isinstance(answer, str):
            raise LostError(answer)
        failures, seen = answer
        for name, array in zip(SEEN, seen, strict=True):
            getattr(self._board, name)[self.rows] = array
        return [Failure(self.rows[row], trace) for row, trace in failures]

    def close(self) -> None:
        """Let the environments free what they hold, and end the actor."""
        if self._actor is None or not self._ray.is_initialized():
            return
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.close.remote(), timeout=CLOSE_SECONDS)
        self._kill()
        self._actor = None

    def _kill(self) -> None:
        self._ray.kill(self._actor)
