"""The driver's loop, for any engine and any work: give, hear, take, until nothing is left."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pfgdata.cluster.host import Data, Spec
from pfgdata.cluster.queue import Queue, len_of
from pfgdata.errors import ClusterError, StoreError
from pfgdata.records import Progress
from pfgdata.store import Span

__all__ = [
    "Answered",
    "Brought",
    "Crew",
    "Driver",
    "Engine",
    "Event",
    "Finished",
    "Gone",
    "Joined",
    "Work",
    "WorkerRate",
]

_TURN = 0.25  # seconds between two looks at the clock
_HUNG = 600.0  # seconds without a batch after which a worker that answers counts as silent
_LAST = 60.0  # seconds that workers have to end what they are at, once asked to stop
_ERRORS = 3  # in a row, after which a worker is sent away


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a worker did."""

    worker: str


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """It has loaded its model."""

    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """It lives: images of its span so far, and seconds since something moved."""

    images: int
    quiet: float


@dataclass(frozen=True, slots=True)
class Brought(Event):
    """It has done the images of a span."""

    span: Span
    data: Data | None


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """It has ended what it was given, and brought all that it had; `error` is what went wrong."""

    facts: Mapping[str, Any]
    error: str | None


@dataclass(frozen=True, slots=True)
class Gone(Event):
    """It is no more: it died, or (`died` is False) cannot do this work."""

    reason: str
    died: bool


class Crew(Protocol):
    """The workers of an engine, as far as they are there."""

    @property
    def places(self) -> int:
        """How many workers there are to be, as far as is known."""

    @property
    def hopes(self) -> bool:
        """Whether a worker may still come."""

    def events(self, seconds: float) -> Sequence[Event]:
        """What happened; waits for something for at most so long."""

    def give(self, worker: str, span: Span, payload: bytes) -> None:
        """Let a worker do a span."""

    def dismiss(self, worker: str) -> None:
        """Do without a worker from now on."""

    def stop(self) -> None:
        """Ask all to end after the batch they are at."""

    def label(self, worker: str) -> str:
        """What people call it."""


class Engine(Protocol):
    """What has workers."""

    def crew(self, spec: Spec, *, gpu: bool | None, progress: Progress) -> AbstractContextManager[Crew]:
        """Workers that load `spec`, each on a GPU or not (None: where there are GPUs), until the block ends.

        Raises ClusterError where there are none to be had.
        """


class Work(Protocol):
    """What is to be done, on the driver's side."""

    def payload(self, span: Span) -> bytes:
        """What a worker needs to do a span."""

    def check(self, span: Span, data: Data | None) -> Span | None:
        """The images that were really brought; None where nothing is there (any more).

        Raises StoreError where it is not whole.
        """

    def take(self, span: Span, fresh: Sequence[Span], data: Data | None) -> None:
        """Keep what was brought: of a span that others brought in part, only what is `fresh`."""

    def fail(self, span: Span) -> None:
        """Name one image that took too many workers with it."""

    def told(self, worker: str, facts: Mapping[str, Any]) -> None:
        """Hear what a worker says beside."""


