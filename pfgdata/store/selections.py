"""Saved selections on disk: `selections/NAME.json`, and beside it the content_ids of a frozen one.

The ids stand in a file named by their digest, so that replacing NAME.json, one rename, replaces both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.errors import QueryError, StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json
from pfgdata.records import CONTENT_ID_BYTES, did_you_mean, ids_as_keys, nearest
from pfgdata.store.layout import COLUMN_NAME, FORMAT, parquet_bytes, read_record, table_in
from pfgdata.store.matching import VALUE, column_values
from pfgdata.store.recorded import size_misfit
from pfgdata.store.snapshot import Snapshot

__all__ = [
    "FrozenIds",
    "SavedSelection",
    "check_selection",
    "frozen_rows",
    "list_selections",
    "read_selection",
    "remove_selection",
    "require_selection",
    "saved_selection",
    "write_selection",
]

_ADVICE = "save the selection again, or remove it: pfgdata selections --remove NAME"
_DIGITS = 16  # of the digest, in the name of the ids' file

Language = Literal["sql", "tags"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenIds:
    """The images of a frozen selection: `ids` is their Selection.digest; `blake3` and `size` of the file."""

    count: int
    ids: str
    size: int
    blake3: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSelection:
    """What `@name` means: its `text` asked again at each use or, where it is `frozen`, these images."""

    name: str
    text: str | None  # None: every image
    language: Language = "sql"
    thresholds: dict[str, float] = field(default_factory=dict)
    uses: tuple[str, ...] = ()  # the selections that its text names
    how: str | None = None  # what was done beside asking: a sample, duplicates
    created: str = ""  # ISO, UTC; given when it is written
    frozen: FrozenIds | None = None

    @property
    def meaning(self) -> dict[str, Any]:
        """What a run puts on record: the same as long as it selects the same by the same words."""
        frozen = self.frozen and self.frozen.ids
        words = {"text": self.text, "language": self.language, "thresholds": self.thresholds}
        return {**words, "frozen": frozen}

    def as_dict(self) -> dict[str, Any]:
        """As NAME.json has it."""
        return {**asdict(self), "uses": list(self.uses)}

    @classmethod
    def of(cls, value: dict[str, Any]) -> SavedSelection:
        """What `as_dict` gave; fields that a later version added are left aside."""
        frozen = value["frozen"]
        known = {one.name: value[one.name] for one in fields(cls) if one.name not in ("uses", "frozen")}
        ids = frozen and FrozenIds(**{one.name: frozen[one.name] for one in fields(FrozenIds)})
        return cls(**known, uses=tuple(value["uses"]), frozen=ids)


def require_selection(disk: Disk, folder: Path, name: str, *, replace: bool) -> None:
    """Raise StoreError where no selection can be called `name`, or one is and is not to be `replace`d."""
    if not COLUMN_NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot name a selection; use small letters, digits and _, a letter first, at most 64"
        )
    if not replace and name in list_selections(disk, folder):
        raise StoreError(
            f"{folder.parent}: has a selection {name} already; --replace it, or use another name"
        )


def list_selections(disk: Disk, folder: Path) -> list[str]:
    """The names of the selections in `folder` (a store's `selections/`), sorted."""
    names = disk.names(folder) if disk.is_folder(folder) else []
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(stem for stem in stems if COLUMN_NAME.fullmatch(stem))


def read_selection(disk: Disk, folder: Path, name: str) -> SavedSelection:
    """The selection `name`. Raises StoreError where it is damaged, with the nearest names where unknown."""
    path = folder / f"{name}.json"
    if not COLUMN_NAME.fullmatch(name) or not disk.is_file(path):
        known = [f"@{one}" for one in list_selections(disk, folder)]
        near = nearest(f"@{name}", known)
        hint = did_you_mean(near, f"there are {', '.join(known)}")
        if not known:
            hint = "save one with pfgdata select NAME EXPR"
        raise StoreError(f"no selection @{name}; {hint}")
    return SavedSelection.of(read_record(disk, path, error=StoreError, advice=_ADVICE))


def write_selection(
    disk: Disk,
    folder: Path,
    selection: SavedSelection,
    content_ids: npt.NDArray[np.uint8] | None,
    *,
    replace: bool,
) -> SavedSelection:
    """Save `selection`, frozen to `content_ids` (uint8 [N, 16]) if given; only for a holder of the lock.

    Raises StoreError for a name that cannot be one, and for an existing selection unless `replace`.
    """
    name = selection.name
    require_selection(disk, folder, name, replace=replace)
    disk.make_folder(folder)
    value = selection.as_dict()
    value["created"] = value["created"] or datetime.now(UTC).isoformat(timespec="seconds")
    if content_ids is not None:
        distinct = np.unique(ids_as_keys(content_ids))
        data = _parquet(distinct)
        digest = blake3(distinct.tobytes()).hexdigest()
        frozen = FrozenIds(count=len(distinct), ids=digest, size=len(data), blake3=blake3(data).hexdigest())
        disk.replace_file(_ids_path(folder, name, frozen), data)
        value["frozen"] = asdict(frozen)
    disk.replace_file(folder / f"{name}.json", canonical_json({"format": FORMAT, **value}))
    saved = SavedSelection.of(value)
    _sweep(disk, folder, name, saved.frozen)
    return saved


def remove_selection(disk: Disk, folder: Path, name: str) -> None:
    """Delete the selection `name`, damaged or not; only for a holder of the store's lock.

    Raises StoreError where there is none, and where another's text names it.
    """
    if not COLUMN_NAME.fullmatch(name) or not disk.is_file(folder / f"{name}.json"):
        read_selection(disk, folder, name)  # says what there is
    for other in list_selections(disk, folder):
        if other != name and name in _uses(disk, folder, other):
            raise StoreError(f"@{other} is made of @{name}; remove that first, or freeze it")
    disk.unlink(folder / f"{name}.json")
    _sweep(disk, folder, name, None)


def check_selection(disk: Disk, folder: Path, name: str, *, deep: bool) -> None:
    """Raise StoreError where a file of the selection `name` is not as written; every byte if `deep`."""
    saved = read_selection(disk, folder, name)
    if saved.frozen is None:
        return
    path = _ids_path(folder, name, saved.frozen)
    if wrong := size_misfit([asdict(saved.frozen)], disk, path):
        raise StoreError(f"{path}: {wrong}; {_ADVICE}")
    if deep:
        _ids_table(disk, folder, saved)


def saved_selection(snapshot: Snapshot, name: str) -> SavedSelection:
    """What `@name` means in the store of `snapshot`. Raises QueryError where there is none."""
    try:
        return read_selection(snapshot.disk, snapshot.path / "selections", name)
    except StoreFormatError:
        raise
    except StoreError as problem:
        raise QueryError(str(problem)) from problem


def frozen_rows(snapshot: Snapshot, saved: SavedSelection) -> pa.ChunkedArray:
    """For each visible row of `snapshot` whether it is of the frozen selection `saved`, bool."""
    table = _ids_table(snapshot.disk, snapshot.path / "selections", saved)
    column = table.append_column(VALUE, pa.array(np.ones(len(table), np.bool_)))
    found = column_values(column, snapshot, snapshot.everything, where=f"@{saved.name}")
    return pc.fill_null(found, False)


def _ids_table(disk: Disk, folder: Path, saved: SavedSelection) -> pa.Table:
    assert saved.frozen is not None
    path = _ids_path(folder, saved.name, saved.frozen)
    try:
        data = disk.read(path)
    except FileNotFoundError:
        if read_selection(disk, folder, saved.name).frozen != saved.frozen:
            raise StoreError(f"@{saved.name} has just been saved anew; run the same again") from None
        raise StoreError(f"{path}: is missing; {_ADVICE}") from None
    if blake3(data).hexdigest() != saved.frozen.blake3:
        raise StoreError(f"{path}: its bytes are not those that were written; {_ADVICE}")
    return table_in(data)


def _ids_path(folder: Path, name: str, frozen: FrozenIds) -> Path:
    return folder / f"{name}.{frozen.ids[:_DIGITS]}.parquet"


def _parquet(ids: npt.NDArray[np.void]) -> bytes:
    plain = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(CONTENT_ID_BYTES), len(ids), [None, pa.py_buffer(ids.tobytes())]
    )
    return parquet_bytes(pa.table({"content_id": pa.ExtensionArray.from_storage(pa.uuid(), plain)}))


def _uses(disk: Disk, folder: Path, name: str) -> tuple[str, ...]:
    try:
        saved = read_selection(disk, folder, name)
    except StoreError:  # damaged: it can say nothing
        return ()
    return () if saved.frozen else saved.uses


def _sweep(disk: Disk, folder: Path, name: str, keep: FrozenIds | None) -> None:
    """Remove the ids of earlier states of `name`, those too that a writer who died left behind."""
    kept = keep and _ids_path(folder, name, keep).name
    for other in disk.names(folder):
        if other.startswith(f"{name}.") and other.endswith(".parquet") and other != kept:
            disk.unlink(folder / other)
