"""How many rows of a selection each tag counts in: all of them, or told from a sample of the store.

The store's index of tags is looked through once for a count, 48 million scores in a quarter of a second;
where that would be too many, 32,768 rows drawn once by chance are counted instead.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.query import Thresholds
from pfgdata.store import TagIndex
from pfgdata.web.catalog import Catalog, Rows
from pfgdata.web.desk import Shown

__all__ = ["TagCounts"]

_SCORES = 16_000_000  # counted in 0.1 s; more are sampled
_SAMPLE = 32_768  # rows
_LEAST = 500  # rows of a selection in it: fewer tell little, and all are counted

Counts = npt.NDArray[np.int64]


class _Sample(NamedTuple):
    """Scores of `rows`: whose each is (a place among them), its tag, the score."""

    rows: Rows
    owner: npt.NDArray[np.uint32]
    tags: npt.NDArray[np.unsignedinteger]
    scores: npt.NDArray[np.float16]


class TagCounts:
    """Counts of one moment of a store. Safe for threads."""

    def __init__(
        self, shown: Shown, *, most_scores: int = _SCORES, sample: int = _SAMPLE, least: int = _LEAST
    ) -> None:
        """Beyond `most_scores` a sample of so many rows tells, if `least` of them are in a selection."""
        self._shown = shown
        self._most, self._size, self._few = most_scores, sample, least
        self._lock = threading.Lock()
        self._totals: dict[Thresholds, Counts] = {}

    def totals(self, thresholds: Thresholds) -> Counts:
        """In how many visible rows each tag counts, [V]; kept for each thresholds."""
        with self._lock:
            if thresholds not in self._totals:
                self._totals[thresholds] = self._exact(None, thresholds)
            return self._totals[thresholds]

    def of(self, rows: Rows, thresholds: Thresholds) -> tuple[Counts, int | None]:
        """In how many of `rows` each tag counts, [V]; and of how many, where it is told from a sample."""
        if len(rows) == len(self._catalog) and thresholds in self._totals:
            return self._totals[thresholds], None
        if self._index is not None and self._index.size(self._catalog.masks(rows)) > self._most:
            with self._lock:
                sample = self._sample
            found = self._scaled(sample, rows, thresholds)
            if found is not None:
                return found
        return self._exact(rows, thresholds), None

    @property
    def _catalog(self) -> Catalog:
        return self._shown.catalog

    @cached_property
    def _index(self) -> TagIndex | None:
        shards = tuple(view for view in self._shown.snapshot.shards if view.num_rows)
        return TagIndex.of(self._shown.snapshot, shards)

    def _least(self, thresholds: Thresholds) -> npt.NDArray[np.float16]:
        return thresholds.least(self._shown.snapshot.vocabulary).astype(np.float16)

    def _exact(self, rows: Rows | None, thresholds: Thresholds) -> Counts:
        least = self._least(thresholds)
        found = None if self._index is None else self._index.counts(least, self._catalog.masks(rows))
        return self._by_lists(rows, least) if found is None else found

    def _by_lists(self, rows: Rows | None, least: npt.NDArray[np.float16]) -> Counts:
        """The counts from the lists of tags, where the index is missing or damaged: 1 s for 600,000 rows."""
        found = np.zeros(len(least), np.int64)
        views = [view for view in self._shown.snapshot.shards if view.num_rows]
        for view, mask in zip(views, self._catalog.masks(rows), strict=True):
            if not mask.any():
                continue
            lists = self._shown.snapshot.stored(view.id, ["tag_ids", "tag_scores"]).filter(pa.array(mask))
            tags, scores = (
                np.concatenate([np.empty(0, kind), *(one.flatten().to_numpy() for one in lists[name].chunks)])
                for name, kind in (("tag_ids", np.uint32), ("tag_scores", np.float16))
            )
            found += np.bincount(tags[scores >= least[tags]], minlength=len(least))
        return found

    def _scaled(self, sample: _Sample, rows: Rows, thresholds: Thresholds) -> tuple[Counts, int] | None:
        """Counts scaled from the sample; None where too few of `rows` are in it."""
        wanted = np.zeros(len(self._catalog), np.bool_)
        wanted[rows] = True
        inside = wanted[sample.rows]
        size = int(inside.sum())
        if size < self._few:
            return None
        least = self._least(thresholds)
        counted = inside[sample.owner] & (sample.scores >= least[sample.tags])
        found = np.bincount(sample.tags[counted], minlength=len(least))
        return np.rint(found * (len(rows) / size)).astype(np.int64), size

    @cached_property
    def _sample(self) -> _Sample:
        assert self._index is not None
        size = min(self._size, len(self._catalog))
        drawn = np.random.default_rng(0).choice(len(self._catalog), size, replace=False)
        rows = np.sort(drawn).astype(np.uint32)
        places, tags, scores = self._index.of_rows(self._catalog.masks(rows))
        owner = np.searchsorted(self._catalog.places(rows), places)
        return _Sample(rows, owner.astype(np.uint32), tags, scores)