@dataclass(slots=True)
class WorkerRate:
    """What one worker did: images, in how many seconds of work."""

    images: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Of the seconds that it had work."""
        return self.images / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, float]:
        """For `--json`."""
        rate = round(self.images_per_second, 2)
        return {"images": self.images, "seconds": round(self.seconds, 3), "images_per_second": rate}


@dataclass(slots=True)
class _Task:
    """What a worker is at."""

    span: Span
    since: float
    images: int = 0  # done so far, as it says
    brought: int = 0  # of them
    is_told: bool = False  # that something of it came damaged

    @property
    def under_way(self) -> int:
        """Images done and not brought."""
        return max(0, min(self.images, len_of(self.span)) - self.brought)


@dataclass(slots=True)
class Driver:
    """One run. `rates` are by worker, `interrupted` says whether `stop` ended it."""

    crew: Crew
    work: Work
    queue: Queue
    progress: Progress
    clock: Callable[[], float] = time.monotonic
    rates: defaultdict[str, WorkerRate] = field(default_factory=lambda: defaultdict(WorkerRate))
    interrupted: bool = False
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _errors: Counter[str] = field(default_factory=Counter)
    _named: int = 0  # failures told to the work
    _ended: int = 0  # images
    _shown: int = 0
    _last_reason: str = ""
    _listened: float | None = None  # until when
    _deaf: float = 0.0  # seconds since the start in which it did not listen: nobody was silent in them

    def run(self, stop: Callable[[], bool]) -> None:
        """Until every image is done or named, or `stop`. Raises ClusterError where nobody can do it."""
        while not self.queue.is_over:
            if stop():
                self.interrupted = True
                self._wind_down()
                return
            self._turn(gives=True)
            if not self.queue.workers and not self.crew.hopes:
                raise ClusterError(f"no worker is left: {self._last_reason}")

    def _wind_down(self) -> None:
        """Let workers end their batch, and keep what they bring."""
        self.crew.stop()
        until = self.clock() + _LAST
        while self._tasks and self.clock() < until:
            self._turn(gives=False)

    def _turn(self, *, gives: bool) -> None:
        taken = [kept for event in self._events() if (kept := self._heard(event))]
        for name in self.queue.look(now=self._now()):
            self.progress.say(f"worker {self.crew.label(name)} is silent; its images are given again")
        if gives:  # before what was brought is kept: workers are not to wait for that
            for worker in self.queue.workers:
                self._give(worker)
        for brought, fresh in taken:
            self.work.take(brought.span, fresh, brought.data)
        for span in self.queue.failed[self._named :]:
            self.work.fail(span)
            self._ended += 1
        self._named = len(self.queue.failed)
        under_way = sum(task.under_way for task in self._tasks.values())
        if (shown := self._ended + under_way) > self._shown:
            self.progress.advance(shown - self._shown)
            self._shown = shown

    def _events(self) -> Sequence[Event]:
        """What happened; nobody was heard since it was last asked, as in a commit that took minutes."""
        now = self.clock()
        self._deaf += 0.0 if self._listened is None else now - self._listened
        events = self.crew.events(_TURN)
        self._listened = self.clock()
        return events

    def _now(self) -> float:
        """The time by which the queue measures silence."""
        assert self._listened is not None
        return self._listened - self._deaf

    def _give(self, worker: str) -> None:
        if span := self.queue.give(worker):
            self._tasks[worker] = _Task(span, self.clock())
            self.crew.give(worker, span, self.work.payload(span))

    def _heard(self, event: Event) -> tuple[Brought, list[Span]] | None:
        """Put an event on record; what it brings is to be taken."""
        now, worker = self._now(), event.worker
        if isinstance(event, Joined):
            self.queue.join(worker, now=now)
        elif isinstance(event, Answered):
            if event.quiet < _HUNG:
                self.queue.heard(worker, now=now)
            if task := self._tasks.get(worker):
                task.images = event.images
        elif isinstance(event, Brought):
            return self._brought(event)
        elif isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, Gone):
            self._last_reason = event.reason
            self.progress.say(f"worker {self.crew.label(worker)}: {event.reason}")
            self._end_task(worker)
            self.queue.gone(worker, died=event.died)
        return None

    def _brought(self, event: Brought) -> tuple[Brought, list[Span]] | None:
        if not self.queue.lacks(event.span):
            return None  # late: others have brought it
        try:
            span = self.work.check(event.span, event.data)
        except StoreError as problem:
            if task := self._tasks.get(event.worker):
                task.is_told = True
            self._trouble(event.worker, str(problem))
            return None
        if span is None:
            return None
        fresh = self.queue.brought(span)
        count = sum(map(len_of, fresh))
        self._ended += count
        self.rates[self.crew.label(event.worker)].images += count
        if task := self._tasks.get(event.worker):
            task.brought += len_of(event.span)
        return (event, fresh) if fresh else None

    def _finished(self, event: Finished) -> None:
        self.work.told(self.crew.label(event.worker), event.facts)
        task = self._tasks.get(event.worker)
        lacks = task is not None and not self.interrupted and self.queue.lacks(task.span)
        self._end_task(event.worker)
        self.queue.finished(event.worker, now=self._now())
        if event.error:
            self._trouble(event.worker, event.error)
        elif not lacks:
            self._errors.pop(event.worker, None)
        elif task and not task.is_told:
            self._trouble(event.worker, "what it says that it has made is not here")

    def _trouble(self, worker: str, reason: str) -> None:
        """A worker fails, and lives: it is sent away when that goes on."""
        self._last_reason = reason
        self._errors[worker] += 1
        self.progress.say(f"worker {self.crew.label(worker)}: {reason}")
        if self._errors[worker] >= _ERRORS:
            self.crew.dismiss(worker)
            self._end_task(worker)
            self.queue.gone(worker, died=False)

    def _end_task(self, worker: str) -> None:
        if task := self._tasks.pop(worker, None):
            self.rates[self.crew.label(worker)].seconds += self.clock() - task.since
