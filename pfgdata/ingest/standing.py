"""What stands in a store under each key, while parts are adopted: found by a hash of the key.

A row takes 32 bytes: what it is compared by is held as hashes of 32 bits. Where two that differ have the
same, a row too old stands until the next ingest, which compares it with its file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.ingest.runs import Keys, SortedRuns, keys_in
from pfgdata.store import KEY_COLUMNS, Shadow, Snapshot, content_ids_of, key_bytes

__all__ = ["Rows", "Standing", "rows_of", "stats_of"]

Rows = npt.NDArray[np.void]  # of _ROW
_VALUES = [
    ("stat", np.uint32),  # of size and mtime_ns, see stats_of
    ("mark", np.uint32),  # beside that: of an image the begin of its content_id, of a failure a hash of why
    ("shard", np.int32),  # its number, -1: nothing is there any more
    ("row", np.int32),
]
_VALUE = np.dtype(_VALUES)
_ROW = np.dtype([("key", np.uint64, 2), *_VALUES])  # key: a hash of it
_NOTHING = -1


class Standing:
    """The visible rows of one table of a store, `images` or `failures`, and what is done to them since."""

    def __init__(self, snapshot: Snapshot, table: str) -> None:
        self.table = table
        self._shards: list[str] = []
        self._runs = SortedRuns(_VALUE)
        columns = [*KEY_COLUMNS, "size", "mtime_ns", *_SAID[table]]
        found = snapshot.by_shard(table, columns)
        self._runs.fill(self._standing(found))

    def find(self, wanted: Rows) -> Rows:
        """What stands under the key of each of `wanted`; its `shard` is -1 where nothing does."""
        values, there = self._runs.find(wanted["key"])
        out = _rows(wanted["key"], values)
        out["shard"][~there] = _NOTHING
        return out

    def shadows(self, found: Rows) -> list[Shadow]:
        """What hides the rows that `find` gave."""
        there = found[found["shard"] != _NOTHING]
        pairs = zip(there["shard"].tolist(), there["row"].tolist(), strict=True)
        return [Shadow(self._shards[shard], self.table, row) for shard, row in pairs]

    def put(self, rows: Rows, shard: str) -> None:
        """These rows stand in `shard` now; their `row` says where."""
        self._runs.add(rows["key"], self._placed(rows, shard))

    def hide(self, rows: Rows) -> None:
        """Nothing stands under the keys of these rows any more."""
        rows = rows[rows["shard"] != _NOTHING].copy()
        rows["shard"] = _NOTHING
        self._runs.add(rows["key"], _values(rows))

    def _standing(self, found: Iterator[tuple[str, pa.Table]]) -> Iterator[tuple[Keys, Rows]]:
        for shard, table in found:
            rows = rows_of(table, self.table)
            rows["row"] = table["row"]
            yield rows["key"], self._placed(rows, shard)

    def _placed(self, rows: Rows, shard: str) -> Rows:
        """The values of rows that stand in `shard`."""
        values = _values(rows)
        values["shard"] = len(self._shards)
        self._shards.append(shard)
        return values


def _values(rows: Rows) -> Rows:
    out = np.empty(len(rows), _VALUE)
    for name in _VALUE.names or ():
        out[name] = rows[name]
    return out


def _rows(keys: Keys, values: Rows) -> Rows:
    out = np.empty(len(keys), _ROW)
    out["key"] = keys
    for name in _VALUE.names or ():
        out[name] = values[name]
    return out


def rows_of(table: pa.Table, kind: str) -> Rows:
    """The rows of a table of `images` or `failures`, numbered; they stand nowhere yet."""
    rows = np.zeros(len(table), _ROW)
    if not len(table):
        return rows
    rows["key"] = keys_in(b"".join(blake3(name).digest(length=16) for name in _names(table)))
    rows["stat"] = stats_of(table["size"].to_numpy(), table["mtime_ns"].to_numpy())
    rows["shard"], rows["row"] = _NOTHING, np.arange(len(table))
    if kind == "images":
        rows["mark"] = content_ids_of(table["content_id"])[:, :4].copy().view(np.uint32).ravel()
    else:
        said = zip(*(pc.cast(table[name], pa.string()).to_pylist() for name in _SAID[kind]), strict=True)
        marks = (blake3("\0".join(words).encode()).digest(length=4) for words in said)
        rows["mark"] = np.frombuffer(b"".join(marks), np.uint32)
    return rows


def stats_of(sizes: npt.NDArray[np.uint64], mtimes_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """A hash of each size and time, in place of both: other ones have another, but for one in 2^32."""
    mixed = _mixed(_mixed(sizes.astype(np.uint64)) + mtimes_ns.astype(np.uint64))
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64: each bit of the result hangs on all of the value."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_SAID = {"images": ("content_id",), "failures": ("kind", "reason")}


def _names(table: pa.Table) -> list[bytes]:
    """The keys as bytes: root, path and member with a zero between."""
    root = pc.cast(pc.cast(table["root"], pa.string()), pa.binary())
    inside = [key_bytes(table, name) for name in ("path", "member")]
    joined = pc.binary_join_element_wise(root, *inside, b"\0", null_handling="skip")
    return joined.to_numpy(zero_copy_only=False).tolist()
