"""The search for duplicates as a job beside the page: it says how far it is, and can be cancelled.

And of one image, at once: its candidates are the nearest hashes of the whole store.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from pfgdata.errors import PfgError, QueryError
from pfgdata.records import NoProgress
from pfgdata.similarity import DuplicateOptions, DuplicateReport, Member, find_duplicates
from pfgdata.web.ask import Ask
from pfgdata.web.catalog import Rows, text_of
from pfgdata.web.desk import Desk, Shown
from pfgdata.web.detail import places_of

__all__ = ["Jobs", "duplicates_of"]

_KEPT = 4  # jobs whose answer can still be read
_STARS = 2000  # told of one job
_AROUND = 24  # candidates of one image that are decoded and compared
_ORDER = ("same", "copy", "variant", "unsure")


class _CancelledError(Exception):
    """The job is to end."""


class _Job(NoProgress):
    """One search: its state, and the Progress that ends it."""

    def __init__(self) -> None:
        self.state = "running"
        self.done, self.total = 0, 0
        self.error: str | None = None
        self.stars: list[dict[str, Any]] = []
        self.more = 0
        self.cancelled = threading.Event()

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A part of it begins."""
        self.done, self.total = 0, total or 0
        self.advance(0)

    def advance(self, count: int = 1, **figures: float) -> None:
        """So many are done; raise where it is to end."""
        if self.cancelled.is_set():
            raise _CancelledError
        self.done += count

    def answer(self) -> dict[str, Any]:
        """As JSON has it."""
        facts = {name: getattr(self, name) for name in ("state", "done", "total", "error")}
        return {**facts, "stars": self.stars, "more": self.more}


class Jobs:
    """The searches of one page: one at a time, the last few can be read."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, ask: Ask, radius: int) -> str:
        """Begin a search among what `ask` selects; the id of the job. Raises QueryError where one runs."""
        shown = self._desk.shown
        question = ask.question(shown.snapshot)
        job, name = _Job(), secrets.token_hex(8)
        options = DuplicateOptions(
            radius=radius,
            least=ask.thresholds.least(shown.snapshot.vocabulary),
            decided=self._desk.store.verdicts(),
        )
        with self._lock:
            if any(one.state == "running" for one in self._jobs.values()):
                raise QueryError("a search for duplicates is under way; wait for it, or cancel it")
            self._jobs[name] = job
            while len(self._jobs) > _KEPT:
                self._jobs.popitem(last=False)

        def work() -> None:
            rows = self._desk.rows_of(shown, question, ask.thresholds)
            report = find_duplicates(
                shown.snapshot,
                shown.catalog.selection(rows),
                options=options,
                roots=shown.roots,
                progress=job,
            )
            job.more = max(0, len(report.stars) - _STARS)
            job.stars = _stars(shown, report)

        threading.Thread(target=_run, args=(job, work), name="pfg-duplicates", daemon=True).start()
        return name

    def answer(self, name: str) -> dict[str, Any] | None:
        """How far a job is and what it found; None for one that is not known."""
        job = self._jobs.get(name)
        return None if job is None else job.answer()

    def cancel(self, name: str) -> dict[str, Any] | None:
        """End a job at its next picture."""
        job = self._jobs.get(name)
        if job is None:
            return None
        job.cancelled.set()
        return job.answer()


def duplicates_of(desk: Desk, shown: Shown, rows: Rows, ask: Ask) -> dict[str, Any]:
    """The copies and variants of the image of `rows`, as a search of the whole store would pair it."""
    begun, catalog = time.perf_counter(), shown.catalog
    options = DuplicateOptions(
        least=ask.thresholds.least(shown.snapshot.vocabulary), decided=desk.store.verdicts()
    )
    bits = np.bitwise_count(catalog.phash ^ catalog.phash[rows[-1]])
    bits[rows] = 0
    near = np.flatnonzero(bits <= options.radius)
    near = near[np.argsort(bits[near], kind="stable")][: len(rows) + _AROUND]
    among = catalog.selection(np.sort(near).astype(np.uint32))
    report = find_duplicates(shown.snapshot, among, options=options, roots=shown.roots)
    this, found = text_of(catalog.content_ids[rows[-1]]), []
    for star in _stars(shown, report):
        if star["keep"]["content_id"] == this:
            found += star["members"]
        else:
            found += [{**one, **star["keep"]} for one in star["members"] if one["content_id"] == this]
    results = [one for one in found if one["content_id"] != this]
    return {"results": results, "seconds": round(time.perf_counter() - begun, 4)}


def _run(job: _Job, work: Any) -> None:
    try:
        work()
        job.state = "done"
    except _CancelledError:
        job.state = "cancelled"
    except PfgError as problem:
        job.error, job.state = " ".join(str(problem).split()), "failed"
    except Exception as problem:  # the page must not wait for it for ever
        job.error, job.state = f"a fault of pfg: {type(problem).__name__}: {problem}", "failed"


def _stars(shown: Shown, report: DuplicateReport) -> list[dict[str, Any]]:
    """The first stars: the image to keep, and its members, the surest first."""
    stars = report.stars[:_STARS]
    wanted = sorted({row for star in stars for row in (star.keep, *(one.row for one in star.members))})
    rows = shown.catalog.rows_of(report.rows.take(np.array(wanted, np.int64)))
    sizes, formats = shown.catalog.sizes(rows), shown.catalog.formats(rows)
    files, described = places_of(shown, rows), shown.catalog.described(rows)
    known = {
        row: {
            "content_id": content,
            "file": file,
            "width": width,
            "height": height,
            "size": size,
            "format": kind,
        }
        for row, (content, width, height), file, size, kind in zip(
            wanted, described, files, sizes, formats, strict=True
        )
    }
    return [
        {
            "keep": known[star.keep],
            "members": [
                {**known[one.row], "kind": one.kind, **_likeness(one)}
                for one in sorted(star.members, key=lambda one: _ORDER.index(one.kind))
            ],
        }
        for star in stars
    ]


def _likeness(member: Member) -> Mapping[str, float | None]:
    found = member.likeness
    if found is None:
        return {"bits": None, "cosine": None, "change": None, "tags": None}
    return {
        "bits": found.bits,
        "cosine": round(found.cosine, 4),
        "change": round(found.difference.change, 1),
        "tags": round(found.tags, 3),
    }
