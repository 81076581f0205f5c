"""When a run saves itself, and when it stops before its end: signals and the clock."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType

from comarl.errors import TIME_IS_UP
from comarl.training.seeds import Then

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What batch schedulers preempt with, and what Ctrl-C sends."""


class Timetable:
    """Decides after each chunk of each seed; asked by the seeds' threads.

    Only differences of a clock that never jumps are used.

    Attributes:
        why: what stopped the run, in words; empty while it goes on.
        status: what the command line exits with if the run was stopped.
    """

    def __init__(self, chunks: int, every: float, until: float, clock: Callable[[], float] = time.monotonic):
        """A timetable.

        Args:
            chunks: how many there are; the last is always followed by a snapshot.
            every: seconds between two snapshots of a seed, at least.
            until: when to stop, by ``clock``. A chunk that would take longer, going by the one before, is not begun.
            clock: the seconds.
        """
        self._chunks, self._every, self._until, self._clock = chunks, every, until, clock
        self._begun = clock()
        self._ended: dict[int, float] = {}
        self._saved: dict[int, float] = {}
        self.why, self.status = "", 0

    def stop(self, why: str, status: int) -> None:
        """Every seed stops after the chunk that it is in; the first reason counts."""
        if not self.why:
            self.status, self.why = status, why

    def decide(self, seed: int, number: int) -> Then:
        """What follows that chunk of that seed, which has ended now."""
        now = self._clock()
        took = now - self._ended.get(seed, self._begun)
        self._ended[seed] = now
        if now + took > self._until:
            self.stop("--max-time", TIME_IS_UP)
        if self.why:
            return Then.STOP
        if number + 1 < self._chunks and now - self._saved.get(seed, self._begun) < self._every:
            return Then.GO_ON
        self._saved[seed] = now
        return Then.SNAPSHOT


@contextlib.contextmanager
def obeying_signals(timetable: Timetable) -> Generator[None, None, None]:
    """SIGTERM and SIGINT stop the run after the chunk that it is in; a second one ends the process at once.

    Python lets only the main thread have signals: elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def obey(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if timetable.why:
            _say(f"{name} again: stopping at once; the last checkpoint stays")
            os._exit(128 + number)
        timetable.stop(name, 128 + number)
        _say(f"{name}: saving after this chunk of training; once more stops at once")

    before = {number: signal.signal(number, obey) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    """On a line of its own, past Python's buffers and locks, which a signal may have come upon; with the cursor."""
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{shown}\n{text}\n".encode() if shown else f"{text}\n".encode())
