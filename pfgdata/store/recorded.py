"""A Parquet file that is replaced: `NAME.parquet`, and `NAME.json` beside it, which says what it may hold.

Two files cannot be replaced by one rename, so NAME.json lists every state that the Parquet file may be in:
one, and while a write is under way the one before it too. Wherever a writer dies, a reader finds the old
file or the new one, whole.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from pfgdata.errors import StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json
from pfgdata.store.layout import FORMAT, read_record

__all__ = ["DamagedFileError", "RecordedFile", "size_misfit"]

State = Mapping[str, Any] | None  # size and blake3 of a file; None: there is no such file
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedFileError(StoreError):
    """A file of the store, `path`, is not what was written; `what` is wrong with it, and what to do."""

    def __init__(self, path: Path, what: str, advice: str) -> None:
        super().__init__(f"{path}: {what}; {advice}")
        self.path = path
        self.what = f"{what}; {advice}"


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """NAME.parquet in `folder` and its record; `advice` is what to do where either is damaged.

    Who writes or removes it holds the store's lock.
    """

    disk: Disk
    folder: Path
    name: str
    advice: str

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self.folder / f"{self.name}.parquet"

    @property
    def record(self) -> Path:
        """What says what the Parquet file may hold."""
        return self.folder / f"{self.name}.json"

    def replace(self, data: bytes) -> None:
        """Put `data` into the file; a reader finds the one before or this one."""
        fresh = _state(data)
        self._write_record([*self._states_now(), fresh])
        self.disk.replace_file(self.path, data)
        self._write_record([fresh])

    def remove(self) -> None:
        """Delete both files, damaged or not; a reader finds it or nothing.

        On a full disk, which this is to free, a reader may be told meanwhile that the file is missing.
        """
        try:
            self._write_record([*self._states_now(), None])
        except OSError as problem:
            if problem.errno not in _FULL:
                raise
        for file in (self.path, self.record):
            if self.disk.is_file(file):
                self.disk.unlink(file)

    def check(self, *, deep: bool) -> bytes | None:
        """The bytes of the file if `deep`, known to be good; None where there is no such file.

        Not `deep`: only sizes are compared. Needs no lock: what does not fit is looked at again if a writer
        has been there meanwhile. Raises DamagedFileError, or StoreError where the record is damaged.
        """
        while True:
            before = _bytes(self.disk, self.record)
            if before is None and not self.disk.is_file(self.path):
                return None
            states = self._states()
            data = _bytes(self.disk, self.path) if deep else None
            wrong = _misfit(states, _state(data)) if deep else size_misfit(states, self.disk, self.path)
            if wrong is None:
                return data
            if _bytes(self.disk, self.record) == before:
                found = (self.record, "is missing") if before is None else (self.path, wrong)
                raise DamagedFileError(*found, self.advice)

    def _write_record(self, states: Sequence[State]) -> None:
        written = datetime.now(UTC).isoformat()  # tells two writes of the same bytes apart
        value = {"format": FORMAT, "written": written, "states": list(states)}
        self.disk.replace_file(self.record, canonical_json(value))

    def _states(self) -> list[State]:
        """The states that the record lists, none where it is missing."""
        try:
            value = read_record(self.disk, self.record, error=StoreError, advice=self.advice)
        except FileNotFoundError:
            return []
        states = value["states"]  # of whose fields a later version may have more
        return [state and {"size": state["size"], "blake3": state["blake3"]} for state in states]

    def _states_now(self) -> list[State]:
        """What a reader may go on finding until a new file is in place; a damaged one stays known as such."""
        now = _state(_bytes(self.disk, self.path))
        if now is None and not self.disk.is_file(self.record):
            return [None]
        try:
            states = self._states()
        except StoreFormatError:
            raise
        except StoreError:  # it is replaced
            states = []
        return [now] if now in states else states


def size_misfit(states: Sequence[State], disk: Disk, path: Path) -> str | None:
    """What is wrong with the file `path` if it has none of the sizes of `states`; None where it has."""
    sizes = [None if state is None else state["size"] for state in states]
    try:
        size = disk.size(path)
    except FileNotFoundError:
        size = None
    if size in sizes:
        return None
    return "is missing" if size is None else f"has {size:,} bytes, should have {sizes[-1] if sizes else 0:,}"


def _misfit(states: Sequence[State], found: State) -> str | None:
    if found in states:
        return None
    return "is missing" if found is None else "its bytes are not those that were written"


def _bytes(disk: Disk, path: Path) -> bytes | None:
    try:
        return disk.read(path)
    except FileNotFoundError:
        return None


def _state(data: bytes | None) -> State:
    return None if data is None else {"size": len(data), "blake3": blake3(data).hexdigest()}
