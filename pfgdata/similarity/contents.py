"""The contents of a selection, ranked by which of several copies to keep, and grouped by who may be a copy.

First comes the larger picture in pixels; of equal ones that of more bytes, as less compressed; then the older
file; then the smaller content_id: the order never hangs on where a row stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.records import Selection, StoredImage, ids_as_keys
from pfgdata.similarity.hashes import is_flat, pairs_within
from pfgdata.similarity.rows import table_of
from pfgdata.store import IMAGE_COLUMNS, Snapshot, stored_image

__all__ = ["Contents"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The distinct contents of `rows`, best first; content i has `rows` at `places[starts[i]:starts[i + 1]]`.

    Of those rows the first is the one to keep: the oldest file, then the first of `rows`.
    """

    rows: Selection
    places: Ints
    starts: Ints
    hashes: npt.NDArray[np.uint64]
    flat: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, snapshot: Snapshot, rows: Selection) -> Contents:
        """Read what ranks and hashes them: some 50 bytes a row in memory."""
        table = table_of(snapshot, rows, ["phash", "size", "mtime_ns", "width", "height"])
        size, time, phash = (table[name].to_numpy() for name in ("size", "mtime_ns", "phash"))
        pixels = table["width"].to_numpy().astype(np.int64) * table["height"].to_numpy()
        _, content = np.unique(ids_as_keys(rows.content_ids), return_inverse=True)  # numbered by content_id
        by_content = np.lexsort((np.arange(len(rows)), time, content))
        firsts = by_content[
            np.flatnonzero(np.diff(content[by_content], prepend=-1))
        ]  # of each its oldest row
        best_first = np.lexsort(
            (np.arange(len(firsts)), time[firsts], -size[firsts].astype(np.int64), -pixels[firsts])
        )
        rank = np.empty(len(firsts), np.int64)
        rank[best_first] = np.arange(len(firsts))
        places = np.lexsort((np.arange(len(rows)), time, rank[content]))
        starts = np.searchsorted(rank[content][places], np.arange(len(firsts) + 1))
        hashes = phash[firsts[best_first]]
        return cls(rows=rows, places=places, starts=starts, hashes=hashes, flat=is_flat(hashes))

    def row(self, content: int) -> int:
        """Where the row to keep of a content stands among `rows`."""
        return int(self.places[self.starts[content]])

    def ids(self, content: int) -> bytes:
        """Its content_id."""
        return self.rows.content_ids[self.row(content)].tobytes()

    def again(self, content: int) -> Ints:
        """The other rows of the same bytes."""
        return self.places[self.starts[content] + 1 : self.starts[content + 1]]

    def groups(self, radius: int) -> list[Ints]:
        """Contents that hashes within `radius` lead to one another, each group best first, two at least.

        Flat ones are in none. A group is only where to look: who is whose copy is decided pair by pair.
        """
        sharp = np.flatnonzero(~self.flat)
        hashes, which = np.unique(self.hashes[sharp], return_inverse=True)
        label = _components(len(hashes), pairs_within(hashes, radius))[which]
        more = np.flatnonzero(np.bincount(label)[label] > 1)  # the rest, nearly all, would each be an array
        order = more[np.lexsort((sharp[more], label[more]))]
        bounds = np.flatnonzero(np.diff(label[order])) + 1
        return [sharp[group] for group in np.split(order, bounds) if len(group)]

    def images(self, snapshot: Snapshot, contents: Ints) -> list[StoredImage]:
        """Those contents as images to read, each with the files of all its rows."""
        spans = [np.arange(self.starts[one], self.starts[one + 1]) for one in contents]
        wanted = self.places[np.concatenate([np.empty(0, np.int64), *spans])]
        found = iter(table_of(snapshot, self.rows.take(wanted), IMAGE_COLUMNS).to_pylist())
        counts = self.starts[contents + 1] - self.starts[contents]
        return [stored_image(*(next(found) for _ in range(count))) for count in counts.tolist()]


def _components(count: int, pairs: Ints) -> Ints:
    """For each of `count` items the smallest that a chain of `pairs` [P, 2] leads to, int64 [count]."""
    label = np.arange(count)
    while True:
        least = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        before = label.copy()
        np.minimum.at(label, pairs[:, 0], least)
        np.minimum.at(label, pairs[:, 1], least)
        label = label[label]  # halves the way to the smallest
        if np.array_equal(label, before):
            return label
