"""Which row of a user's column goes with which image: by content_id, or by (root, path, member).

A column keyed by paths alone speaks of them under any root, as long as no path in use lies under two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import StoreError
from pfgdata.records import CONTENT_ID_BYTES, Selection
from pfgdata.store.rows import KEY_COLUMNS, key_bytes
from pfgdata.store.snapshot import Snapshot, content_ids_of

__all__ = ["VALUE", "column_values", "normal_table", "rows_by_shard", "unmatched_rows"]

VALUE = "value"  # the one column of a table that is not its key


def normal_table(name: str, table: pa.Table) -> pa.Table:
    """`table` as stored: content_id, or the key columns of images.parquet (root only if given); `value`.

    Raises StoreError where that cannot be, or where a key stands twice.
    """
    given = table.column_names
    keys = [column for column in given if column != VALUE]
    by_path = "path" in keys and set(keys) <= set(KEY_COLUMNS)
    if VALUE not in given or len(set(given)) < len(given) or not (keys == ["content_id"] or by_path):
        raise StoreError(
            f"column {name}: the table has {', '.join(given) or 'nothing'}; it must have content_id, or path "
            f"(and root, member), and {VALUE}"
        )
    try:
        columns = _path_columns(table) if by_path else {"content_id": _uuids(table["content_id"])}
    except (pa.ArrowException, ValueError) as problem:
        raise StoreError(
            f"column {name}: a key is of another type ({problem}); "
            f"content_id is a UUID or 16 bytes, root, path and member are text"
        ) from None
    for key in ("content_id", "path", "root"):
        if key in columns and columns[key].null_count:
            raise StoreError(f"column {name}: {columns[key].null_count} rows have no {key}; leave them out")
    normal = pa.table({**columns, VALUE: _values(name, table[VALUE])})
    _require_once(name, normal)
    return normal


def column_values(
    column: pa.Table, snapshot: Snapshot, selection: Selection, *, where: str
) -> pa.ChunkedArray:
    """The value for each row of `selection`, in its order, null where the column has none for it.

    A table without `root` speaks of its paths under any root. Raises StoreError, which names the column by
    `where`, if a selected row's path is visible under two: one value would go to two different images.
    """
    if "content_id" in column.column_names:
        ids = _fixed(selection.content_ids)
        return column[VALUE].take(pc.index_in(ids, value_set=_keys(column, column)))
    order: list[npt.NDArray[np.int64]] = []
    keys: list[pa.Array] = []
    for mine, rows in rows_by_shard(snapshot, selection, KEY_COLUMNS):
        order.append(mine)
        keys += _keys(rows, column).chunks
    found = pc.index_in(pa.chunked_array(keys, pa.binary()), value_set=_keys(column, column))
    if "root" not in column.column_names:
        keys_only = column.drop_columns([VALUE])
        _require_one_root(keys_only.take(pc.unique(found.drop_null())), snapshot, where=where)
    positions = np.argsort(np.concatenate([np.empty(0, np.int64), *order]))
    return column[VALUE].take(found.take(pa.array(positions)))


def unmatched_rows(column: pa.Table, snapshot: Snapshot) -> pa.Table:
    """The rows of `column` that are of no image that `snapshot` shows."""
    by_content = "content_id" in column.column_names
    images = snapshot.images(["content_id"] if by_content else KEY_COLUMNS)
    return column.filter(pc.is_null(pc.index_in(_keys(column, column), value_set=_keys(images, column))))


def rows_by_shard(
    snapshot: Snapshot, selection: Selection, columns: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
    """For each shard of `selection`: which of its rows stand there, int64 [M], and the `columns` of those.

    One shard is in memory at a time. Raises StoreError when a row is no longer visible in `snapshot`.
    """
    snapshot.positions(selection)  # raises where the selection is of another snapshot
    for index, shard in enumerate(selection.shards):
        mine = np.flatnonzero(selection.shard_index == index)
        if len(mine):
            table = snapshot.images(columns, shards=[shard])
            positions = np.searchsorted(table["row"].to_numpy(), selection.rows[mine])
            yield mine, table.select(list(columns)).take(pa.array(positions))


def _path_columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    types = {"root": pa.string(), "path": pa.string(), "member": pa.string()}
    columns = {}
    for key in KEY_COLUMNS:
        kind = types.get(key, pa.binary())
        if key in table.column_names:
            columns[key] = pc.cast(table[key], kind)
        elif key != "root":
            columns[key] = pa.chunked_array([pa.nulls(table.num_rows, kind)])
    return columns


def _uuids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    parts = [chunk.storage if hasattr(chunk, "storage") else chunk for chunk in column.chunks]
    fixed = [pc.cast(part, pa.binary(CONTENT_ID_BYTES)) for part in parts]
    return pa.chunked_array([pa.ExtensionArray.from_storage(pa.uuid(), part) for part in fixed], pa.uuid())


def _values(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values in a type whose rows can be picked; pyarrow 26 cannot pick those of views."""
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    column = column.cast(plain.get(column.type, column.type))
    try:
        column.slice(0, 0).take(pa.array([], pa.int32()))
    except pa.ArrowNotImplementedError:
        raise StoreError(f"column {name}: {column.type} cannot be kept; use another type") from None
    return column


def _require_once(name: str, table: pa.Table) -> None:
    keys = _keys(table, table)
    first = pc.index_in(keys, value_set=keys).to_numpy()
    again = np.flatnonzero(first != np.arange(len(first)))
    if len(again):
        row = table.slice(int(again[0]), 1).drop_columns([VALUE]).to_pylist()[0]
        shown = " ".join(str(value) for value in row.values() if value is not None)
        raise StoreError(
            f"column {name}: {len(again)} rows repeat the key of another, first: {shown}; leave one row a key"
        )


def _keys(table: pa.Table, column: pa.Table) -> pa.ChunkedArray:
    """The rows of `table` as single values that compare, by the key that `column` has: bytes."""
    if "content_id" in column.column_names:
        return pa.chunked_array([_fixed(content_ids_of(table["content_id"]))])
    parts = [key_bytes(table, "path"), key_bytes(table, "member")]
    if "root" in column.column_names:
        parts.insert(0, pc.cast(pc.cast(table["root"], pa.string()), pa.binary()))
    joined = pc.binary_join_element_wise(  # no name holds a NUL byte, so no two keys join to the same
        *parts, b"\0", null_handling="replace", null_replacement=b"\0"
    )
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])


def _fixed(content_ids: npt.NDArray[np.uint8]) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(content_ids))
    return pa.Array.from_buffers(pa.binary(CONTENT_ID_BYTES), len(content_ids), [None, data])


def _require_one_root(used: pa.Table, snapshot: Snapshot, *, where: str) -> None:
    """Raise StoreError where a path of `used` (rows of a column without root) is visible under two roots."""
    images = snapshot.images(KEY_COLUMNS)
    roots = pc.cast(images["root"], pa.string()).combine_chunks().dictionary_encode()
    if len(roots.dictionary) < 2:
        return
    position = pc.index_in(_keys(images, used), value_set=_keys(used, used))
    pairs = pa.table({"position": position, "root": roots.cast(pa.string())}).filter(position.is_valid())
    counts = pairs.group_by("position").aggregate([("root", "min"), ("root", "max")])
    two = counts.filter(pc.not_equal(counts["root_min"], counts["root_max"])).slice(0, 1).to_pylist()
    if two:
        path = used["path"][two[0]["position"]].as_py()
        raise StoreError(
            f"{where}: {path} lies under {two[0]['root_min']} and {two[0]['root_max']}; "
            f"write the column with a column root"
        )
