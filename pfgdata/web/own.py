"""The user's columns of one moment: each read once, when it is first asked for."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa

from pfgdata.errors import PfgError
from pfgdata.store import Joined, Snapshot, joined_columns

__all__ = ["OwnColumns"]


class OwnColumns:
    """Values by name, one for each visible row of `snapshot`. Safe for threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._read: dict[str, pa.ChunkedArray] = {}

    def known(self) -> dict[str, Joined]:
        """The columns that there are now."""
        return joined_columns(self._snapshot)

    def forget(self) -> None:
        """Read them anew from now on: they may have been attached again."""
        with self._lock:
            self._read.clear()

    def values(self, name: str) -> pa.ChunkedArray:
        """The values of a column. Raises StoreError where it is damaged, KeyError where there is none."""
        with self._lock:
            if name not in self._read:
                self._read[name] = self.known()[name].read(self._snapshot)
            return self._read[name]

    def of_row(self, row: int) -> dict[str, str | None]:
        """What each column says of a row, as text; of a damaged one, what is wrong with it."""
        return {name: self._text(name, row) for name in self.known()}

    def _text(self, name: str, row: int) -> str | None:
        try:
            return _text(self.values(name)[row].as_py())
        except (PfgError, ValueError, OverflowError) as problem:  # of a time that Python cannot hold
            return str(problem)


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return None if value is None else str(value)
