"""A process that steps some environments: ``python -m comarl.envs.worker``, started by :mod:`comarl.envs.processes`.

Nothing here imports JAX. What to do and what comes of it lies in shared memory; through the socket go a byte for each
step and a byte in return, behind which a message follows where something went wrong.
"""

import json
import mmap
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from comarl.envs.board import Row, board_on, board_size, move
from comarl.envs.registry import make_python
from comarl.spec import EnvSpec

RESET, STEP, QUIT = b"r", b"s", b"q"
"""What a worker is told."""

DONE, FAILED, DEAD = b"d", b"f", b"x"
"""What it answers: all went well; some environments failed (a list follows); it cannot go on (a traceback follows).

These are single bytes without :class:`Connection`'s frame, for they are all that is read at nearly every step.
"""

AWAKE_SECONDS = 600e-6
"""So long a worker looks out for the next command before it sleeps: to be woken takes a good part of a short step."""


def main(arguments: Sequence[str]) -> None:
    """Serve until told to quit, or until whoever asks is gone."""
    order = json.loads(arguments[0])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = Connection(order["socket"])
    try:
        _serve(order, connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:  # an environment may raise anything
        _answer(connection, DEAD, traceback.format_exc())


def _serve(order: dict[str, Any], connection: Connection) -> None:
    spec = EnvSpec(**_with_tuples(order["spec"]))
    memory = mmap.mmap(order["memory"], board_size(spec, order["count"]))
    board = board_on(memoryview(memory), spec, order["count"])
    rows = [Row(lambda: make_python(order["name"]), spec, board, row) for row in order["rows"]]
    told = select.poll()
    told.register(order["socket"], select.POLLIN)
    _answer(connection, DONE)
    try:
        while (command := _next_command(order["socket"], told)) not in (QUIT, b""):
            failures = move(rows, board, reset=command == RESET)
            _answer(connection, FAILED if failures else DONE, json.dumps(failures) if failures else "")
    finally:
        for row in rows:
            row.close()


def _next_command(socket: int, told: Any) -> bytes:
    """Nothing, when whoever gives commands is gone."""
    asleep = time.perf_counter() + AWAKE_SECONDS
    while not told.poll(0) and time.perf_counter() < asleep:
        os.sched_yield()  # whoever else wants this core gets it
    return os.read(socket, 1)


def _answer(connection: Connection, answer: bytes, message: str = "") -> None:
    os.write(connection.fileno(), answer)
    if message:
        connection.send_bytes(message.encode())


def _with_tuples(spec: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}


def _end_with_parent() -> None:
    """Standard input ends with the process that started this one, even if an environment hangs."""
    os.read(0, 1)  # unbuffered: a buffer's lock would be held when Python ends
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
