"""What an ingest has to do: the walk of the corpus merged with the rows the store already has.

Both are in the stable order, so one pass over two sorted streams decides each file; what is left to do is
kept by column, some tens of bytes an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.corpus import Chunk, Segment, WalkCounts, archive_kind, walk_chunks
from pfgdata.errors import AccessError, ContentError
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.known import KnownRows
from pfgdata.ingest.report import IngestReport
from pfgdata.records import Found, ImageKey, Progress, during, shown
from pfgdata.store import Shadow, Snapshot

__all__ = ["Plan", "Stamp", "Task", "lacks", "make_plan"]

_CHUNK = 2048  # files decided at a time: what a chunk costs is 3 % of their stats (at 512 it was 12 %)
_ASK_EVERY = 4096  # files walked between two questions to `stop`: some 60 ms of a warm local disk
_SLASH = ord("/")


Stamp = tuple[int, int]  # size and mtime_ns


@dataclass(frozen=True, slots=True)
class Task:
    """One image to read: its walk entry, the segment it is in, and what its new row will hide."""

    found: Found
    segment: int
    old_image: Shadow | None
    old_failure: Shadow | None
    old_content: bytes | None  # content_id of old_image where size and mtime_ns are the same too
    image_stat: Stamp | None  # of old_image
    failure_stat: Stamp | None  # of old_failure
    access_reason: str | None  # of old_failure if of kind access

    @property
    def old_access(self) -> tuple[int, int, str] | None:
        """Size, mtime_ns and reason of old_failure if of kind access."""
        if self.access_reason is None or self.failure_stat is None:
            return None
        return (*self.failure_stat, self.access_reason)


class Plan:
    """The images to read, in the stable order, held by column.

    An image takes about 100 bytes and its name for as long as the plan lives.
    """

    SCHEMA = pa.schema(
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
            ("image_size", pa.uint64()),
            ("image_mtime_ns", pa.int64()),
            ("failure_size", pa.uint64()),
            ("failure_mtime_ns", pa.int64()),
            ("access_reason", pa.dictionary(pa.int32(), pa.string())),
        ]
    )

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self.stale: list[Shadow] = []  # failures that no longer hold, and that no image's row will hide

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    def __iter__(self) -> Iterator[Task]:
        for batch in self._batches:
            yield from map(_task, batch.to_pylist())

    def __getitem__(self, rows: slice) -> Plan:
        """The tasks of `rows`, a slice without a step, as a plan by itself: it holds nothing of the others.

        What is stale stays with the whole.
        """
        start, stop, step = rows.indices(len(self))
        assert step == 1
        part, before = Plan(), 0
        for batch in self._batches:
            mine = np.arange(max(start - before, 0), min(stop - before, len(batch)))
            if len(mine):
                columns = [_own(column, pa.array(mine)) for column in batch.columns]
                part.add(pa.record_batch(columns, schema=Plan.SCHEMA))
            before += len(batch)
        return part

    def add(self, batch: pa.RecordBatch) -> None:
        """Append tasks, as SCHEMA has them."""
        self._batches.append(batch)

    def as_batch(self) -> pa.RecordBatch:
        """All tasks in one batch."""
        table = pa.Table.from_batches(self._batches, Plan.SCHEMA).unify_dictionaries().combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], Plan.SCHEMA)

    def unit_starts(self) -> npt.NDArray[np.int64]:
        """Where something begins that is best read by one: a file, or an archive with all its members."""
        begins, before = [np.empty(0, np.bool_)], None
        for batch in self._batches:
            columns = [batch[name] for name in ("segment", "path")]
            same = _equals_before(columns, before) & ~np.asarray(batch["member"].is_null())
            begins.append(~same)
            before = [column[-1] for column in columns]
        return np.flatnonzero(np.concatenate(begins))


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

    Beside the plan, every row of the store is held by column while the walk goes on; see KnownRows.
    """
    with during(progress, "walk", total=None, brief=False), _small_pages():
        merge = _Merge(snapshot, options, report)
        for index, segment in enumerate(segments):
            if not _walk_segment(merge, index, segment, progress=progress, stop=stop):
                report.interrupted = True
                report.gone = 0
                break
    counts = merge.counts
    report.found = counts.found
    report.ignored = counts.ignored
    report.links = counts.links
    report.unreadable = [shown(folder) for folder in counts.unreadable]
    return merge.plan


