"""One reading of all rows, a shard in memory at a time: scores, sizes, formats, who is in them.

Scores are float16 from 0 to 1, so at most 15,361 different ones: counting each is exact, and any bins follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.images import BucketPolicy
from pfgdata.query import Thresholds
from pfgdata.records import NoProgress, Progress, Selection, during
from pfgdata.report.crops import policy_figures
from pfgdata.report.figures import Counted, Grid, Histogram, PolicyFigures, RowFigures, SizeFigures
from pfgdata.store import Snapshot, rows_by_shard
from pfgdata.vocabulary import CHARACTER, GENERAL, Vocabulary

__all__ = ["Reading", "counted"]

Ints = npt.NDArray[np.int64]

_COLUMNS = (
    *("size", "width", "height", "format", "frames", "rating", "rating_scores"),
    *("character", "character_score", "tag_ids", "tag_scores"),
)
_BLOCK = 16_384  # rows whose lists are counted at a time: of 80 tags 60 MB, whatever a shard has
_ONE = int(np.array(1, np.float16).view(np.uint16))  # 1.0 as its bits: scores are in the order of theirs
_SCORE_EDGES = [step / 20 for step in range(21)]  # the customary thresholds 0.35 and 0.85 are edges
_SIDES = [2.0 ** (power / 4) for power in range(20, 61)]  # 32 to 32,768 pixels in steps of 19 %
_MEGAPIXELS = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 1000]
_RATIOS = [2.0 ** ((step - 0.5) / 4) for step in range(-10, 12)]  # squares in the middle of a bin, 1:6 to 6:1
_RESOLUTIONS = (512, 768, 1024)
_STEP = 64  # of every Stable Diffusion base


class Reading:
    """Takes the rows of a selection once; then `figures()`, and `best`: each character's most certain row."""

    def __init__(self, vocabulary: Vocabulary, thresholds: Thresholds) -> None:
        kinds = vocabulary.categories
        self._kind = np.where(kinds == CHARACTER, 1, np.where(kinds == GENERAL, 0, 2)).astype(np.uint16)
        self._general, self._character = (
            int(np.array(thresholds.stored(kind), np.float16).view(np.uint16))
            for kind in ("general", "character")
        )
        self._names = [vocabulary.names[one] for one in vocabulary.rating_ids]
        self._scores = np.zeros((3, _ONE + 1), np.int64)  # general, character, any other
        self._ratings = np.zeros((4, _ONE + 1), np.int64)
        self._tags = np.zeros(1, np.int64)
        self._counts: dict[str, Counter[str]] = {"rating": Counter(), "format": Counter()}
        self._sides: list[npt.NDArray[np.uint64]] = []  # width and height in one number
        self._bytes = self._animated = self._without = 0
        self.best: dict[str, tuple[float, int]] = {}  # character -> its score, place among the rows

    def read(self, snapshot: Snapshot, rows: Selection, progress: Progress | None = None) -> None:
        """Look at every row of `rows`."""
        progress = progress or NoProgress()
        with during(progress, "read", total=len(rows), unit="rows"):
            for places, table in _tables(snapshot, rows):
                for first in range(0, len(places), _BLOCK):
                    self._take(places[first : first + _BLOCK], table.slice(first, _BLOCK))
                    progress.advance(min(_BLOCK, len(places) - first))

    def figures(self) -> RowFigures:
        """What the rows come to."""
        general, character, _ = map(_binned, self._scores)
        sizes, policies = self._sizes()
        return RowFigures(
            bytes=self._bytes,
            ratings=counted(self._counts["rating"]),
            formats=counted(self._counts["format"]),
            animated=self._animated,
            without_character=self._without,
            tags_per_image=_tags(self._tags),
            general_scores=general,
            character_scores=character,
            rating_scores={
                name: _binned(counts) for name, counts in zip(self._names, self._ratings, strict=False)
            },
            sizes=sizes,
            policies=policies,
        )

    def _take(self, places: Ints, table: pa.Table) -> None:
        self._bytes += int(pc.sum(table["size"]).as_py() or 0)
        self._animated += int(pc.sum(pc.greater(table["frames"], 1)).as_py() or 0)
        for name, counter in self._counts.items():
            known = table[name].combine_chunks().drop_null()  # a tagger may give no rating
            values, counts = known.value_counts().flatten()
            counter.update(dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)))
        width, height = (table[name].to_numpy().astype(np.uint64) for name in ("width", "height"))
        self._sides.append(width << np.uint64(32) | height)
        self._take_scores(table)
        self._take_characters(places, table)

    def _take_scores(self, table: pa.Table) -> None:
        """Every score by its kind, and how many general tags count in each row."""
        ids, scores = (table[name].combine_chunks() for name in ("tag_ids", "tag_scores"))
        kind = self._kind[pc.list_flatten(ids).to_numpy()]
        bits = _bits(pc.list_flatten(scores))
        keys = kind.astype(np.int64) * (_ONE + 1) + bits
        self._scores += np.bincount(keys, minlength=self._scores.size).reshape(self._scores.shape)
        counts = np.concatenate([[0], np.cumsum((bits >= self._general) & (kind == 0))])
        ends = np.cumsum(pc.fill_null(pc.list_value_length(ids), 0).to_numpy())
        tags = np.bincount(np.diff(counts[ends], prepend=0), minlength=len(self._tags))
        tags[: len(self._tags)] += self._tags
        self._tags = tags
        ratings = _bits(pc.list_flatten(table["rating_scores"].combine_chunks())).reshape(-1, 4)
        for column, mine in zip(ratings.T, self._ratings, strict=True):
            mine += np.bincount(column, minlength=_ONE + 1)

    def _take_characters(self, places: Ints, table: pa.Table) -> None:
        """The best row of each character over the threshold, the first of equals."""
        column = table["character"].combine_chunks()
        codes = column.indices.fill_null(-1).to_numpy().astype(np.int64)
        scores = (
            table["character_score"].combine_chunks().fill_null(np.float16(0)).to_numpy(zero_copy_only=False)
        )
        counts = (codes >= 0) & (scores.view(np.uint16) >= self._character)
        self._without += int(len(counts) - counts.sum())
        rows = np.flatnonzero(counts)
        rows = rows[np.lexsort((-places[rows], scores[rows]))]
        best = np.full(len(column.dictionary), -1, np.int64)
        best[codes[rows]] = rows  # of several the last is written: the best
        for name, row in zip(column.dictionary.to_pylist(), best.tolist(), strict=True):
            if row >= 0:
                found = (-float(scores[row]), int(places[row]))
                self.best[name] = min(self.best.get(name, found), found)

    def _sizes(self) -> tuple[SizeFigures | None, list[PolicyFigures]]:
        if not self._sides:
            return None, []
        every = np.concatenate(self._sides)
        both, counts = np.unique(every, return_counts=True)
        low = np.uint64(0xFFFFFFFF)
        width, height = ((both >> np.uint64(32)).astype(np.int64), (both & low).astype(np.int64))
        millions = np.clip(width * height / 1e6, 0, _MEGAPIXELS[-1])
        across, up = (np.clip(side, _SIDES[0], _SIDES[-1]).astype(np.float64) for side in (width, height))
        grid, _, _ = np.histogram2d(up, across, [_SIDES, _SIDES], weights=counts)
        sizes = SizeFigures(
            width=_spread(every >> np.uint64(32)),
            height=_spread(every & low),
            grid=_trimmed(grid.astype(np.int64)),
            ratios=_histogram(np.clip(width / height, _RATIOS[0], _RATIOS[-1]), _RATIOS, counts),
            megapixels=_histogram(millions, _MEGAPIXELS, counts),
        )
        policies = [BucketPolicy.derive(resolution, _STEP) for resolution in _RESOLUTIONS]
        return sizes, [policy_figures(width, height, counts, policy) for policy in policies]


