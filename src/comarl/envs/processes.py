"""Python environments in processes of their own, side by side over shared memory.

The memory has no name (``memfd_create``, or a file that is deleted at once), so that nothing can be left behind in
``/dev/shm``; a worker ends when its standard input does, which the operating system sees to even if this process is
killed. A worker is a fresh interpreter and no fork, and it does not import the caller's main module: a script needs no
``if __name__ == "__main__"``, and a worker imports no JAX unless its environment does.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from comarl.envs.base import Hosted, HostEnv
from comarl.envs.board import Board, Failure, Row, board_on, board_size, move
from comarl.envs.groups import Group, LostError
from comarl.envs.python import PythonEnv
from comarl.envs.registry import one_line
from comarl.envs.scene import Scene
from comarl.envs.worker import DEAD, DONE, QUIT, RESET, STEP
from comarl.errors import ComarlError
from comarl.types import TimeStep

START_SECONDS, STEP_SECONDS, BEGIN_SECONDS = 120.0, 60.0, 30.0
"""How long a worker may take to make its environments, and for a step, until it counts as hung.

When it is told to begin episodes each of its environments has some time besides: it may have to start a game.
"""

CLOSE_SECONDS = 2.0
"""How long a worker may take to end."""

ENVIRONMENT = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "OMP_NUM_THREADS": "1"}
"""Variables of a worker: no greetings, and no threads in each of several processes."""

MAX_FAILURES = 3
"""So often may an environment fail without finishing an episode in between."""


class PythonEnvs(Hosted):
    """A Python environment by its name in the registry, which every worker looks up for itself.

    Args:
        name: the name, such as ``mpe2/simple_spread_v3``.
        make: makes one environment in this process.
        workers: processes that the environments are shared out among; 0 steps them in this one.
        actors: the address of a Ray whose actors the workers are, in place of processes of this machine.
    """

    def __init__(self, name: str, make: Callable[[], PythonEnv], workers: int, actors: str | None = None):
        self.name, self.make, self.workers, self.actors = name, make, workers, actors
        env = make()
        self.spec, self.repeatable, self.at_once = env.spec, env.repeatable, env.at_once
        env.close()

    def start(self, count: int) -> "Processes":
        return Processes(self, count)


class Replayable(NamedTuple):
    """Where ``B`` Python environments are: an episode follows from its seed and the actions taken.

    Attributes:
        seeds: the words that the current episodes began with ``[B, 2]``.
        actions: what was done since ``[B, max_episode_steps, ...]``.
        length: how many of them ``[B]``.
    """

    seeds: np.ndarray
    actions: np.ndarray
    length: np.ndarray


class Processes(HostEnv):
    """``B`` environments of one kind, which are made anew when they fail.

    One that raises an error, or gives a NaN or a wrong shape, is replaced by another in the same worker; a worker that
    dies or does not answer is started anew. Their episodes are given up (:class:`comarl.envs.base.HostEnv`).

    Args:
        envs: what to start.
        count: ``B``.
        step_seconds: how long a step may take. Without processes nothing guards against an environment that hangs.

    Raises:
        ComarlError: from every method, if environments cannot be made or keep failing.
    """

    def __init__(self, envs: PythonEnvs, count: int, step_seconds: float = STEP_SECONDS):
        self.spec, self.count = envs.spec, count
        self._name, self._step_seconds, self._repeatable = envs.name, step_seconds, envs.repeatable
        self._failures = np.zeros(count, int)
        form = self.spec.action_form
        history = np.zeros((count, self.spec.max_episode_steps, *form.shape), form.dtype)
        self._at = Replayable(np.zeros((count, 2), np.uint32), history, np.zeros(count, np.int32))
        size = board_size(self.spec, count)
        memory = _SharedMemory(size) if envs.workers and not envs.actors else None
        self._board = board_on(memory.buffer if memory else bytearray(size), self.spec, count)
        shares = [share.tolist() for share in np.array_split(np.arange(count), max(1, min(envs.workers, count)))]
        self._groups: list[Group] = [self._group(envs, rows, memory) for rows in shares]
        self._end = weakref.finalize(self, _close_all, self._groups)
        try:
            self._begin(self._groups)
        except LostError as error:
            raise self._given_up("cannot be made", error.trace) from None

    def reset(self, seeds: np.ndarray) -> TimeStep:
        self._board.active[:] = True
        return self._move(RESET, seeds)

    def step(self, action: np.ndarray, seeds: np.ndarray, active: np.ndarray | None = None) -> TimeStep:
        self._board.active[:] = True if active is None else active
        self._board.action[:] = action
        return self._move(STEP, seeds)

    def outcome(self) -> dict[str, np.ndarray]:
        return {name: self._board.outcome[:, i].copy() for i, name in enumerate(self.spec.outcomes)}

    def snapshot(self) -> Replayable:
        return Replayable(*(x.copy() for x in self._at))

    def restore(self, snapshot: Replayable) -> None:
        """Play the current episodes again up to where they were; what cannot be repeated is cut off."""
        at = Replayable(*map(np.array, snapshot))
        self.reset(at.seeds)
        if not self._repeatable:
            self._board.last[:] = True  # the next step begins other episodes
            return
        for t in range(int(at.length.max())):
            ts = self.step(at.actions[:, t], at.seeds, t < at.length)
            if (ts.first & (at.length > 0)).any():
                raise ComarlError(f"{self._name} failed while the saved episodes were played again: start a new run")

    def picture(self, row: int) -> Scene | np.ndarray | None:
        here = next((group for group in self._groups if isinstance(group, _Here)), None)
        try:
            return here and here.picture(row)
        except Exception as error:  # the environment may raise anything
            raise ComarlError(f"environment '{self._name}' cannot be drawn: {one_line(error)}") from error

    def close(self) -> None:
        self._end()

    def _move(self, command: bytes, seeds: np.ndarray) -> TimeStep:
        board = self._board
        board.seeds[:] = seeds
        begins = board.last | (command == RESET)
        for group in self._groups:
            group.tell(command)
        told = time.monotonic()
        for group in self._groups:
            try:
                self._count(group.hear(told + self._patience(group, command) - time.monotonic()), begins)
            except LostError as error:
                self._replace(group, error.trace, begins)
        self._failures[board.last] = 0
        self._note(seeds)
        fields = (board.obs, board.state, board.avail, board.reward, board.discount, board.first, board.last)
        return TimeStep(*(np.copy(field) for field in fields))  # pyright: ignore[reportArgumentType] -- NumPy's

    def _patience(self, group: Group, command: bytes) -> float:
        return self._step_seconds + (BEGIN_SECONDS * len(group.rows) if command == RESET else 0.0)

    def _note(self, seeds: np.ndarray) -> None:
        """Write down how to come to where the environments now are."""
        board, at = self._board, self._at
        first = board.active & board.first
        at.seeds[first], at.length[first], at.actions[first] = seeds[first], 0, 0
        went = np.flatnonzero(board.active & ~board.first)
        at.actions[went, at.length[went]] = board.action[went]
        at.length[went] += 1

    def _group(self, envs: PythonEnvs, rows: list[int], memory: "_SharedMemory | None") -> Group:
        if memory:
            return _Worker(envs, self.count, rows, memory)
        if not (envs.workers and envs.actors):
            return _Here(envs, self._board, rows)
        from comarl.envs.ray_group import RayGroup  # Ray is an extra

        return RayGroup(envs.actors, envs.name, envs.spec, self._board, rows)

    def _begin(self, groups: list[Group]) -> None:
        for group in groups:
            group.start()
        for group in groups:
            group.hear(START_SECONDS)

    def _replace(self, group: Group, trace: str, begins: np.ndarray) -> None:
        """Start a worker anew, with new episodes in all of its environments."""
        while True:
            self._count([Failure(row, trace) for row in group.rows], begins)
            begins = np.ones_like(begins)  # what fails again loses no episode more
            group.close()
            self._board.active[group.rows] = True
            try:
                self._begin([group])
                group.tell(RESET)
                self._count(group.hear(self._patience(group, RESET)), begins)
            except LostError as error:
                trace = error.trace
            else:
                return

    def _count(self, failures: list[Failure], begins: np.ndarray) -> None:
        for row, trace in failures:
            self._failures[row] += 1
            self.dropped += int(not begins[row])
            if self._failures[row] > MAX_FAILURES:
                raise self._given_up(f"failed {self._failures[row]} times without finishing an episode", trace)

    def _given_up(self, what: str, trace: str) -> ComarlError:
        self.close()
        error = ComarlError(f"environment '{self._name}' {what}: {_gist(trace)} (see 'comarl check-env {self._name}')")
        error.__cause__ = RuntimeError(f"in the environment's process:\n{trace}")
        return error


class _Here(Group):
    """In this process."""

    def __init__(self, envs: PythonEnvs, board: Board, rows: list[int]):
        self.rows = rows
        self._envs, self._board = envs, board
        self._running: list[Row] = []
        self._answer: list[Failure] | str = []

    def start(self) -> None:
        self._running = []
        try:
            self._running += (Row(self._envs.make, self._envs.spec, self._board, row) for row in self.rows)
        except Exception:  # the environment may raise anything
            self._answer = traceback.format_exc()

    def tell(self, command: bytes) -> None:
        try:
            self._answer = move(self._running, self._board, reset=command == RESET)
        except Exception:  # one that has just been made fails again
            self._answer = traceback.format_exc()

    def hear(self, seconds: float) -> list[Failure]:
        answer, self._answer = self._answer, []
        if isinstance(answer, str):
            raise LostError(answer)
        return answer

    def picture(self, row: int) -> Scene | np.ndarray | None:
        """What a person would see of an environment."""
        return self._running[row].picture()

    def close(self) -> None:
        for row in self._running:
            row.close()


class _Worker(Group):
    """In a process of their own."""

    def __init__(self, envs: PythonEnvs, count: int, rows: list[int], memory: "_SharedMemory"):
        self.rows = rows
        self._memory = memory
        self._order = {"name": envs.name, "spec": dataclasses.asdict(envs.spec), "count": count, "rows": rows}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._answered = select.poll()  # made once: Connection.poll makes one at every call

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        order = json.dumps(self._order | {"socket": theirs.fileno(), "memory": self._memory.file})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "comarl.envs.worker", order],
            stdin=subprocess.PIPE,
            stdout=2,  # standard output is the command's own
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            pass_fds=(theirs.fileno(), self._memory.file),
            start_new_session=True,  # Ctrl-C is for the process that asks
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._answered = select.poll()
        self._answered.register(self._connection.fileno(), select.POLLIN)

    def tell(self, command: bytes) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError):  # dead: hear will find out
            os.write(self._connection.fileno(), command)

    def hear(self, seconds: float) -> list[Failure]:
        assert self._connection is not None
        try:
            if not self._answered.poll(max(seconds, 0.0) * 1000):
                self.kill()
                raise LostError(f"its process did not answer within {seconds:.0f} s")
            answer = os.read(self._connection.fileno(), 1)
            if answer == DONE:
                return []
            message = self._connection.recv_bytes()  # an end of the file where the process has ended
        except (EOFError, OSError):
            raise LostError(f"its process ended {self._ending()}") from None
        if answer == DEAD:
            raise LostError(message.decode())
        return [Failure(*failure) for failure in json.loads(message)]

    def close(self) -> None:
        """Ask the process to end, and see to it."""
        if self._process is None or self._connection is None:
            return
        self.tell(QUIT)
        self._connection.close()
        assert self._process.stdin is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process = self._connection = None

    def kill(self) -> None:
        """End the process, whatever it does."""
        assert self._process is not None
        self._process.kill()

    def _ending(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        return f"by signal {-code}" if code < 0 else f"with status {code}"


class _SharedMemory:
    """Memory without a name that processes share by a file descriptor."""

    def __init__(self, size: int):
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("comarl")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                self.file = os.dup(file.fileno())
        os.ftruncate(self.file, size)
        self.buffer = memoryview(mmap.mmap(self.file, size))
        weakref.finalize(self, os.close, self.file)


def _close_all(groups: list[Group]) -> None:
    for group in groups:
        group.close()


def _gist(trace: str) -> str:
    """The error of a traceback and where it was raised, in one line."""
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"{lines[-1]}, {places[-1]}" if places else lines[-1]
