"""The tags that one question names, from the store's index of tags instead of the list of every image.

Whether a tag counts is a bit for each row, a constant of the query: for 600,000 rows of 80 tags 15 ms of CPU,
joined as rows 15 to 60, by the lists 700. A score is a joined column, null or 0 where an image lacks the tag.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.query.columns import STARTS
from pfgdata.store import Postings, ShardView, TagIndex

__all__ = ["SCORE_PREFIX", "IndexedTags"]

SCORE_PREFIX = "_tag_"  # of columns in the view; no user's column and no variable of a lambda begins so
_MOST_SCORES = 2**25  # of all columns: 128 MB; the tags beyond are looked up in the lists
_MOST_BITS = 2**31
_PLACE = f"(getvariable('{STARTS}')[file_index::INT + 1] + file_row_number)::INT"


class IndexedTags:
    """Bits and columns of scores by the number of the tag; where `index()` is None the lists answer."""

    def __init__(self, index: Callable[[], TagIndex | None], shards: tuple[ShardView, ...]) -> None:
        self._index = index
        self._lengths = [shard.num_rows for shard in shards]
        self._starts = np.cumsum([0, *self._lengths])
        self._scores: dict[int, Postings] = {}
        self._most_rows = 0  # that have any of those tags
        self.bits: dict[str, bytes] = {}  # variable of DuckDB -> its BIT value, eight rows a byte

    def has(self, tag: int, threshold: float) -> str | None:
        """SQL for whether the score of `tag` reaches `threshold`; None: look in the lists."""
        least = np.float16(threshold).view(np.uint16)  # scores are not negative: in order as integers
        name = f"has_{tag}_{least}"  # a selection in the expression may have thresholds of its own
        if name not in self.bits:
            total = int(self._starts[-1])
            if total * (len(self.bits) + 1) > _MOST_BITS or (postings := self._postings(tag)) is None:
                return None
            flags = np.zeros(total, np.bool_)
            flags[self._places(postings)[postings.scores.view(np.uint16) >= least]] = True
            self.bits[name] = np.packbits(flags).tobytes()
        return f"get_bit(getvariable('{name}'), {_PLACE}) = 1"

    def score(self, tag: int) -> str | None:
        """The column with the scores of `tag`; None: look in the lists."""
        if tag not in self._scores:
            if (postings := self._postings(tag)) is None:
                return None
            rows = min(self._most_rows + len(postings.rows), int(self._starts[-1]))
            if rows * (len(self._scores) + 1) > _MOST_SCORES:
                return None
            self._scores[tag], self._most_rows = postings, rows
        return f"{SCORE_PREFIX}{tag}"

    def table(self) -> pa.Table | None:
        """The columns of scores, with `_file` and `_row`, for the rows that have any of their tags."""
        if not self._scores:
            return None
        places = {tag: self._places(postings) for tag, postings in self._scores.items()}
        there = np.zeros(self._starts[-1], np.bool_)
        for place in places.values():
            there[place] = True
        rows = np.flatnonzero(there)
        ends = np.searchsorted(rows, self._starts)
        file = np.repeat(np.arange(len(self._lengths), dtype=np.uint64), np.diff(ends))
        columns: dict[str, npt.NDArray[np.generic]] = {"_file": file, "_row": rows - self._starts[file]}
        for tag, place in places.items():
            scores = np.zeros(len(there), np.float32)  # DuckDB takes no float16 from Arrow
            scores[place] = self._scores[tag].scores
            columns[f"{SCORE_PREFIX}{tag}"] = scores[rows]
        return pa.table(columns)

    def _postings(self, tag: int) -> Postings | None:
        index = self._index()
        return None if index is None else index.postings(tag)

    def _places(self, postings: Postings) -> npt.NDArray[np.int64]:
        """Where the rows stand among those of all shards, one after the other."""
        return self._starts[postings.shard] + postings.rows
