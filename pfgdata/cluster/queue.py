"""Which worker does which images: a span is given, given again, halved, until each image is done or named.

It knows no engine and no clock: a worker is a name, and the time is an argument. Workers may answer late or
twice: an image ends once, with whoever brings it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pfgdata.errors import ClusterError
from pfgdata.ingest import Covered
from pfgdata.store import Span

__all__ = ["Patience", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker may be silent, and the run be without one, in seconds; how often a span may fail."""

    silence: float = 60.0
    alone: float = 300.0
    deaths: int = 3  # of workers that had a span, until it is halved; at one image it is a failure


@dataclass(slots=True)
class _Try:
    """A span to be brought, and how many workers have died or fallen silent with it."""

    span: Span
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    """When a worker last answered, what it works on, and whether that has been given again."""

    heard: float
    task: _Try | None = None
    is_retired: bool = False
    was_given_again: bool = False


class Queue:
    """Spans to be done by workers that come and go; images that nobody can do are in `failed`, one each."""

    def __init__(self, spans: Iterable[Span], *, patience: Patience | None = None, now: float) -> None:
        self._patience = patience or Patience()
        self._waiting = deque(_Try(span) for span in spans if len_of(span))
        self._workers: dict[str, _Worker] = {}
        self._ended = Covered()
        self._anyone = now  # when there last was a worker
        self.left = sum(len_of(task.span) for task in self._waiting)  # images neither done nor failed
        self.failed: list[Span] = []

    @property
    def is_over(self) -> bool:
        """Whether every image is done or failed."""
        return not self.left

    @property
    def workers(self) -> list[str]:
        """Those that answer."""
        return [name for name, worker in self._workers.items() if not worker.is_retired]

    def join(self, worker: str, *, now: float) -> None:
        """A worker is ready."""
        self._workers[worker] = _Worker(now)
        self._anyone = now

    def heard(self, worker: str, *, now: float) -> None:
        """A worker answers; a retired one is back. One that has not joined yet counts as one to come."""
        self._anyone = now
        if known := self._workers.get(worker):
            known.heard, known.is_retired = now, False

    def give(self, worker: str) -> Span | None:
        """What a worker is to do next; None where it is busy, retired or unknown, or nothing waits."""
        known = self._workers.get(worker)
        if known is None or known.is_retired or known.task:
            return None
        while self._waiting:
            task = self._waiting.popleft()
            gaps = self._ended.gaps(task.span)
            if gaps:
                self._waiting.extendleft(_Try(gap, task.deaths) for gap in reversed(gaps[1:]))
                known.task, known.was_given_again = _Try(gaps[0], task.deaths), False
                return gaps[0]
        return None

    def lacks(self, span: Span) -> bool:
        """Whether any of these images is neither done nor failed."""
        return bool(self._ended.gaps(span))

    def brought(self, span: Span) -> list[Span]:
        """Images are done, by whomever; which of them nobody has ended before: only those count."""
        fresh = self._ended.gaps(span)
        self._end(span)
        return fresh

    def finished(self, worker: str, *, now: float) -> None:
        """A worker has ended what it was given; what of that it has not brought is given again."""
        known = self._workers.get(worker)
        if known is None:
            return
        self._anyone = known.heard = now
        known.is_retired = False
        self._give_again(known, deaths=0)
        known.task = None

    def gone(self, worker: str, *, died: bool = True) -> None:
        """A worker is no more; what it had is given again, and held against that where the worker `died`."""
        if known := self._workers.pop(worker, None):
            self._give_again(known, deaths=int(died))

    def look(self, *, now: float) -> list[str]:
        """Retire who has been silent for too long, and name them; what they have is given again.

        Raises ClusterError where there has been no worker for too long.
        """
        retired = []
        for name, worker in self._workers.items():
            if not worker.is_retired and now - worker.heard > self._patience.silence:
                worker.is_retired = True
                self._give_again(worker, deaths=1)
                retired.append(name)
        if self.workers:
            self._anyone = now
        elif self.left and now - self._anyone > self._patience.alone:
            raise ClusterError(
                f"no worker for {self._patience.alone:,.0f} s, and {self.left:,} images are left; what is"
                " done is kept: look after the cluster (ray status), then run the same again"
            )
        return retired

    def _give_again(self, worker: _Worker, *, deaths: int) -> None:
        """Put what a worker has back, or what became of it: halves, or a failure."""
        task = worker.task
        if task is None or worker.was_given_again:
            return
        worker.was_given_again = True
        task.deaths += deaths
        for gap in self._ended.gaps(task.span):
            if task.deaths < self._patience.deaths:
                again = [_Try(gap, task.deaths)]
            elif len_of(gap) > 1:
                middle = (gap.start + gap.stop) // 2
                again = [_Try(gap._replace(stop=middle)), _Try(gap._replace(start=middle))]
            else:
                self._end(gap)
                self.failed.append(gap)
                continue
            if deaths:
                self._waiting.extend(again)  # behind all that may go well
            else:
                self._waiting.extendleft(reversed(again))

    def _end(self, span: Span) -> None:
        self.left -= self._ended.add(span)


def len_of(span: Span) -> int:
    """How many images are in it (a Span is a tuple, whose own length is another)."""
    return span.stop - span.start
