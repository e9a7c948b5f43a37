"""The user's own columns: a table each, in `columns/` of the store, kept as a RecordedFile.

A reader finds the old column or the new one, whole; a damaged one is written again, or removed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa

from pfgdata.errors import StoreError
from pfgdata.files import Disk
from pfgdata.records import nearest
from pfgdata.store.layout import COLUMN_NAME, parquet_bytes, require_column_name, table_in
from pfgdata.store.matching import VALUE, column_values, normal_table
from pfgdata.store.recorded import RecordedFile
from pfgdata.store.snapshot import Joined, Snapshot

__all__ = [
    "column_file",
    "joined_columns",
    "list_columns",
    "read_column",
    "remove_column",
    "stems",
    "write_column",
]


def list_columns(disk: Disk, folder: Path) -> list[str]:
    """The names of the columns in `folder` (a store's `columns/`), sorted."""
    files = [column_file(disk, folder, name) for name in stems(disk, folder)]
    return [one.name for one in files if disk.is_file(one.path) and disk.is_file(one.record)]


def stems(disk: Disk, folder: Path) -> list[str]:
    """The names of which `folder` holds any file of a column, sorted."""
    paths = map(Path, disk.names(folder) if disk.is_folder(folder) else [])
    return sorted({path.stem for path in paths if path.suffix in (".json", ".parquet")})


def write_column(disk: Disk, folder: Path, name: str, table: pa.Table, *, replace: bool) -> None:
    """Put `table` (see `normal_table`) on disk as the column `name`; only for a holder of the store's lock.

    Raises StoreError for a name or table that cannot be one, and for an existing column unless `replace`.
    """
    there = name in list_columns(disk, folder)
    if not there:  # one of before its name was taken may be written anew
        require_column_name(name)
    data = _parquet(name, normal_table(name, table))
    if there and not replace:
        raise StoreError(f"{folder.parent}: has a column {name} already; replace it, or use another name")
    disk.make_folder(folder)
    column_file(disk, folder, name).replace(data)


def remove_column(disk: Disk, folder: Path, name: str) -> None:
    """Delete the column `name`, damaged or not; only for a holder of the store's lock.

    Raises StoreError with the nearest names where there is none.
    """
    if not COLUMN_NAME.fullmatch(name) or name not in stems(disk, folder):
        raise _unknown(disk, folder, name)
    column_file(disk, folder, name).remove()


def read_column(disk: Disk, folder: Path, name: str) -> pa.Table:
    """The table of the column `name`: its key columns, then `value`.

    Raises StoreError with the nearest names where there is none, DamagedFileError where its bytes are not
    those that were written.
    """
    data = column_file(disk, folder, name).check(deep=True) if COLUMN_NAME.fullmatch(name) else None
    if data is None:
        raise _unknown(disk, folder, name)
    return table_in(data)


def joined_columns(snapshot: Snapshot) -> dict[str, Joined]:
    """What a question to `snapshot` can name beside the store's own: columns given to it, and the user's."""
    folder = snapshot.path / "columns"

    def values(name: str) -> pa.ChunkedArray:
        column = read_column(snapshot.disk, folder, name)
        where = f"{snapshot.path}: column {name}"
        return column_values(column, snapshot, snapshot.everything, where=where)

    users = {name: Joined(name, partial(values, name)) for name in list_columns(snapshot.disk, folder)}
    return users | {column.name: column for column in snapshot.given}


def column_file(disk: Disk, folder: Path, name: str) -> RecordedFile:
    """The files of the column `name`, be there any or none."""
    return RecordedFile(disk, folder, name, advice="write the column again")


def _unknown(disk: Disk, folder: Path, name: str) -> StoreError:
    known = list_columns(disk, folder)
    near = nearest(name, known)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return StoreError(f"{folder.parent}: no column {name!r}; {hint}its columns: {', '.join(known) or 'none'}")


def _parquet(name: str, table: pa.Table) -> bytes:
    try:
        return parquet_bytes(table)
    except pa.ArrowException as problem:
        raise StoreError(
            f"column {name}: Parquet cannot hold {table[VALUE].type} ({problem}); use another type"
        ) from None
