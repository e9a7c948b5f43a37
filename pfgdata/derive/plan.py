"""Which of the selected images are missing from a derived set, by group.

Rows with the same content_id fall together: one array each, from whichever of their files is still there.
The order within a group is that of the content_ids, so it does not depend on how the store's shards lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import QueryError, StoreError
from pfgdata.paths import Place, place_of
from pfgdata.records import Selection, StoredImage, ids_as_keys
from pfgdata.store import IMAGE_COLUMNS, DerivedSet, Snapshot, Store, content_ids_of, stored_image

__all__ = ["DerivePlan", "plan_missing", "require_work", "table_bytes", "table_from"]

Groups = Callable[[npt.ArrayLike, npt.ArrayLike], npt.NDArray[np.int64]]

_CHUNK = 8192  # contents turned into Python objects at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivePlan:
    """What is there and what is to do.

    `table` holds the rows to read, by content_id, of one content the latest first. Content i has the rows
    `starts[i]` to `starts[i + 1]`; `missing[g]` are the contents of group g, in order.
    """

    selected: int  # rows
    distinct: int  # contents
    done: int  # contents with an array in the set
    failed_before: int  # contents that are no usable image for this set
    missing: dict[int, npt.NDArray[np.int64]]
    table: pa.Table  # IMAGE_COLUMNS
    starts: npt.NDArray[np.int64]  # [contents + 1]

    @property
    def to_do(self) -> int:
        """Images to encode."""
        return sum(len(contents) for contents in self.missing.values())

    def piece(self, group: int, start: int, stop: int) -> DerivePlan:
        """The plan of the images `start` to `stop` of a group alone; it holds nothing of the others."""
        contents = self.missing[group][start:stop]
        rows = [np.arange(self.starts[one], self.starts[one + 1]) for one in contents]
        lengths = [len(one) for one in rows]
        return replace(
            self,
            missing={group: np.arange(len(contents))},
            table=self.table.take(pa.array(np.concatenate([np.empty(0, np.int64), *rows]))).combine_chunks(),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )

    def contents(self, group: int, start: int, stop: int) -> set[bytes]:
        """The content_ids of the images `start` to `stop` of a group."""
        firsts = self.starts[self.missing[group][start:stop]]
        return {one.tobytes() for one in content_ids_of(self.table["content_id"].take(pa.array(firsts)))}

    def as_bytes(self) -> bytes:
        """A plan of one group, made by `piece`, as Arrow IPC."""
        (group,) = self.missing
        named = {b"starts": self.starts.tobytes(), b"group": str(group).encode()}
        return table_bytes(self.table.replace_schema_metadata(named))

    @classmethod
    def of_bytes(cls, data: bytes) -> DerivePlan:
        """The plan whose `as_bytes` these are; what the whole plan counts is 0."""
        table = table_from(data)
        named = table.schema.metadata
        starts = np.frombuffer(named[b"starts"], np.int64)
        missing = {int(named[b"group"]): np.arange(len(starts) - 1)}
        none = dict.fromkeys(("selected", "distinct", "done", "failed_before"), 0)
        return cls(**none, missing=missing, table=table.replace_schema_metadata(), starts=starts)

    def items(self, group: int) -> Iterator[StoredImage]:
        """The images of `group` to encode, in order."""
        contents = self.missing[group]
        for first in range(0, len(contents), _CHUNK):
            yield from self._chunk(contents[first : first + _CHUNK])

    def _chunk(self, contents: npt.NDArray[np.int64]) -> Iterator[StoredImage]:
        counts = self.starts[contents + 1] - self.starts[contents]
        ends = np.cumsum(counts)
        positions = np.repeat(self.starts[contents] - (ends - counts), counts) + np.arange(ends[-1])
        rows = self.table.take(pa.array(positions)).to_pylist()
        for end, count in zip(ends.tolist(), counts.tolist(), strict=True):
            yield stored_image(*rows[end - count : end])


def table_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream: unlike a pickled slice it has the bytes of its own rows only."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def table_from(data: bytes) -> pa.Table:
    """The table whose `table_bytes` are `data`."""
    with pa.ipc.open_stream(pa.BufferReader(data)) as stream:
        return stream.read_all()


def require_work(store: Store, selection: Selection) -> None:
    """Raise QueryError where nothing is selected, StoreError where no corpus root is where it should be."""
    if not len(selection):
        asked = f" by {selection.expression!r}" if selection.expression else ": the store is empty"
        raise QueryError(f"{store.path}: no image is selected{asked}; try it with pfgdata query")
    roots = store.roots()
    gone = [root for root, location in roots.items() if _is_missing(place_of(location))]
    if gone and len(gone) == len(roots):
        raise StoreError(
            f"corpus root {gone[0]} is not at {roots[gone[0]]}; if it moved: "
            f"pfgdata ingest NEW --root {gone[0]}=NEW"
        )


def _is_missing(place: Place) -> bool:
    """Whether a corpus root is not at its place; what is not of this machine says so when it is read."""
    return isinstance(place, Path) and not place.is_dir()


def plan_missing(
    snapshot: Snapshot, selection: Selection, *, groups: Groups, derived: DerivedSet[Any, Any] | None
) -> DerivePlan:
    """Compare `selection`, made from `snapshot`, with the set `derived` (None: a new one).

    Raises StoreError when the selection is of another snapshot.
    """
    images = snapshot.images(IMAGE_COLUMNS)
    every = ids_as_keys(content_ids_of(images["content_id"]))
    ids = np.unique(every[snapshot.positions(selection)])
    done, failed = ids_as_keys(np.empty((0, 16), np.uint8)), ids_as_keys(np.empty((0, 16), np.uint8))
    if derived is not None:
        done = ids_as_keys(derived.index().content_ids)
        failed = ids_as_keys(derived.failed_content())
    is_done = np.isin(ids, done)
    is_failed = np.isin(ids, failed) & ~is_done
    order, starts = _rows_of(every, ids[~is_done & ~is_failed])
    table = images.take(pa.array(order)).drop_columns(["shard", "row"])
    firsts = table.select(["width", "height"]).take(pa.array(starts[:-1]))
    group_of = groups(firsts["width"].to_numpy(), firsts["height"].to_numpy())
    return DerivePlan(
        selected=len(selection),
        distinct=len(ids),
        done=int(is_done.sum()),
        failed_before=int(is_failed.sum()),
        missing={int(group): np.flatnonzero(group_of == group) for group in np.unique(group_of)},
        table=table,
        starts=starts,
    )


def _rows_of(
    every: npt.NDArray[np.void], wanted: npt.NDArray[np.void]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows of `every` with a `wanted` id, by id and the last row first; and where each id begins."""
    newest_first = np.flatnonzero(np.isin(every, wanted))[::-1]
    order = newest_first[np.argsort(every[newest_first], kind="stable")]
    _, starts = np.unique(every[order], return_index=True)
    return order, np.append(starts, len(order)).astype(np.int64)
