"""What stands in a store under each key, while parts are adopted: found by a hash of the key.

Rows are kept in sorted runs of 48 bytes a row. A run is merged with the one before once it is half as long:
a row is moved some ten times, however many commits there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.store import KEY_COLUMNS, Shadow, Snapshot, content_ids_of, keys_of

__all__ = ["Rows", "Standing", "rows_of"]

Rows = npt.NDArray[np.void]  # of _ROW
_ROW = np.dtype(
    [
        ("key", np.uint64),  # the first and
        ("rest", np.uint64),  # the second half of a hash of the key
        ("size", np.uint64),
        ("mtime_ns", np.int64),
        ("mark", np.uint64),  # of an image half its content_id, of a failure a hash of what is wrong
        ("shard", np.int32),  # its number, -1: nothing is there any more
        ("row", np.int32),
    ]
)
_NOTHING = -1


class Standing:
    """The visible rows of one table of a store, `images` or `failures`, and what is done to them since."""

    def __init__(self, snapshot: Snapshot, table: str) -> None:
        self.table = table
        columns = [*KEY_COLUMNS, "size", "mtime_ns", *_SAID[table]]
        found = snapshot.images(columns) if table == "images" else snapshot.failures(columns)
        shard = found["shard"].unify_dictionaries().combine_chunks()
        self._shards: list[str] = shard.dictionary.to_pylist() if len(found) else []
        rows = rows_of(found, table)
        if len(found):
            rows["shard"] = shard.indices.to_numpy()
            rows["row"] = found["row"].to_numpy()
        self._runs = [np.sort(rows, order="key")] if len(rows) else []

    def find(self, wanted: Rows) -> Rows:
        """What stands under the key of each of `wanted`; its `shard` is -1 where nothing does."""
        out = np.zeros(len(wanted), _ROW)
        out["shard"] = _NOTHING
        todo = np.arange(len(wanted))
        for run in reversed(self._runs):  # the newest first
            at = np.minimum(np.searchsorted(run["key"], wanted["key"][todo]), len(run) - 1)
            hit = (run["key"][at] == wanted["key"][todo]) & (run["rest"][at] == wanted["rest"][todo])
            out[todo[hit]] = run[at[hit]]
            todo = todo[~hit]
        return out

    def shadows(self, found: Rows) -> list[Shadow]:
        """What hides the rows that `find` gave."""
        there = found[found["shard"] != _NOTHING]
        pairs = zip(there["shard"].tolist(), there["row"].tolist(), strict=True)
        return [Shadow(self._shards[shard], self.table, row) for shard, row in pairs]

    def put(self, rows: Rows, shard: str) -> None:
        """These rows stand in `shard` now; their `row` says where."""
        rows = rows.copy()
        rows["shard"] = len(self._shards)
        self._shards.append(shard)
        self._add(rows)

    def hide(self, rows: Rows) -> None:
        """Nothing stands under the keys of these rows any more."""
        rows = rows[rows["shard"] != _NOTHING].copy()
        rows["shard"] = _NOTHING
        self._add(rows)

    def _add(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._runs.append(np.sort(rows, order="key"))
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            new, old = self._runs.pop(), self._runs.pop()
            both = np.concatenate([new, old])
            order = np.lexsort((np.repeat([0, 1], [len(new), len(old)]), both["rest"], both["key"]))
            both = both[order]
            first = np.ones(len(both), np.bool_)
            first[1:] = (both["key"][1:] != both["key"][:-1]) | (both["rest"][1:] != both["rest"][:-1])
            self._runs.append(both[first])


def rows_of(table: pa.Table, kind: str) -> Rows:
    """The rows of a table of `images` or `failures`, numbered; they stand nowhere yet."""
    rows = np.zeros(len(table), _ROW)
    if not len(table):
        return rows
    digests = (blake3(_named(key)).digest(length=16) for key in keys_of(table))
    halves = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    rows["key"], rows["rest"] = halves[:, 0], halves[:, 1]
    rows["size"], rows["mtime_ns"] = table["size"].to_numpy(), table["mtime_ns"].to_numpy()
    rows["shard"], rows["row"] = _NOTHING, np.arange(len(table))
    if kind == "images":
        ids = np.ascontiguousarray(content_ids_of(table["content_id"])[:, :8])
        rows["mark"] = ids.view(np.uint64).ravel()
    else:
        said = zip(*(pc.cast(table[name], pa.string()).to_pylist() for name in _SAID[kind]), strict=True)
        marks = (blake3("\0".join(words).encode()).digest(length=8) for words in said)
        rows["mark"] = np.frombuffer(b"".join(marks), np.uint64)
    return rows


_SAID = {"images": ("content_id",), "failures": ("kind", "reason")}


def _named(key: Any) -> bytes:
    inside = b"" if key.member is None else b"\0" + key.member
    return b"%s\0%s%s" % (key.root.encode(), key.path, inside)
