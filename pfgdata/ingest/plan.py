"""What an ingest has to do: the walk of the corpus merged with the rows the store already has.

Both are in the stable order, so one pass over two sorted streams decides each file; what is left to do is
kept by column, some tens of bytes an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.corpus import MAX_BYTES, Segment, WalkCounts, walk
from pfgdata.errors import AccessError
from pfgdata.images import Limits
from pfgdata.ingest.report import IngestReport
from pfgdata.records import Found, ImageKey, Progress, shown
from pfgdata.store import KEY_COLUMNS, Shadow, Snapshot, key_bytes, stable_order

__all__ = ["IngestOptions", "Plan", "Task", "lacks", "make_plan"]

_CHUNK = 8192  # rows turned into Python objects at a time
_SHOW_EVERY = 64  # files walked between two movements of the bar: 3 us each, a fifth of what a file costs
_ASK_EVERY = 4096  # files walked between two questions to `stop`: some 60 ms of a warm local disk

_Place = tuple[str, bytes, tuple[bytes, ...]]  # root, path, and () or (member,); see _place


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How to ingest. But for `limits`, `max_bytes` and `decode`, none of it changes what is stored."""

    batch_size: int = 8  # images a model call; the last batch is padded to it
    threads: int | None = None  # read and decode; None: one for each core
    shard_rows: int = 8192  # a shard closes at so many rows ...
    shard_seconds: float = 300.0  # ... or at this age, so that a crash costs minutes
    rehash: bool = False  # read every file, also where size and mtime are unchanged
    retry_failed: bool = False  # read files again that were no usable image
    limits: Limits = Limits(min_side=16, max_aspect=20.0)  # icons and rules; an image out of them fails
    max_bytes: int = MAX_BYTES  # of one file or member
    decode: Literal["exact", "fast"] = "exact"  # fast: large JPEGs at a fraction of their size
    image_seconds: float = 60.0  # one image may take to be read and decoded before it fails
    follow_links: bool = False  # to folders, and out of the corpus


@dataclass(frozen=True, slots=True)
class Task:
    """One image to read: its walk entry, the segment it is in, and what its new row will hide."""

    found: Found
    segment: int
    old_image: Shadow | None
    old_failure: Shadow | None
    old_content: bytes | None  # content_id of old_image where size and mtime_ns are the same too
    old_access: tuple[int, int, str] | None  # size, mtime_ns, reason of old_failure if of kind access


class _Known(NamedTuple):
    """A row or failure of the store, as the merge sees it: a tuple, for one is made of every row."""

    place: _Place
    size: int
    mtime_ns: int
    shard: str
    row: int
    content_id: bytes | None = None  # of an image
    kind: str | None = None  # of a failure, and its reason
    reason: str | None = None


