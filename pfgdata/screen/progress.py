"""How far a long work is, on stderr: rate, ETA and figures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from pfgdata.screen.printing import console_on, duration, printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["ScreenProgress"]

PLAIN_SECONDS = 10.0  # between two lines where stderr is no terminal
BRIEF_SECONDS = 2.0  # a brief task that took less leaves no line


@dataclass(slots=True)
class _Task:
    name: str
    total: int | None
    unit: str
    brief: bool
    began: float
    said: float
    done: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    bar: TaskID | None = None


class ScreenProgress:
    """A `records.Progress` on stderr: a live bar on a terminal, else a line every ten seconds and at the end.

    Use it as a context manager, so that an error finds the terminal as it was.
    """

    def __init__(
        self,
        *,
        stream: IO[str] | None = None,
        interval: float = PLAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._interval = interval
        self._clock = clock
        self._tasks: list[_Task] = []
        self._bars: RichProgress | None = None

    def __enter__(self) -> ScreenProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.clear()
        self._stop_bars()

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins; a `brief` one leaves a line behind only if it took seconds."""
        now = self._clock()
        begun = _Task(task, total, unit, brief, began=now, said=now)
        self._tasks.append(begun)
        if self._live:
            if self._bars is None:
                self._bars = _bars(self._stream)
                self._bars.start()
            begun.bar = self._bars.add_task(task, total=total, rate="", figures="")

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more units are done; `figures` are shown beside the rate (loss=0.12)."""
        task = self._tasks[-1]
        task.done += count
        task.figures.update(figures)
        now = self._clock()
        if self._bars is not None and task.bar is not None:
            rate = f"{_rate(task, now)} {task.unit}/s"
            self._bars.update(task.bar, advance=count, rate=rate, figures=_figures(task.figures))
        elif not self._live and now - task.said >= self._interval:
            task.said = now
            self._line(_plain(task, now))

    def say(self, message: str) -> None:
        """One line a person should read now."""
        if self._bars is not None:
            self._bars.console.print(printable(message), markup=False, highlight=False, soft_wrap=True)
        else:
            self._line(printable(message))

    def finish(self) -> None:
        """The task begun last has ended; what it did stays on the screen as one line."""
        task, now = self._tasks.pop(), self._clock()
        if self._bars is not None and task.bar is not None:
            self._bars.remove_task(task.bar)
        if not self._tasks:
            self._stop_bars()
        if task.total != 0 and not (task.brief and now - task.began < BRIEF_SECONDS):  # else nothing to say
            self.say(_plain(task, now, ended=True))

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def _bars(stream: IO[str]) -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[figures]}", markup=False),
        Elapsed(),
        TextColumn("ETA"),
        Remaining(),
        console=console_on(stream),
        transient=True,
    )


def _rate(task: _Task, now: float) -> str:
    rate = task.done / (now - task.began) if now > task.began else 0.0
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _figures(figures: Mapping[str, float]) -> str:
    """Whole numbers, as of steps, whole."""
    return " ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in figures.items()
    )


def _plain(task: _Task, now: float, *, ended: bool = False) -> str:
    """One line: what, how far, how fast, for how long, how much longer."""
    took = now - task.began
    of = f"/{task.total:,}" if task.total is not None else ""
    parts = [f"{task.name}: {task.done:,}{of} {task.unit}", f"{_rate(task, now)}/s", duration(took)]
    if not ended and task.total is not None and 0 < task.done <= task.total:
        parts.append(f"ETA {duration(took / task.done * (task.total - task.done))}")
    return ", ".join([*parts, *([_figures(task.figures)] if task.figures else [])])
