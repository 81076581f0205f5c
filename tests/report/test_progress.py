"""What a run shows while it goes on."""

import io
import math
import re
import sys

import pytest
from rich.console import Console

from comarl.report.progress import LineProgress, LiveProgress, make_progress

ROW = {"epsilon": 0.5, "loss": 0.01234, "score": 0.8125, "grad_norm": 3.0}
NOT_LEARNT = {"epsilon": 1.0, "loss": math.nan, "score": 0.0}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = LineProgress(clock)
    progress.say("compiling …")
    clock.now = 150.0  # compiling is no part of the pace
    progress.start({3: 0, 4: 0}, 20_000, "win rate")
    clock.now = 152.0
    progress.update(3, 5_000, NOT_LEARNT)
    clock.now = 154.0
    progress.update(4, 15_000, ROW)
    progress.stop()
    # 5000 steps in 2 s, 35000 of 40000 left: 14 s. Then 20000 in 4 s, 20000 left: 4 s.
    assert capsys.readouterr().err.splitlines() == [
        "compiling …",
        "seed 3: 5,000 of 20,000 steps, ε 1.00, loss –, win rate 0.0%, 2,500 steps/s, 0:02 elapsed, 0:14 left",
        "seed 4: 15,000 of 20,000 steps, ε 0.50, loss 0.0123, win rate 81.2%, 5,000 steps/s, 0:04 elapsed, 0:04 left",
    ]


def test_returns_are_no_percentages(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress(Clock())
    progress.start({0: 0}, 10, "return (mean over the agents, summed over the episode)")
    progress.update(0, 10, ROW | {"score": -33.219})
    assert ", return -33.22, " in capsys.readouterr().err


def plain(text: str) -> str:
    """Without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def live(width: int) -> tuple[LiveProgress, io.StringIO, Clock]:
    """A live display on a terminal of that width."""
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, width=width, height=24, _environ={"TERM": "xterm"})
    return LiveProgress(console, clock), stream, clock


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_hold_every_number_and_fit(width: int) -> None:
    progress, stream, clock = live(width)
    progress.start({0: 0, 11: 0}, 1_000_000, "return (mean over the agents)")
    clock.now = 110.0
    progress.update(0, 250_000, NOT_LEARNT | {"score": -123.4})
    progress.update(11, 1_000_000, ROW | {"score": -33.2})
    progress.stop()
    shown = plain(stream.getvalue()).splitlines()
    assert max(map(len, shown)) <= width
    # The last frame: 1.25 of 2 million steps in 10 s leave 6 s.
    pace, head, first, second = shown[-4:]
    assert pace.strip() == "125,000 steps/s, 0:10 elapsed, 0:06 left"
    assert head.split() == ["steps", "ε", "loss", "return"]
    assert first.split()[:2] == ["seed", "0"]
    assert first.split()[-4:] == ["250k/1M", "1.00", "–", "-123.40"]
    assert second.split()[-4:] == ["1M/1M", "0.50", "0.0123", "-33.20"]
    filled, empty = (len(re.findall("[━╸╺]", line)) for line in (second, first))
    assert filled == empty >= 4


def test_time_left_counts_down_between_news() -> None:
    progress, stream, clock = live(80)
    progress.start({0: 0}, 100, "win rate")
    clock.now = 110.0
    progress.update(0, 50, ROW)  # 5 steps/s: 10 s more
    clock.now = 117.0
    progress.stop()
    assert "5 steps/s, 0:17 elapsed, 0:03 left" in plain(stream.getvalue())


def test_what_is_under_way_goes_and_what_is_over_stays() -> None:
    progress, stream, clock = live(80)
    progress.say("compiling qmix …")
    clock.now = 165.0
    progress.say("compiled in 65.0 s")
    progress.stop()
    text = stream.getvalue()
    assert "compiling qmix … 0:00" in plain(text)
    assert "compiled in 65.0 s\n" in plain(text)
    assert "\x1b[?25l" in text  # the cursor is hidden ...
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # ... and shown again
    assert text.rindex("\x1b[2K") > text.rindex("compiling")  # the line is wiped


def test_stop_may_come_twice_or_first() -> None:
    progress, _, _ = live(80)
    progress.stop()
    progress.start({0: 0}, 10, "win rate")
    progress.stop()
    progress.stop()


def test_no_control_characters_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = make_progress()
    progress.say("compiling …")
    progress.start({0: 0}, 10, "win rate")
    progress.update(0, 10, ROW)
    progress.stop()
    assert len(stream.getvalue().splitlines()) == 2
    assert not set(stream.getvalue()) & set("\x1b\r\b")
