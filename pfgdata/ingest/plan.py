"""What an ingest has to do: the walk of the corpus merged with the rows the store already has.

Both are in the stable order, so one pass over two sorted streams decides each file; what is left to do is
kept by column, some tens of bytes an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pfgdata.corpus import Segment, WalkCounts, walk
from pfgdata.ingest.report import IngestReport
from pfgdata.records import Found, ImageKey, Progress, shown
from pfgdata.store import KEY_COLUMNS, Shadow, Snapshot, key_of, stable_order

__all__ = ["IngestOptions", "Plan", "Task", "lacks", "make_plan"]

_CHUNK = 8192  # rows turned into Python objects at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How to ingest; none of it changes what is stored, but for rounding."""

    batch_size: int = 8  # images a model call; the last batch is padded to it
    threads: int | None = None  # read and decode; None: one for each core
    shard_rows: int = 8192  # a shard closes at so many rows ...
    shard_seconds: float = 300.0  # ... or at this age, so that a crash costs minutes
    rehash: bool = False  # read every file, also where size and mtime are unchanged
    retry_failed: bool = False  # read files again that were no usable image


@dataclass(frozen=True, slots=True)
class Task:
    """One image to read: its walk entry, the segment it is in, and what its new row will hide."""

    found: Found
    segment: int
    old_image: Shadow | None
    old_failure: Shadow | None
    old_content: bytes | None  # content_id of old_image where size and mtime_ns are the same too


@dataclass(slots=True)
class _Known:
    """A row or failure of the store, as the merge sees it."""

    key: ImageKey
    size: int
    mtime_ns: int
    place: Shadow
    kind: str | None  # of a failure
    content_id: bytes | None  # of an image


class Plan:
    """The images to read, in the stable order, held by column."""

    _SCHEMA = pa.schema(
        [
            ("segment", pa.int32()),
            ("root", pa.dictionary(pa.int32(), pa.string())),
            ("path", pa.binary()),
            ("member", pa.binary()),
            ("size", pa.uint64()),
            ("mtime_ns", pa.int64()),
            ("image_shard", pa.dictionary(pa.int32(), pa.string())),
            ("image_row", pa.int64()),
            ("failure_shard", pa.dictionary(pa.int32(), pa.string())),
            ("failure_row", pa.int64()),
            ("content_id", pa.binary()),
        ]
    )

    def __init__(self) -> None:
        self._chunks: list[pa.RecordBatch] = []
        self._open: list[dict[str, Any]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, task: Task) -> None:
        """Append a task."""
        key, image, failure = task.found.key, task.old_image, task.old_failure
        self._open.append(
            {
                "segment": task.segment,
                "root": key.root,
                "path": key.path,
                "member": key.member,
                "size": task.found.size,
                "mtime_ns": task.found.mtime_ns,
                "image_shard": image.shard if image else None,
                "image_row": image.row if image else None,
                "failure_shard": failure.shard if failure else None,
                "failure_row": failure.row if failure else None,
                "content_id": task.old_content,
            }
        )
        self._count += 1
        if len(self._open) == _CHUNK:
            self._close()

    def __iter__(self) -> Iterator[Task]:
        self._close()
        for chunk in self._chunks:
            yield from map(_task, chunk.to_pylist())

    def _close(self) -> None:
        if self._open:
            self._chunks.append(pa.RecordBatch.from_pylist(self._open, schema=self._SCHEMA))
            self._open = []


