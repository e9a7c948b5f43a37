"""Columns that no shard has, for one question: read when it names them, then joined to the rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS
from pfgdata.query.indexed import IndexedTags
from pfgdata.query.sandbox import Sandbox
from pfgdata.store import (
    Joined,
    SavedSelection,
    Snapshot,
    frozen_rows,
    joined_columns,
    saved_selection,
)

if TYPE_CHECKING:
    from pfgdata.similarity import Neighbours

__all__ = ["JoinedColumns"]

_MOST_NAMED = 100  # each brings its whole text: a dozen that name another twice would be 4,096 of it


class JoinedColumns:
    """The columns of `snapshot` beside COLUMNS; `values` holds those that the question has named so far.

    `tags` holds what the store's index says of the tags that it has named.
    """

    def __init__(self, snapshot: Snapshot, tags: IndexedTags) -> None:
        self.snapshot = snapshot
        self.tags = tags
        self.values: dict[str, pa.ChunkedArray] = {}
        self.selections: dict[str, SavedSelection] = {}  # those that the question has named so far
        self._named = 0
        self._likened: dict[str, str] = {}  # an image as it is named -> its column

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

    def join(self, sandbox: Sandbox) -> None:
        """Give the view of `sandbox` what the question has named so far."""
        sandbox.join(self.values, self.tags.table())
        sandbox.keep_bits(self.tags.bits)

    def likeness(self, text: str) -> str:
        """The name of a column of cosines with the stored image called `text`; null for damaged features.

        No column of a user has such a name. Raises QueryError where no stored image is called so.
        """
        from pfgdata.similarity import find_stored  # OpenCV: only where a question needs it

        if text not in self._likened:
            row = find_stored(self.snapshot, text)
            if row is None:
                raise QueryError(
                    f"no image of {self.snapshot.path} has the path or content_id '{text}'; "
                    "pfgdata similar FILE takes any file"
                )
            scores = self._neighbours.scores(self.snapshot.features(row))[0]
            name = self._likened[text] = f"similar to {len(self._likened)}"
            self.values[name] = pa.chunked_array([pa.array(scores, mask=np.isneginf(scores))])
        return self._likened[text]

    @cached_property
    def _neighbours(self) -> Neighbours:
        from pfgdata.similarity import Neighbours

        return Neighbours(self.snapshot)


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
