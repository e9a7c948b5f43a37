"""What runs on a worker's side of any engine: it is loaded once, does spans, and answers while it works.

`work` is one thread's; `beat`, `take` and `stop` are called by others meanwhile.
"""

from __future__ import annotations

import pickle
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pfgdata.errors import PfgError
from pfgdata.records import NoProgress
from pfgdata.store import Span, installed_versions

__all__ = ["Beat", "Data", "Desk", "Doer", "Done", "Host", "Seat", "Spec", "this_version"]

Data = Mapping[str, bytes]  # what a worker brings, in pieces with names

_HELD = 4  # results that wait to be taken: the worker waits for the driver then


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a worker runs: on a GPU of its own or not, and on how many cores (None: all of its machine)."""

    gpu: bool = False
    threads: int | None = None


class Desk(NoProgress):
    """Where a doer puts what it has done, and asks whether to stop. A Progress: `advance` counts images."""

    def __init__(self) -> None:
        self.images = 0  # of the span under way
        self.is_stopped = False
        self._changed = threading.Condition()
        self._results: dict[int, tuple[Span, Data | None]] = {}
        self._number = 0
        self._moved = time.monotonic()

    def advance(self, count: int = 1, **figures: float) -> None:
        """Some more images of the span are done."""
        self.images += count
        self._moved = time.monotonic()

    def stop(self) -> bool:
        """Whether to end after the batch under way."""
        return self.is_stopped

    def hand(self, span: Span, data: Data | None) -> None:
        """Hand in what was made of `span`: its bytes, or None where it lies in the driver's sight.

        Waits while too much waits to be taken.
        """
        with self._changed:
            while len(self._results) >= _HELD and not self.is_stopped:
                self._changed.wait(1)
                self._moved = time.monotonic()
            self._results[self._number] = span, data
            self._number += 1
        self._moved = time.monotonic()

    def waiting(self) -> list[int]:
        """The numbers of what is handed in."""
        with self._changed:
            return list(self._results)

    def take(self, number: int) -> tuple[Span, Data | None] | None:
        """What was handed in under a number; None where it was taken before."""
        with self._changed:
            self._changed.notify_all()
            return self._results.pop(number, None)

    @property
    def quiet(self) -> float:
        """Seconds since something moved."""
        return time.monotonic() - self._moved

    def begin(self) -> None:
        """A new span begins."""
        self.images, self._moved = 0, time.monotonic()


class Doer(Protocol):
    """A loaded tagger or encoder, at work."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it is, for the driver: its provider."""

    def do(self, span: Span, payload: bytes, desk: Desk) -> Mapping[str, Any]:
        """Do a span and hand in what it brings; what else the driver is to know."""


class Spec(Protocol):
    """All that a worker is told at its start; it pickles, and means the same to one version of pfg only."""

    def load(self, seat: Seat) -> Doer:
        """Raises PfgError where this worker cannot do what the others do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life: images of the span under way, seconds since something moved, results to be taken."""

    images: int
    quiet: float
    waiting: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The end of a span: the results not taken yet, and what went wrong, if anything did."""

    rest: list[tuple[Span, Data | None]]
    facts: Mapping[str, Any]
    error: str | None


class Host:
    """One worker."""

    def __init__(self) -> None:
        self._desk = Desk()
        self._doer: Doer | None = None

    def hello(self) -> tuple[str, str]:
        """The version of pfg and of Python here, before anything else is told."""
        return this_version(), platform.python_version()

    def load(self, spec: bytes, gpu: bool, threads: int | None) -> tuple[Mapping[str, Any], str | None]:
        """Load what the spec says; facts of it, or why this worker is none."""
        try:
            asked: Spec = pickle.loads(spec)
            self._doer = asked.load(Seat(gpu=gpu, threads=threads))
            return self._doer.facts, None
        except PfgError as problem:
            return {}, str(problem)

    def work(self, span: tuple[str, int, int, int], payload: bytes) -> Done:
        """Do a span."""
        assert self._doer is not None
        desk, error, facts = self._desk, None, dict[str, Any]()
        desk.begin()
        try:
            facts.update(self._doer.do(Span(*span), payload, desk))
        except PfgError as problem:
            error = str(problem)
        except Exception as problem:  # of a library: it is this worker's trouble, and named
            error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        rest = [result for number in desk.waiting() if (result := desk.take(number))]
        return Done(rest=rest, facts=facts, error=error)

    def beat(self) -> Beat:
        """Say how it is."""
        return Beat(images=self._desk.images, quiet=self._desk.quiet, waiting=self._desk.waiting())

    def take(self, number: int) -> tuple[Span, Data | None] | None:
        """What was handed in under a number; None where it was taken before."""
        return self._desk.take(number)

    def stop(self) -> None:
        """End after the batch under way."""
        self._desk.is_stopped = True


def this_version() -> str:
    """Of pfg; "checkout" where it is not installed."""
    return installed_versions(["pfg"])["pfg"] or "checkout"
