"""Cores that stay awake while the devices of a CPU wait for each other.

Devices that have a seed in common meet in every update, and who comes first sleeps for a fraction of a millisecond. A
core with nothing to do halts, and a virtual machine's then belongs to somebody else: getting it back, with cold caches,
takes longer than the wait itself, a quarter of an update of QMIX (docs/speed.md).

As a program of its own, which imports nothing but the standard library: ``python awake.py PARENT``.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator


@contextlib.contextmanager
def awake(cores: int) -> Generator[None, None, None]:
    """Give so many cores something to do in a process each, which gives way to every other.

    These are processes and not threads: a thread that gives way would keep Python's lock while it does.
    Nothing is done where the system knows no such priority (it is Linux's ``SCHED_IDLE``).
    """
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        # Where no process can be started, training is slower and nothing else.
        with contextlib.suppress(OSError):
            processes += (_start(command) for _ in range(cores if hasattr(os, "SCHED_IDLE") else 0))
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle(parent: int) -> None:
    """Compute, in no other process's way, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the parent's affair
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000)  # a millisecond that touches no memory


if __name__ == "__main__":
    idle(int(sys.argv[1]))
