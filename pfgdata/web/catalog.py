"""What a page needs of every row, in memory: ids, sizes, keys, and the corpus's order as row numbers.

A row is told by its number among the visible rows of one snapshot, in the order of `Snapshot.images`: a
selection is then an array of 4 bytes a row. 600,000 rows take 90 MB with their paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from pfgdata.records import Selection, StoredImage
from pfgdata.store import IMAGE_COLUMNS, Snapshot, content_ids_of, stable_order, stored_image

__all__ = ["Catalog", "Rows", "id_of", "text_of"]

Rows: TypeAlias = "npt.NDArray[np.uint32]"


class Catalog:
    """The visible rows of `snapshot`, loaded once: 1.2 s for 600,000."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        table = snapshot.images([*IMAGE_COLUMNS, "format", "phash"])
        self.content_ids = content_ids_of(table["content_id"])
        self.width: npt.NDArray[np.uint32] = table["width"].to_numpy()
        self.height: npt.NDArray[np.uint32] = table["height"].to_numpy()
        self.phash: npt.NDArray[np.uint64] = table["phash"].to_numpy()
        self._at: Rows = table["row"].to_numpy().astype(np.uint32)
        self._order: Rows = stable_order(table).to_numpy().astype(np.uint32)
        self._table = table.select([*IMAGE_COLUMNS, "format"])
        prefixes = np.ascontiguousarray(self.content_ids[:, :8]).view(">u8").ravel().astype(np.uint64)
        self._by_id: Rows = np.argsort(prefixes, kind="stable").astype(np.uint32)
        self._prefixes = prefixes[self._by_id]

    def __len__(self) -> int:
        return len(self._at)

    def in_order(self, places: npt.NDArray[np.int64]) -> Rows:
        """The rows at `places`, in the order of the corpus."""
        wanted = np.zeros(len(self), np.bool_)
        wanted[places] = True
        return self._order[wanted[self._order]]

    def find(self, content_id: bytes) -> Rows:
        """Every row of that content, the latest last; empty where none is visible."""
        prefix = np.frombuffer(content_id[:8], ">u8").astype(np.uint64)[0]
        first, behind = (int(np.searchsorted(self._prefixes, prefix, side)) for side in ("left", "right"))
        rows = self._by_id[first:behind]
        same = (self.content_ids[rows] == np.frombuffer(content_id, np.uint8)).all(axis=1)
        return np.sort(rows[same])

    def image(self, rows: Rows) -> StoredImage:
        """The image of `rows`, which have one content."""
        return stored_image(*self._table.take(rows[::-1]).to_pylist())

    def formats(self, rows: Rows) -> list[str]:
        """What kind of file each row was: jpeg, png, ..."""
        return [str(one) for one in self._table["format"].take(rows).to_pylist()]

    def sizes(self, rows: Rows) -> list[int]:
        """Bytes of each row's file."""
        return [int(one) for one in self._table["size"].take(rows).to_pylist()]

    def described(self, rows: Rows) -> list[tuple[str, int, int]]:
        """content_id, width and height of each row."""
        return [
            (text_of(content), width, height)
            for content, width, height in zip(
                self.content_ids[rows], self.width[rows].tolist(), self.height[rows].tolist(), strict=True
            )
        ]

    def contents(self, rows: Rows) -> int:
        """How many distinct contents `rows` have."""
        if self._several is None:
            return len(rows)
        seen = np.zeros(len(self), np.bool_)
        seen[self._several[rows]] = True
        return int(seen.sum())

    def selection(self, rows: Rows) -> Selection:
        """The rows as library functions take them."""
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        return Selection(
            content_ids=self.content_ids[rows],
            shards=tuple(view.id for view in self.snapshot.shards),
            shard_index=shard.astype(np.int32),
            rows=self._at[rows].astype(np.int64),
        )

    def rows_of(self, selection: Selection) -> Rows:
        """The numbers of a selection's rows, in its order."""
        return self.snapshot.positions(selection).astype(np.uint32)

    def masks(self, rows: Rows | None) -> list[npt.NDArray[np.bool_]]:
        """Of each shard that has images which of its rows are among `rows` (None: all visible), bool."""
        starts = np.cumsum([0, *(view.num_rows for view in self._views)])
        mask = np.zeros(int(starts[-1]), np.bool_)
        mask[self._places if rows is None else self._places[rows]] = True
        return np.split(mask, starts[1:-1]) if self._views else []

    def places(self, rows: Rows) -> Rows:
        """Where the rows stand among all rows of the shards, hidden ones too."""
        return self._places[rows]

    @property
    def _views(self) -> Sequence[Any]:
        return [view for view in self.snapshot.shards if view.num_rows]

    @cached_property
    def _places(self) -> Rows:
        shown = np.diff([*self._starts, len(self)])
        before = np.cumsum([0, *(view.num_rows for view in self.snapshot.shards)])[:-1]
        return (np.repeat(before, shown) + self._at).astype(np.uint32)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """Where the rows of each shard begin."""
        return np.cumsum([0, *(view.num_rows - len(view.hidden) for view in self.snapshot.shards)])[:-1]

    @cached_property
    def _several(self) -> Rows | None:
        """Of each row the first of its content; None where no content stands twice."""
        ids = self.content_ids[self._by_id]
        if not (ids[1:] == ids[:-1]).all(axis=1).any() and (np.diff(self._prefixes) > 0).all():
            return None
        _, first, back = np.unique(
            np.ascontiguousarray(self.content_ids).view("V16").ravel(), return_index=True, return_inverse=True
        )
        return first[back].astype(np.uint32)


def text_of(content_id: npt.NDArray[np.uint8] | bytes) -> str:
    """A content_id as it is shown."""
    return str(UUID(bytes=bytes(content_id)))


def id_of(text: str) -> bytes | None:
    """The content_id that `text` is; None where it is none, or not as it is shown."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found.bytes if str(found) == text else None