@contextmanager
def _small_pages() -> Iterator[None]:
    """Let Arrow take memory from malloc: its own asks for huge pages, which cost a rerun a seventh."""
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)


def _walk_segment(
    merge: _Merge, index: int, segment: Segment, *, progress: Progress, stop: Callable[[], bool]
) -> bool:
    """Walk and decide one segment; false where `stop` ended it."""
    merge.open(segment)
    since = 0
    for chunk in walk_chunks(segment, counts=merge.counts, rows=_CHUNK):
        progress.advance(len(chunk))
        merge.add(chunk, index)
        since = (since + len(chunk)) % _ASK_EVERY
        if since < len(chunk) and stop():
            return False
    merge.close()
    return True


class _Merge:
    """The walk and the rows on their way through each other; what must be read goes into `plan`."""

    def __init__(self, snapshot: Snapshot | None, options: IngestOptions, report: IngestReport) -> None:
        self.plan = Plan()
        self.counts = WalkCounts()
        contents = ["content_id"] if options.rehash else []  # which an untouched row is planned for only then
        self._images = KnownRows(snapshot, "images", contents)
        self._failures = KnownRows(snapshot, "failures", ["kind", "reason"])
        self._content = self._failures.is_equal("kind", ContentError.kind)
        self._access = self._failures.is_equal("kind", AccessError.kind)
        self._options = options
        self._report = report
        self._segment: Segment

    def open(self, segment: Segment) -> None:
        """Begin with a segment."""
        self._segment = segment
        self._images.open(segment)
        self._failures.open(segment)

    def close(self) -> None:
        """End with the segment: what was not asked for may be gone."""
        self._images.close(self._missed)
        self._failures.close(self._missed_failure)

    def add(self, chunk: Chunk, segment: int) -> None:
        """Decide the next chunk of the walk."""
        options = self._options
        sizes, times = np.asarray(chunk.sizes), np.asarray(chunk.mtimes_ns)
        image = self._images.match(chunk, self._missed)
        failure = self._failures.match(chunk, self._missed_failure)
        untouched = self._images.is_same(image, sizes, times) & (failure < 0)
        unchanged = untouched & (not options.rehash)
        failed = self._failures.is_same(failure, sizes, times) & _at(self._content, failure)
        failed &= not (options.rehash or options.retry_failed)
        failed &= image < 0  # an old row beside its failure: a repair has lost what hid it, so look again
        self._report.unchanged += int(unchanged.sum())
        self._report.failed += int(failed.sum())
        todo = np.flatnonzero(~(unchanged | failed))
        if len(todo):
            old = self._old_columns(image[todo], failure[todo], untouched[todo])
            columns = {**self._new_columns(chunk, todo, segment), **old}
            self.plan.add(pa.record_batch(columns, schema=Plan.SCHEMA))

    def _new_columns(self, chunk: Chunk, todo: npt.NDArray[np.int64], segment: int) -> dict[str, Any]:
        """What the walk says of the entries `todo`, in the plan."""
        insides = chunk.insides if chunk.has_members else None
        members = [insides[at][0] if insides[at] else None for at in todo] if insides else [None] * len(todo)
        root = pa.array([self._segment.root])
        return {
            "segment": np.full(len(todo), segment, np.int32),
            "root": pa.DictionaryArray.from_arrays(np.zeros(len(todo), np.int32), root),
            "path": pa.array([chunk.paths[at] for at in todo], pa.binary()),
            "member": pa.array(members, pa.binary()),
            "size": np.asarray(chunk.sizes)[todo],
            "mtime_ns": np.asarray(chunk.mtimes_ns)[todo],
        }

    def _old_columns(
        self, image: npt.NDArray[np.int64], failure: npt.NDArray[np.int64], untouched: npt.NDArray[np.bool_]
    ) -> dict[str, Any]:
        """What the rows at `image` and `failure`, -1 for none, say in the plan."""
        images, failures = self._images, self._failures
        access = np.where(_at(self._access, failure), failure, -1)
        return {
            "image_shard": images.take("shard", image),
            "image_row": images.take("row", image),
            "failure_shard": failures.take("shard", failure),
            "failure_row": failures.take("row", failure),
            "content_id": images.take("content_id", np.where(untouched, image, -1)),
            "image_size": images.take("size", image),
            "image_mtime_ns": images.take("mtime_ns", image),
            "failure_size": failures.take("size", failure),
            "failure_mtime_ns": failures.take("mtime_ns", failure),
            "access_reason": failures.take("reason", access),
        }

    def _missed(self, _: int, key: ImageKey) -> None:
        self._report.gone += lacks(self._segment, key, self.counts)

    def _missed_failure(self, row: int, key: ImageKey) -> None:
        """An archive that can be listed again has no other row which could hide its failure."""
        if key.member is None and archive_kind(key.path) and lacks(self._segment, key, self.counts):
            shard, at = (self._failures.take(name, np.array([row])) for name in ("shard", "row"))
            self.plan.stale.append(Shadow(shard[0].as_py(), "failures", at[0].as_py()))


