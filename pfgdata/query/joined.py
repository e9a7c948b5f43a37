"""Columns that no shard has, for one question: read when it names them, then joined to the rows."""

from __future__ import annotations

from functools import cached_property

import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS
from pfgdata.store import (
    Joined,
    SavedSelection,
    Snapshot,
    frozen_rows,
    joined_columns,
    saved_selection,
)

__all__ = ["JoinedColumns"]

_MOST_NAMED = 200  # each brings its whole text: a dozen that name another twice would be 4,096 of it


class JoinedColumns:
    """The columns of `snapshot` beside COLUMNS; `values` holds those that the question has named so far."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.values: dict[str, pa.ChunkedArray] = {}
        self.selections: dict[str, SavedSelection] = {}  # those that the question has named so far
        self._named = 0

    @cached_property
    def _there(self) -> dict[str, Joined]:
        return joined_columns(self.snapshot)  # a look into a folder: only where a name is none of COLUMNS

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a question can use."""
        return (*COLUMNS, *self._there)

    def read(self, name: str) -> pa.ChunkedArray | None:
        """The values of a column that is named; None for one of COLUMNS and where there is none.

        Raises StoreError where it is damaged or has not one value for each visible row.
        """
        if name not in self.values and name not in COLUMNS and name in self._there:
            self.values[name] = _askable(self._there[name].read(self.snapshot))
        return self.values.get(name)

    def selection(self, name: str) -> SavedSelection:
        """What `@name` means; of a frozen one, `values` holds under that name whether a row is of it.

        Raises QueryError where there is none, StoreError where it is damaged.
        """
        self._named += 1
        if self._named > _MOST_NAMED:
            raise QueryError(f"selections name each other over {_MOST_NAMED} times here; freeze one of them")
        if name not in self.selections:
            saved = saved_selection(self.snapshot, name)
            if saved.frozen is not None:
                self.values[f"@{name}"] = frozen_rows(self.snapshot, saved)
            self.selections[name] = saved
        return self.selections[name]


def _askable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """`values` in a type that can be measured and asked: DuckDB 2 takes no float16 from Arrow."""
    kind = values.type
    plain = {
        pa.float16(): pa.float32(),
        pa.list_(pa.float16()): pa.list_(pa.float32()),
        pa.string_view(): pa.large_string(),
        pa.binary_view(): pa.large_binary(),
    }
    return values.cast(plain[kind]) if kind in plain else values
