"""What an ingest has to do, image by image or by column: tasks, and how they are held and read together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.records import Found, ImageKey
from pfgdata.store import Shadow

__all__ = ["Plan", "Stamp", "Task", "tasks_of", "unit_begins"]

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
    """The images to read, in the stable order, held by column: some 220 bytes an image."""

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

    def __init__(self, batches: Iterable[pa.RecordBatch] = ()) -> None:
        """Of tasks as SCHEMA has them."""
        self._batches = list(batches)

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)

    def __iter__(self) -> Iterator[Task]:
        return tasks_of(self._batches)

    @property
    def batches(self) -> Sequence[pa.RecordBatch]:
        """The tasks as they were added."""
        return self._batches

    def __getitem__(self, rows: slice) -> Plan:
        """The tasks of `rows`, a slice without a step, as a plan that holds nothing of the others."""
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


def unit_begins(
    batch: pa.RecordBatch, before: Sequence[pa.Scalar] | None
) -> tuple[npt.NDArray[np.bool_], Sequence[pa.Scalar]]:
    """Where something begins that is best read by one: a file, or an archive with all its members.

    `before` is what the call for the batch before gave beside; None for the first.
    """
    columns = [batch[name] for name in ("segment", "path")]
    same = _equals_before(columns, before) & ~np.asarray(batch["member"].is_null())
    return ~same, [column[-1] for column in columns]


def tasks_of(batches: Iterable[pa.RecordBatch]) -> Iterator[Task]:
    """The tasks of batches that are as Plan.SCHEMA has them."""
    for batch in batches:
        yield from map(_task, batch.to_pylist())


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
