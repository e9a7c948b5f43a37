"""The user's own columns on disk: `columns/NAME.parquet`, and `NAME.json` beside it.

Two files cannot be replaced by one rename, so NAME.json lists every state that the Parquet file may be in:
one, and while a write is under way the one before it too. Wherever a writer dies, a reader finds the old
column or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from blake3 import blake3

from pfgdata.errors import StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json
from pfgdata.records import nearest
from pfgdata.store.layout import (
    COLUMN_NAME,
    FORMAT,
    parquet_bytes,
    read_record,
    require_column_name,
    table_in,
)
from pfgdata.store.matching import VALUE, column_values, normal_table
from pfgdata.store.snapshot import Joined, Snapshot

__all__ = [
    "DamagedColumnError",
    "check_column",
    "joined_columns",
    "list_columns",
    "read_column",
    "remove_column",
    "replace_pair",
    "stems",
    "write_column",
]

_ADVICE = "write the column again"

State = Mapping[str, Any] | None  # size and blake3 of NAME.parquet; None: there is no such file


class DamagedColumnError(StoreError):
    """A file of a column, `path`, is not what was written; `what` is wrong with it."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}; {_ADVICE}")
        self.path = path
        self.what = what


def list_columns(disk: Disk, folder: Path) -> list[str]:
    """The names of the columns in `folder` (a store's `columns/`), sorted."""
    return [name for name in stems(disk, folder) if all(map(disk.is_file, _files(folder, name)))]


def stems(disk: Disk, folder: Path) -> list[str]:
    """The names of which `folder` holds any file of a column, sorted."""
    paths = map(Path, disk.names(folder) if disk.is_folder(folder) else [])
    return sorted({path.stem for path in paths if path.suffix in (".json", ".parquet")})


def write_column(disk: Disk, folder: Path, name: str, table: pa.Table, *, replace: bool) -> None:
    """Put `table` (see `normal_table`) on disk as the column `name`; only for a holder of the store's lock.

    Raises StoreError for a name or table that cannot be one, and for an existing column unless `replace`.
    """
    require_column_name(name)
    data = _parquet(name, normal_table(name, table))
    if not replace and name in list_columns(disk, folder):
        raise StoreError(f"{folder.parent}: has a column {name} already; replace it, or use another name")
    disk.make_folder(folder)
    replace_pair(disk, folder, name, data)


def replace_pair(disk: Disk, folder: Path, name: str, data: bytes) -> None:
    """Put `data` into NAME.parquet, its state into NAME.json; a reader finds the old two or the new."""
    record, path = _files(folder, name)
    fresh = _state(data)
    disk.replace_file(record, _record([*_states_now(disk, record, path), fresh]))
    disk.replace_file(path, data)
    disk.replace_file(record, _record([fresh]))


def remove_column(disk: Disk, folder: Path, name: str) -> None:
    """Delete the column `name`, damaged or not; only for a holder of the store's lock.

    Raises StoreError with the nearest names where there is none.
    """
    if not COLUMN_NAME.fullmatch(name) or name not in stems(disk, folder):
        raise _unknown(disk, folder, name)
    record, path = _files(folder, name)
    disk.replace_file(record, _record([*_states_now(disk, record, path), None]))  # readers find it or nothing
    for file in (path, record):
        if disk.is_file(file):
            disk.unlink(file)


def read_column(disk: Disk, folder: Path, name: str) -> pa.Table:
    """The table of the column `name`: its key columns, then `value`.

    Raises StoreError with the nearest names where there is none, DamagedColumnError where its bytes are not
    those that were written.
    """
    data = check_column(disk, folder, name, deep=True) if COLUMN_NAME.fullmatch(name) else None
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


def check_column(disk: Disk, folder: Path, name: str, *, deep: bool) -> bytes | None:
    """The bytes of NAME.parquet if `deep`, known to be good; None where there is no such column.

    Not `deep`: only sizes are compared. Needs no lock: what does not fit is looked at again if a writer has
    been there meanwhile. Raises DamagedColumnError, or StoreError where NAME.json is damaged.
    """
    record, path = _files(folder, name)
    while True:
        before = _bytes(disk, record)
        if before is None and not disk.is_file(path):
            return None
        states = _states(disk, record)
        data = _bytes(disk, path) if deep else None
        wrong = _misfit(states, _state(data)) if deep else _size_misfit(states, _size(disk, path))
        if wrong is None:
            return data
        if _bytes(disk, record) == before:
            raise DamagedColumnError(*((record, "is missing") if before is None else (path, wrong)))


def _unknown(disk: Disk, folder: Path, name: str) -> StoreError:
    known = list_columns(disk, folder)
    near = nearest(name, known)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return StoreError(f"{folder.parent}: no column {name!r}; {hint}its columns: {', '.join(known) or 'none'}")


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.json", folder / f"{name}.parquet"


def _bytes(disk: Disk, path: Path) -> bytes | None:
    try:
        return disk.read(path)
    except FileNotFoundError:
        return None


def _size(disk: Disk, path: Path) -> int | None:
    try:
        return disk.size(path)
    except FileNotFoundError:
        return None


def _state(data: bytes | None) -> State:
    return None if data is None else {"size": len(data), "blake3": blake3(data).hexdigest()}


def _record(states: Sequence[State]) -> bytes:
    """The bytes of NAME.json; the time tells two writes of the same bytes apart."""
    written = datetime.now(UTC).isoformat()
    return canonical_json({"format": FORMAT, "written": written, "states": list(states)})


def _states(disk: Disk, record: Path) -> list[State]:
    """The states that a NAME.json lists, none where it is missing."""
    try:
        value = read_record(disk, record, error=StoreError, advice=_ADVICE)
    except FileNotFoundError:
        return []
    states = value["states"]  # of whose fields a later version may have more
    return [state and {"size": state["size"], "blake3": state["blake3"]} for state in states]


def _states_now(disk: Disk, record: Path, path: Path) -> list[State]:
    """What a reader may go on finding until a new file is in place; a damaged one stays known as such."""
    now = _state(_bytes(disk, path))
    if now is None and not disk.is_file(record):
        return [None]
    try:
        states = _states(disk, record)
    except StoreFormatError:
        raise
    except StoreError:  # it is replaced
        states = []
    return [now] if now in states else states


def _misfit(states: Sequence[State], found: State) -> str | None:
    if found in states:
        return None
    if found is None:
        return "is missing"
    return "its bytes are not those that were written"


def _size_misfit(states: Sequence[State], size: int | None) -> str | None:
    sizes = [None if state is None else state["size"] for state in states]
    if size in sizes:
        return None
    return "is missing" if size is None else f"has {size:,} bytes, should have {sizes[-1] if sizes else 0:,}"


def _parquet(name: str, table: pa.Table) -> bytes:
    try:
        return parquet_bytes(table)
    except pa.ArrowException as problem:
        raise StoreError(
            f"column {name}: Parquet cannot hold {table[VALUE].type} ({problem}); use another type"
        ) from None