class Plan:
    """The images to read, in the stable order, held by column.

    An image takes about 80 bytes and its name, one to read again 16 more, for as long as the plan lives.
    """

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
            ("access_size", pa.uint64()),
            ("access_mtime_ns", pa.int64()),
            ("access_reason", pa.dictionary(pa.int32(), pa.string())),
        ]
    )

    def __init__(self) -> None:
        self._chunks: list[pa.RecordBatch] = []
        self._open: list[tuple[Any, ...]] = []  # rows as _SCHEMA has them
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, task: Task) -> None:
        """Append a task."""
        found, key, image, failure = task.found, task.found.key, task.old_image, task.old_failure
        self._open.append(
            (
                task.segment,
                *(key.root, key.path, key.member),
                *(found.size, found.mtime_ns),
                *((image.shard, image.row) if image else (None, None)),
                *((failure.shard, failure.row) if failure else (None, None)),
                task.old_content,
                *(task.old_access or (None, None, None)),
            )
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
            columns = zip(zip(*self._open, strict=True), self._SCHEMA.types, strict=True)
            arrays = [pa.array(values, kind) for values, kind in columns]
            self._chunks.append(pa.RecordBatch.from_arrays(arrays, schema=self._SCHEMA))
            self._open = []


def make_plan(
    segments: Sequence[Segment],
    snapshot: Snapshot | None,
    *,
    options: IngestOptions,
    report: IngestReport,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> Plan:
    """Walk `segments` and decide every file; counts go into `report`, what must be read into the plan.

    An unchanged (key, size, mtime_ns) is left unread, a failure of kind content too; a failure of kind
    access is tried again. No `snapshot` means an empty store. `stop` is asked every 4,096 files: once true
    the walk ends, the plan is of what was walked, the report says interrupted and counts nothing as gone.

    Beside the plan, every row of the store is held while the walk goes on: about 75 bytes and its name, and
    200 in all at the start, when they are sorted (598,016 rows: 123 MB at the peak).
    """
    plan, counts = Plan(), WalkCounts()
    images = _Stream(_rows(snapshot, "images"), segments, counts)
    failures = _Stream(_rows(snapshot, "failures"), (), counts)
    progress.start("walk", total=None)
    for number, (index, found) in enumerate(_walk_all(segments, counts), start=1):
        if number % _SHOW_EVERY == 0:
            progress.advance(_SHOW_EVERY)
        place = _place(found.key)
        image, failure = images.at(place), failures.at(place)
        if image and _same(image, found) and not failure and not options.rehash:
            report.unchanged += 1
        elif _failed_for_good(failure, found) and not (options.rehash or options.retry_failed):
            report.failed += 1
        else:
            plan.add(_task_of(found, index, image, failure))
        if number % _ASK_EVERY == 0 and stop():
            report.interrupted = True
            break
    else:
        images.drain()
        report.gone = images.gone
    progress.advance(counts.found % _SHOW_EVERY)
    progress.finish()
    report.found, report.ignored = counts.found, counts.ignored
    report.links = counts.links
    report.unreadable = [shown(folder) for folder in counts.unreadable]
    return plan


def _walk_all(segments: Sequence[Segment], counts: WalkCounts) -> Iterator[tuple[int, Found]]:
    for index, segment in enumerate(segments):
        for found in walk(segment, counts=counts):
            yield index, found


class _Stream:
    """The store's rows of one table in stable order, read forward while the walk goes on."""

    def __init__(self, rows: Iterable[_Known], segments: Sequence[Segment], counts: WalkCounts) -> None:
        self._rows = iter(rows)
        self._next = next(self._rows, None)
        self._segments, self._counts = segments, counts
        self.gone = 0  # rows inside `segments` that were never asked for

    def at(self, place: _Place) -> _Known | None:
        """The row of `place`, or None; places must be asked for in the stable order."""
        while self._next is not None and self._next.place < place:
            self._pass()
        if self._next is None or self._next.place != place:
            return None
        match, self._next = self._next, next(self._rows, None)
        return match

    def drain(self) -> None:
        """Pass what is left."""
        while self._next is not None:
            self._pass()

    def _pass(self) -> None:
        assert self._next is not None
        if self._segments:
            key = _key(self._next.place)
            self.gone += any(lacks(segment, key, self._counts) for segment in self._segments)
        self._next = next(self._rows, None)


def _place(key: ImageKey) -> _Place:
    """What sorts as the stable order does: UTF-8 keeps the order of code points; no member comes first."""
    return key.root, key.path, () if key.member is None else (key.member,)


def _key(place: _Place) -> ImageKey:
    root, path, inside = place
    return ImageKey(root=root, path=path, member=inside[0] if inside else None)


def _rows(snapshot: Snapshot | None, table: str) -> Iterator[_Known]:
    """The visible rows of a table in the stable order."""
    if snapshot is None:
        return
    columns = [*KEY_COLUMNS, "size", "mtime_ns"]
    if table == "images":
        rows = _plain(snapshot.images([*columns, "content_id"]))
    else:
        rows = _plain(snapshot.failures([*columns, "kind", "reason"]))
    order = stable_order(rows)
    for start in range(0, len(order), _CHUNK):
        yield from _known(rows.take(order.slice(start, _CHUNK)))


def _plain(rows: pa.Table) -> pa.Table:
    """The rows in one chunk, where take is 17 times as fast as in 73, and content_id as plain bytes."""
    if "content_id" in rows.column_names:
        at = rows.column_names.index("content_id")
        rows = rows.set_column(at, "content_id", pc.cast(rows["content_id"], pa.binary(16)))
    return rows.unify_dictionaries().combine_chunks()


def _known(rows: pa.Table) -> Iterator[_Known]:
    """Each row as a _Known, column by column: a Python object for a cell, none for a row but its tuples."""
    members = _values(key_bytes(rows, "member"))
    inside = [() if member is None else (member,) for member in members]
    places = zip(_values(rows["root"]), _values(key_bytes(rows, "path")), inside, strict=True)
    rest = [
        _values(rows[name]) if name in rows.column_names else [None] * len(rows)
        for name in ("size", "mtime_ns", "shard", "row", "content_id", "kind", "reason")
    ]
    return map(_Known._make, zip(places, *rest, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    return column.to_numpy().tolist()  # several times faster than to_pylist, which makes a scalar of a cell


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
    access = failure if failure is not None and failure.kind == AccessError.kind else None
    return Task(
        found,
        segment,
        Shadow(image.shard, "images", image.row) if image else None,
        Shadow(failure.shard, "failures", failure.row) if failure else None,
        image.content_id if image and untouched else None,
        (access.size, access.mtime_ns, access.reason or "") if access else None,
    )


def _same(known: _Known, found: Found) -> bool:
    return known.size == found.size and known.mtime_ns == found.mtime_ns


def _task(row: dict[str, Any]) -> Task:
    key = ImageKey(root=row["root"], path=row["path"], member=row["member"])
    found = Found(key=key, size=row["size"], mtime_ns=row["mtime_ns"])
    access = None
    if row["access_size"] is not None:
        access = (row["access_size"], row["access_mtime_ns"], row["access_reason"])
    image, failure = _shadow(row, "image"), _shadow(row, "failure")
    return Task(found, row["segment"], image, failure, row["content_id"], access)


def _shadow(row: dict[str, Any], what: str) -> Shadow | None:
    if row[f"{what}_shard"] is None:
        return None
    return Shadow(row[f"{what}_shard"], f"{what}s", row[f"{what}_row"])
