"""Rows as Python values and as Arrow columns: how a key, an image, a failure goes in and comes back.

The key of a name that is not UTF-8 is in `path_bytes`; `path` then only shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.records import ImageKey, StoredImage, shown
from pfgdata.store.layout import FAILURES_SCHEMA, IMAGES_SCHEMA

__all__ = [
    "IMAGE_COLUMNS",
    "KEY_COLUMNS",
    "failures_table",
    "images_table",
    "key_bytes",
    "key_columns",
    "key_of",
    "keys_of",
    "stable_order",
    "stored_image",
]

KEY_COLUMNS = ("root", "path", "member", "path_bytes", "member_bytes")
IMAGE_COLUMNS = (*KEY_COLUMNS, "content_id", "size", "width", "height")  # of a StoredImage


def key_columns(key: ImageKey) -> dict[str, Any]:
    """The key as the five columns of a row."""
    path, path_bytes = _text(key.path)
    member, member_bytes = _text(key.member) if key.member is not None else (None, None)
    return {
        "root": key.root,
        "path": path,
        "member": member,
        "path_bytes": path_bytes,
        "member_bytes": member_bytes,
    }


def key_of(row: Mapping[str, Any]) -> ImageKey:
    """The key of a row with the five columns."""
    member = row["member_bytes"] if row["member_bytes"] is not None else row["member"]
    return ImageKey(
        root=row["root"],
        path=row["path_bytes"] if row["path_bytes"] is not None else row["path"].encode(),
        member=member.encode() if isinstance(member, str) else member,
    )


def stored_image(*rows: Mapping[str, Any]) -> StoredImage:
    """The image of rows of one content, the latest first, with IMAGE_COLUMNS."""
    first = rows[0]
    return StoredImage(
        content_id=first["content_id"].bytes,
        keys=tuple(map(key_of, rows)),
        size=first["size"],
        width=first["width"],
        height=first["height"],
    )


def keys_of(table: pa.Table) -> Iterator[ImageKey]:
    """The keys of the rows of a table with the five columns."""
    paths, members = (key_bytes(table, name).to_pylist() for name in ("path", "member"))
    for root, path, member in zip(table["root"].to_pylist(), paths, members, strict=True):
        yield ImageKey(root=root, path=path, member=member)


def images_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows with the columns of IMAGES_SCHEMA as a table; content_id is 16 bytes."""
    return pa.Table.from_pylist(list(rows), schema=IMAGES_SCHEMA)


def failures_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows with the columns of FAILURES_SCHEMA as a table."""
    return pa.Table.from_pylist(list(rows), schema=FAILURES_SCHEMA)


def stable_order(table: pa.Table) -> pa.Int64Array:
    """The permutation that puts a table with the five key columns into the corpus's stable order."""
    keys = pa.table(
        {
            "root": pc.cast(pc.cast(table["root"], pa.string()), pa.binary()),
            "path": key_bytes(table, "path"),
            "member": key_bytes(table, "member"),
        }
    )
    order = pc.sort_indices(keys, [(name, "ascending", "at_start") for name in keys.column_names])
    return order.cast(pa.int64())


def key_bytes(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A path or member (`name`) as the key has it: its bytes where it is not UTF-8, else its text."""
    return pc.coalesce(table[f"{name}_bytes"], pc.cast(table[name], pa.binary()))


def _text(name: bytes) -> tuple[str, bytes | None]:
    text = shown(name)
    return text, None if text.encode() == name else name
