"""How a run goes on, on standard error: a live display on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from comarl.experiments.scores import short, show_score

Clock = Callable[[], float]


def make_progress() -> "LiveProgress | LineProgress":
    """The display that fits standard error."""
    console = Console(file=sys.stderr)
    return LiveProgress(console) if console.is_interactive else LineProgress()


class Pace:
    """How fast all seeds together come forward.

    Attributes:
        steps: environment steps of each seed so far.
        total: environment steps wanted of each seed.
    """

    def __init__(self, begun: Mapping[int, int], total: int, clock: Clock):
        self.steps = dict(begun)
        self.total = total
        self._before = sum(begun.values())
        self._clock, self._start = clock, clock()
        self._end: float | None = None
        self._measured = 0.0

    @property
    def seconds(self) -> float:
        """Since the start, until :meth:`stop`."""
        return (self._clock() if self._end is None else self._end) - self._start

    def advance(self, seed: int, steps: int) -> None:
        """A seed has come this far; the pace is measured at these moments."""
        self.steps[seed] = steps
        self._measured = self.seconds

    def rate(self) -> float:
        """Environment steps per second, all seeds together; NaN before there is news."""
        done = sum(self.steps.values()) - self._before
        return done / self._measured if done and self._measured > 0 else math.nan

    def left(self) -> float:
        """Seconds until the end at this pace, counting down between news; NaN before there is news."""
        wanted, rate = self.total * len(self.steps) - self._before, self.rate()
        return math.nan if math.isnan(rate) else max(0.0, wanted / rate - self.seconds)

    def stop(self) -> None:
        """Let no more time pass."""
        self._end = self._clock()


class LineProgress:
    """A plain line per piece of news on standard error, without control characters."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock

    def say(self, text: str) -> None:
        """A line."""
        print(text, file=sys.stderr, flush=True)

    def start(self, begun: Mapping[int, int], steps: int, score: str) -> None:
        """Begin to measure the pace."""
        self._pace, self._score = Pace(begun, steps, self._clock), score

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """A line with all the numbers."""
        self._pace.advance(seed, env_steps)
        epsilon, loss, score = _numbers(row, self._score)
        self.say(
            f"seed {seed}: {env_steps:,} of {self._pace.total:,} steps, ε {epsilon}, loss {loss}, "
            f"{short(self._score)} {score}, {_pace(self._pace)}"
        )

    def stop(self) -> None:
        """Nothing is open."""


class LiveProgress:
    """What is under way, with its time; in training the pace, and each seed's bar with its latest news."""

    def __init__(self, console: Console, clock: Clock = time.monotonic):
        self._console, self._clock = console, clock
        self._live: Live | None = None
        self._pace: Pace | None = None

    def say(self, text: str) -> None:
        """A line that stays, or, if it ends with …, one that shows its time and goes."""
        if not text.endswith("…"):
            self._console.print(text, highlight=False)
            return
        self.stop()
        spinner, start = Spinner("dots"), self._clock()

        def show() -> RenderableType:
            spinner.update(text=f"{text} {_minutes(self._clock() - start)}")
            return spinner

        self._show(show, transient=True)

    def start(self, begun: Mapping[int, int], steps: int, score: str) -> None:
        """Draw the bars."""
        self.stop()
        self._pace, self._score = Pace(begun, steps, self._clock), score
        self._rows: dict[int, tuple[str, str, str]] = dict.fromkeys(begun, ("–", "–", "–"))
        self._show(self._bars, transient=False)

    def update(self, seed: int, env_steps: int, row: dict[str, float]) -> None:
        """Move the seed's bar."""
        assert self._pace is not None
        self._pace.advance(seed, env_steps)
        self._rows[seed] = _numbers(row, self._score)

    def stop(self) -> None:
        """Leave the bars as they are and the terminal as it was."""
        if self._pace:
            self._pace.stop()
        if self._live:
            self._live.stop()
        self._live = self._pace = None

    def _show(self, what: Callable[[], RenderableType], *, transient: bool) -> None:
        self._live = Live(console=self._console, get_renderable=what, refresh_per_second=4, transient=transient)
        self._live.start()

    def _bars(self) -> RenderableType:
        assert self._pace is not None
        table = Table.grid(padding=(0, 2), expand=False)
        for width in (0, 0, 11, 4, 8, 8):  # numbers that grow move no column
            table.add_column(justify="right" if width else "left", no_wrap=True, min_width=width)
        table.add_row("", "", "steps", "ε", "loss", short(self._score), style="dim")
        width = max(4, min(30, self._console.width - BESIDE_BAR - len(short(self._score))))
        for seed, numbers in self._rows.items():
            steps = self._pace.steps[seed]
            bar = ProgressBar(total=self._pace.total, completed=steps, width=width)
            table.add_row(f"seed {seed}", bar, f"{_steps(steps)}/{_steps(self._pace.total)}", *numbers)
        # The pace stands above, where many seeds on a low terminal do not push it out.
        return Group(Text(_pace(self._pace)), table)


BESIDE_BAR = 44
"""Columns that everything beside a bar takes, but for the score."""


def _numbers(row: dict[str, float], score: str) -> tuple[str, str, str]:
    loss = row["loss"]
    epsilon = f"{row['epsilon']:.2f}" if "epsilon" in row else "–"
    return epsilon, "–" if math.isnan(loss) else f"{loss:.3g}", show_score(score, row["score"])


def _pace(pace: Pace) -> str:
    if math.isnan(pace.rate()):
        return f"{_minutes(pace.seconds)} elapsed"
    return f"{pace.rate():,.0f} steps/s, {_minutes(pace.seconds)} elapsed, {_minutes(pace.left())} left"


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    hours = f"{whole // 3600}:{whole % 3600 // 60:02}" if whole >= 3600 else str(whole // 60)
    return f"{hours}:{whole % 60:02}"


def _steps(steps: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if steps >= size:
            return f"{steps / size:.3g}{letter}"
    return str(steps)