def counted(counts: Mapping[str, int]) -> list[Counted]:
    """Names and counts, most first, equal ones by name; those of 0 are left out."""
    items = sorted(
        ((str(name), count) for name, count in counts.items() if count), key=lambda one: (-one[1], one[0])
    )
    return [Counted(name=name, count=count) for name, count in items]


def _tables(snapshot: Snapshot, rows: Selection) -> Iterator[tuple[Ints, pa.Table]]:
    """The rows of each shard and their places among `rows`; all rows of a store are not picked one by one."""
    if len(rows) < snapshot.num_images:
        yield from rows_by_shard(snapshot, rows, _COLUMNS)
        return
    where = snapshot.positions(rows)
    place = np.empty(len(where), np.int64)
    place[where] = np.arange(len(where))
    first = 0
    for view in snapshot.shards:
        if table := snapshot.images(_COLUMNS, shards=[view.id]):
            yield place[first : first + len(table)], table
            first += len(table)


def _bits(scores: pa.Array) -> npt.NDArray[np.uint16]:
    values: npt.NDArray[np.uint16] = scores.to_numpy(zero_copy_only=False).view(np.uint16)
    return np.minimum(values, np.uint16(_ONE))


def _binned(counts: Ints) -> Histogram:
    """Counts of each score by its bits to bins, the last with its upper edge."""
    edges = np.array(_SCORE_EDGES, np.float16).view(np.uint16).astype(np.int64)
    edges[-1] = len(counts)
    sums = np.concatenate([[0], np.cumsum(counts)])
    return Histogram(edges=_SCORE_EDGES, counts=np.diff(sums[edges]).tolist())


def _spread(values: npt.NDArray[np.uint64]) -> tuple[int, int, int]:
    return int(values.min()), int(np.median(values)), int(values.max())


def _tags(counts: Ints) -> Histogram:
    """Images by how many tags they have, in at most 25 bins of one width."""
    step = -(-len(counts) // 25)
    padded = np.concatenate([counts, np.zeros(-len(counts) % step, np.int64)])
    edges = [float(edge) for edge in range(0, len(padded) + 1, step)]
    return Histogram(edges=edges, counts=padded.reshape(-1, step).sum(axis=1).tolist())


def _trimmed(counts: Ints) -> Grid:
    """The part of the grid that has images, and around a small one what makes it a field."""
    up, across = (_span(counts.sum(axis=axis), least=12) for axis in (1, 0))
    return Grid(
        widths=_SIDES[across.start : across.stop + 1],
        heights=_SIDES[up.start : up.stop + 1],
        counts=counts[up, across].tolist(),
    )


def _histogram(values: npt.NDArray[np.float64], edges: list[float], counts: Ints) -> Histogram:
    """Values of each `counts` many, without the empty bins at both ends."""
    found, _ = np.histogram(values, edges, weights=counts)
    span = _span(found, least=5)
    return Histogram(edges=edges[span.start : span.stop + 1], counts=found[span].astype(int).tolist())


def _span(counts: npt.NDArray[np.number[Any]], *, least: int) -> slice:
    """From the first place that is not 0 to the last, widened to both sides to `least` places."""
    there = np.flatnonzero(counts)
    first, behind = int(there[0]), int(there[-1]) + 1
    first = max(0, first - max(0, least - (behind - first)) // 2)
    behind = min(len(counts), max(behind, first + least))
    return slice(max(0, min(first, behind - least)), behind)
