"""What an ingest has to do: the walk of the corpus merged with the rows the store already has.

Both are in the stable order, so one pass over two sorted streams decides each file; what is left to do comes
out by column while the walk goes on, so that nobody need hold all of it.
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

from pfgdata.corpus import Chunk, Segment, WalkCounts, archive_kind, walk_chunks
from pfgdata.errors import AccessError, ContentError
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.known import KnownRows
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.tasks import Plan
from pfgdata.records import ImageKey, Progress, during, shown
from pfgdata.store import Shadow, Snapshot

__all__ = ["Planning", "lacks", "plan_batches"]

_CHUNK = 2048  # files decided at a time: what a chunk costs is 3 % of their stats (at 512 it was 12 %)
_ASK_EVERY = 4096  # files walked between two questions to `stop`: some 60 ms of a warm local disk
_SLASH = ord("/")


@dataclass(frozen=True, slots=True)
class Planning:
    """How a corpus is planned, and where that is put on record while it is."""

    options: IngestOptions
    report: IngestReport
    stale: list[Shadow]  # failures that no longer hold, and that no image's row will hide


def plan_batches(
    segments: Sequence[Segment],
    snapshot: Snapshot | None,
    planning: Planning,
    *,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[pa.RecordBatch]:
    """Walk `segments` and decide every file; what must be read, as Plan.SCHEMA has it, in the stable order.

    An unchanged (key, size, mtime_ns) is left unread, a failure of kind content too; a failure of kind
    access is tried again. No `snapshot` means an empty store. Counts go into the report, which is whole once
    the last batch is out. `stop` is asked every 4,096 files: once true the walk ends, the report says
    interrupted and counts nothing as gone.

    Beside what comes out, every row of the store is held by column while the walk goes on; see KnownRows.
    """
    report = planning.report
    with during(progress, "walk", total=None, brief=False), _small_pages():
        merge = _Merge(snapshot, planning)
        for index, segment in enumerate(segments):
            yield from _walk_segment(merge, index, segment, progress=progress, stop=stop)
            if report.interrupted:
                report.gone = 0
                break
    counts = merge.counts
    report.found = counts.found
    report.ignored = counts.ignored
    report.links = counts.links
    report.unreadable = [shown(folder) for folder in counts.unreadable]


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
) -> Iterator[pa.RecordBatch]:
    """Walk and decide one segment; the report says interrupted where `stop` ended it."""
    merge.open(segment)
    since = 0
    for chunk in walk_chunks(segment, counts=merge.counts, rows=_CHUNK):
        progress.advance(len(chunk))
        batch = merge.decide(chunk, index)
        if batch is not None:
            yield batch
        since = (since + len(chunk)) % _ASK_EVERY
        if since < len(chunk) and stop():
            merge.report.interrupted = True
            return
    merge.close()


class _Merge:
    """The walk and the rows on their way through each other."""

    def __init__(self, snapshot: Snapshot | None, planning: Planning) -> None:
        options = planning.options
        self.counts = WalkCounts()
        contents = ["content_id"] if options.rehash else []  # which an untouched row is planned for only then
        self._images = KnownRows(snapshot, "images", contents)
        self._failures = KnownRows(snapshot, "failures", ["kind", "reason"])
        self._content = self._failures.is_equal("kind", ContentError.kind)
        self._access = self._failures.is_equal("kind", AccessError.kind)
        self._options = options
        self.report = planning.report
        self._stale = planning.stale
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

    def decide(self, chunk: Chunk, segment: int) -> pa.RecordBatch | None:
        """Decide the next chunk of the walk; what of it must be read, None for nothing."""
        options = self._options
        sizes, times = np.asarray(chunk.sizes), np.asarray(chunk.mtimes_ns)
        image = self._images.match(chunk, self._missed)
        failure = self._failures.match(chunk, self._missed_failure)
        untouched = self._images.is_same(image, sizes, times) & (failure < 0)
        unchanged = untouched & (not options.rehash)
        failed = self._failures.is_same(failure, sizes, times) & _at(self._content, failure)
        failed &= not (options.rehash or options.retry_failed)
        failed &= image < 0  # an old row beside its failure: a repair has lost what hid it, so look again
        self.report.unchanged += int(unchanged.sum())
        self.report.failed += int(failed.sum())
        todo = np.flatnonzero(~(unchanged | failed))
        if not len(todo):
            return None
        old = self._old_columns(image[todo], failure[todo], untouched[todo])
        return pa.record_batch({**self._new_columns(chunk, todo, segment), **old}, schema=Plan.SCHEMA)

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
        self.report.gone += lacks(self._segment, key, self.counts)

    def _missed_failure(self, row: int, key: ImageKey) -> None:
        """An archive that can be listed again has no other row which could hide its failure."""
        if key.member is None and archive_kind(key.path) and lacks(self._segment, key, self.counts):
            shard, at = (self._failures.take(name, np.array([row])) for name in ("shard", "row"))
            self._stale.append(Shadow(shard[0].as_py(), "failures", at[0].as_py()))


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