def _equals_before(columns: Sequence[pa.Array], before: Sequence[pa.Scalar] | None) -> npt.NDArray[np.bool_]:
    """For each row, whether it has the same in `columns` as the one before; `before` is the first one's."""
    same = np.ones(len(columns[0]), np.bool_)
    for at, column in enumerate(columns):
        same[0] &= before is not None and bool(before[at] == column[0])
        same[1:] &= np.asarray(pc.equal(column[1:], column[:-1]))
    return same


def _own(column: pa.Array, rows: pa.Array) -> pa.Array:
    """The values at `rows` in memory of their own, a dictionary of only those that occur."""
    if not pa.types.is_dictionary(column.type):
        return column.take(rows)
    return column.take(rows).cast(column.type.value_type).dictionary_encode()


def _at(values: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The values at `rows`, false at -1."""
    out = np.zeros(len(rows), np.bool_)
    out[rows >= 0] = values[rows[rows >= 0]]
    return out


def lacks(segment: Segment, key: ImageKey, counts: WalkCounts) -> bool:
    """Whether the walk of `segment` shows that the image of `key` is gone.

    Not where it would not have found it, and not at or below what it could not read or did not look into.
    """
    if not segment.covers(key):
        return False
    path = os.fsencode(str(segment.location)).rstrip(b"/") + b"/" + key.path
    if any(path.startswith(folder + b"/") for folder in counts.unreadable):
        return False
    above = [path[:at] for at, one in enumerate(path) if one == _SLASH] if counts.passed else []
    return counts.passed.isdisjoint([path, *above])


def _task(row: dict[str, Any]) -> Task:
    key = ImageKey(root=row["root"], path=row["path"], member=row["member"])
    found = Found(key=key, size=row["size"], mtime_ns=row["mtime_ns"])
    return Task(
        found,
        row["segment"],
        _shadow(row, "image"),
        _shadow(row, "failure"),
        row["content_id"],
        _stamp(row, "image"),
        _stamp(row, "failure"),
        row["access_reason"],
    )


def _shadow(row: dict[str, Any], what: str) -> Shadow | None:
    if row[f"{what}_shard"] is None:
        return None
    return Shadow(row[f"{what}_shard"], f"{what}s", row[f"{what}_row"])


def _stamp(row: dict[str, Any], what: str) -> Stamp | None:
    if row[f"{what}_size"] is None:
        return None
    return (row[f"{what}_size"], row[f"{what}_mtime_ns"])