def make_plan(
    segments: Sequence[Segment],
    snapshot: Snapshot | None,
    *,
    options: IngestOptions,
    report: IngestReport,
    progress: Progress,
) -> Plan:
    """Walk `segments` and decide every file; counts go into `report`, what must be read into the plan.

    An unchanged (key, size, mtime_ns) is left unread, a failure of kind content too; a failure of kind
    access is tried again. No `snapshot` means an empty store.
    """
    plan, counts = Plan(), WalkCounts()
    images = _Stream(snapshot, "images", segments, counts)
    failures = _Stream(snapshot, "failures", segments, counts)
    progress.start("walk", total=None)
    for index, segment in enumerate(segments):
        for found in walk(segment, counts=counts):
            progress.advance()
            image, failure = images.at(found.key), failures.at(found.key)
            if image and _same(image, found) and not failure and not options.rehash:
                report.unchanged += 1
            elif _failed_for_good(failure, found) and not (options.rehash or options.retry_failed):
                report.failed += 1
            else:
                plan.add(_task_of(found, index, image, failure))
    images.drain()
    progress.finish()
    report.found, report.ignored, report.gone = counts.found, counts.ignored, images.gone
    report.unreadable = [shown(folder) for folder in counts.unreadable]
    return plan


class _Stream:
    """The store's rows of one table in stable order, read forward while the walk goes on."""

    def __init__(
        self, snapshot: Snapshot | None, table: str, segments: Sequence[Segment], counts: WalkCounts
    ) -> None:
        self._rows = iter(_rows(snapshot, table) if snapshot else ())
        self._next = next(self._rows, None)
        self._segments, self._counts = segments, counts
        self.gone = 0  # rows inside the walked segments that were never asked for

    def at(self, key: ImageKey) -> _Known | None:
        """The row of `key`, or None; keys must be asked for in the stable order."""
        while self._next is not None and self._next.key.order < key.order:
            self._pass()
        if self._next is None or self._next.key != key:
            return None
        match, self._next = self._next, next(self._rows, None)
        return match

    def drain(self) -> None:
        """Pass what is left."""
        while self._next is not None:
            self._pass()

    def _pass(self) -> None:
        assert self._next is not None
        self.gone += any(lacks(segment, self._next.key, self._counts) for segment in self._segments)
        self._next = next(self._rows, None)


def _rows(snapshot: Snapshot, table: str) -> Iterable[_Known]:
    columns = [*KEY_COLUMNS, "size", "mtime_ns"]
    is_images = table == "images"
    rows = snapshot.images([*columns, "content_id"]) if is_images else snapshot.failures([*columns, "kind"])
    order = stable_order(rows)
    for start in range(0, len(order), _CHUNK):
        for row in rows.take(order.slice(start, _CHUNK)).to_pylist():
            yield _Known(
                key_of(row),
                row["size"],
                row["mtime_ns"],
                Shadow(row["shard"], table, row["row"]),
                row.get("kind"),
                row["content_id"].bytes if is_images else None,
            )


def lacks(segment: Segment, key: ImageKey, counts: WalkCounts) -> bool:
    """Whether the walk of `segment` would have found the file of `key`: not where a folder was unreadable."""
    inside = not segment.prefix or key.path.startswith(segment.prefix + b"/")
    if key.root != segment.root or not inside:
        return False
    place = os.fsencode(segment.location) + b"/" + key.path
    return not any(place.startswith(folder + b"/") for folder in counts.unreadable)


def _failed_for_good(failure: _Known | None, found: Found) -> bool:
    return failure is not None and failure.kind == "content" and _same(failure, found)


def _task_of(found: Found, segment: int, image: _Known | None, failure: _Known | None) -> Task:
    untouched = image is not None and _same(image, found) and failure is None
    return Task(
        found,
        segment,
        image.place if image else None,
        failure.place if failure else None,
        image.content_id if image and untouched else None,
    )


def _same(known: _Known, found: Found) -> bool:
    return known.size == found.size and known.mtime_ns == found.mtime_ns


def _task(row: dict[str, Any]) -> Task:
    key = ImageKey(root=row["root"], path=row["path"], member=row["member"])
    found = Found(key=key, size=row["size"], mtime_ns=row["mtime_ns"])
    return Task(found, row["segment"], _place(row, "image"), _place(row, "failure"), row["content_id"])


def _place(row: dict[str, Any], what: str) -> Shadow | None:
    if row[f"{what}_shard"] is None:
        return None
    return Shadow(row[f"{what}_shard"], f"{what}s", row[f"{what}_row"])
