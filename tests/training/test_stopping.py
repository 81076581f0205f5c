"""When to save and when to stop, by a clock of the test's own."""

import ast
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import comarl
from comarl.training.seeds import Then
from comarl.training.stopping import Timetable, obeying_signals


class Clock:
    """Shows what the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def decisions(timetable: Timetable, clock: Clock, times: list[float], seed: int = 0) -> list[Then]:
    """What follows the chunks that end at those times."""
    made: list[Then] = []
    for number, clock.now in enumerate(times):
        made.append(timetable.decide(seed, number))
    return made


def test_a_snapshot_every_so_often_and_at_the_end(clock: Clock) -> None:
    timetable = Timetable(6, every=60.0, until=math.inf, clock=clock)
    made = decisions(timetable, clock, [1030.0, 1060.0, 1090.0, 1119.0, 1121.0, 1122.0])
    assert made == [Then.GO_ON, Then.SNAPSHOT, Then.GO_ON, Then.GO_ON, Then.SNAPSHOT, Then.SNAPSHOT]


def test_each_seed_has_its_own_time(clock: Clock) -> None:
    timetable = Timetable(9, every=60.0, until=math.inf, clock=clock)
    assert decisions(timetable, clock, [1060.0], seed=0) == [Then.SNAPSHOT]
    assert decisions(timetable, clock, [1061.0, 1062.0], seed=1) == [Then.SNAPSHOT, Then.GO_ON]


def test_no_chunk_is_begun_that_would_end_too_late(clock: Clock) -> None:
    # Chunks take 10 s: one that begins at 1030 ends in time for 1040, the next would not.
    timetable = Timetable(9, every=math.inf, until=1040.0, clock=clock)
    assert decisions(timetable, clock, [1010.0, 1020.0, 1030.0, 1040.0]) == [Then.GO_ON] * 3 + [Then.STOP]
    assert (timetable.why, timetable.status) == ("--max-time", 75)
    assert timetable.decide(1, 0) is Then.STOP


def test_the_first_reason_counts(clock: Clock) -> None:
    timetable = Timetable(9, every=math.inf, until=math.inf, clock=clock)
    timetable.stop("SIGTERM", 143)
    timetable.stop("SIGINT", 130)
    assert (timetable.why, timetable.status) == ("SIGTERM", 143)
    assert timetable.decide(0, 0) is Then.STOP


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_timetable_and_nothing_else(
    capfd: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    before = signal.getsignal(number)
    timetable = Timetable(9, every=math.inf, until=math.inf)
    with obeying_signals(timetable):
        os.kill(os.getpid(), number)
    assert (timetable.why, timetable.status) == (number.name, status)
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err == f"{number.name}: saving after this chunk of training; once more stops at once\n"


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, math\nfrom comarl.training.stopping import Timetable, obeying_signals\n"
        "with obeying_signals(Timetable(1, math.inf, math.inf)):\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally: print('not reached')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("SIGINT again: stopping at once; the last checkpoint stays\n")


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with obeying_signals(Timetable(1, math.inf, math.inf)):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_no_clock_that_jumps_is_asked() -> None:
    """Of the wall clock only the date of a session is taken, which nothing is computed from."""
    wall = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
    asked = {
        path.name
        for path in Path(comarl.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and (getattr(node.value, "id", getattr(node.value, "attr", "")), node.attr) in wall
    }
    assert asked == {"provenance.py"}
