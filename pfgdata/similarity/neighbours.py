"""The images most like a feature: exact cosines over every row, ties in a stated order.

A first pass in float32 finds whoever can be among the best, a second computes those in float64. So neither
blocks nor threads decide an answer. Equal scores (to six places) go by content_id.

Shapes: Q queries, N rows, F features, K results.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.errors import QueryError
from pfgdata.records import Selection
from pfgdata.similarity.blocks import FeatureBlocks, Features, Floats
from pfgdata.store import SetFeatures, Snapshot

__all__ = ["Neighbours", "Similar", "corpus_mean"]

_PLACES = 6  # of a score
_TOLERANCE = 2e-4  # how far a float32 cosine of 768 products can be off, several times over
_PASS_BYTES = 2**26  # of the scores that one pass over the features holds
_EXACT_ROWS = 4096
_ALONE = 2**18  # products: of more OpenBLAS makes threads, that get in the way of ours (10 x the CPU time)
_MOST_AT_ONCE = 16  # queries

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """What is most like one query, the best first: distinct contents, `scores` float64 [K] their cosines."""

    rows: Selection
    scores: Doubles


class Neighbours:
    """The rows of a snapshot's `selection` (None: all), ready to be asked; keeps their maps and norms.

    With `of` the features are those of that set, less the rows on record as failed there. With `mean`
    (float64 [F]), that is taken off every feature. A row whose feature is zero or not finite, as damage makes
    it, is like nothing: it has the score -inf and is never shown.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        selection: Selection | None = None,
        *,
        mean: Doubles | None = None,
        of: SetFeatures | None = None,
    ) -> None:
        self.selection, self._places = _places(snapshot, selection, of)
        self._features: Features = snapshot if of is None else of
        self._mean = mean
        self._blocks = FeatureBlocks(self._features, self._places)
        self._norms: Floats | None = None  # in the order of the blocks; found by the first pass

    def scores(self, queries_QF: npt.NDArray[np.floating]) -> Floats:
        """The cosine of each query with each row of the selection, float32 [Q, N], good to 1e-5."""
        sorted_QN = self._sorted_scores(self._unit(queries_QF))
        out_QN = np.empty_like(sorted_QN)
        out_QN[:, self._blocks.order] = sorted_QN
        return out_QN

    def nearest(
        self, queries_QF: npt.NDArray[np.floating], k: int, *, without: Collection[bytes] = ()
    ) -> list[Similar]:
        """For each query the `k` most similar contents but those of `without`; fewer if there are no more.

        Raises QueryError for a query that is of another width, zero or not finite.
        """
        units_QF = self._unit(queries_QF)
        step = max(1, min(_MOST_AT_ONCE, _PASS_BYTES // (4 * max(1, len(self._blocks)))))
        found: list[Similar] = []
        for start in range(0, len(units_QF), step):
            part = units_QF[start : start + step]
            scores_QN = self._sorted_scores(part)
            found += [self._best(one, row, k, without) for one, row in zip(part, scores_QN, strict=True)]
        return found

    def _unit(self, queries_QF: npt.NDArray[np.floating]) -> Doubles:
        queries = np.atleast_2d(np.asarray(queries_QF, np.float64))
        if queries.shape[1] != self._blocks.width:
            raise QueryError(
                f"a query of {queries.shape[1]} numbers; the features compared here have {self._blocks.width}"
            )
        if self._mean is not None:
            queries = queries - self._mean
        norms = np.linalg.norm(queries, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise QueryError(
                "a query whose feature is zero or not finite is like nothing; take another image"
            )
        return queries / norms

    def _sorted_scores(self, units_QF: Doubles) -> Floats:
        """Cosines in the order of the blocks, float32 [Q, N]; -inf for damaged rows."""
        queries_QF = units_QF.astype(np.float32)
        scores_QN = np.empty((len(queries_QF), len(self._blocks)), np.float32)
        norms = np.empty(len(self._blocks), np.float32) if self._norms is None else self._norms
        fresh = self._norms is None
        rows = max(1, _ALONE // max(1, queries_QF.size))
        mean = None if self._mean is None else self._mean.astype(np.float32)

        def work(place: slice, floats_BF: Floats) -> None:
            if mean is not None:
                floats_BF -= mean
            if fresh:
                norms[place] = np.sqrt(np.einsum("bf,bf->b", floats_BF, floats_BF))
            for first in range(0, len(floats_BF), rows):
                tile = slice(place.start + first, min(place.start + first + rows, place.stop))
                scores_QN[:, tile] = queries_QF @ floats_BF[first : first + rows].T

        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._blocks.each(work)
            norms[~(np.isfinite(norms) & (norms > 0))] = np.nan
            scores_QN /= norms
        self._norms = norms
        scores_QN[np.isnan(scores_QN)] = -np.inf
        return scores_QN

    def _best(self, unit_F: Doubles, scores_N: Floats, k: int, without: Collection[bytes]) -> Similar:
        """The best of one query; more are looked at where contents stand in several rows."""
        wanted = k + len(without)
        while True:
            candidates = _candidates(scores_N, wanted)
            rows = self._blocks.order[candidates]
            scores = self._exact(unit_F, rows)
            ids = [one.tobytes() for one in self.selection.content_ids[rows]]
            ranked = sorted(range(len(rows)), key=lambda index: (-scores[index], ids[index], rows[index]))
            first: dict[bytes, int] = {}
            for index in ranked:
                if ids[index] not in without:
                    first.setdefault(ids[index], index)
            if len(first) >= k or len(candidates) < wanted:
                chosen = list(first.values())[:k]
                return Similar(rows=self.selection.take(rows[chosen]), scores=scores[chosen])
            wanted *= 4

    def _exact(self, unit_F: Doubles, rows: npt.NDArray[np.int64]) -> Doubles:
        """Cosines of the rows in float64, to six places; each is computed alike wherever its row stands."""
        out = np.empty(len(rows), np.float64)
        for start in range(0, len(rows), _EXACT_ROWS):
            part = rows[start : start + _EXACT_ROWS]
            features_MF = self._features.features(self._places.take(part)).astype(np.float64)
            if self._mean is not None:
                features_MF -= self._mean
            norms = np.sqrt((features_MF * features_MF).sum(axis=1))
            out[start : start + len(part)] = (features_MF * unit_F).sum(axis=1) / norms
        return out.round(_PLACES)


def corpus_mean(snapshot: Snapshot, *, of: SetFeatures | None = None) -> Doubles:
    """The mean feature of all visible rows, of that set if given, float64 [F]; damaged rows left out."""
    blocks = FeatureBlocks(snapshot if of is None else of, _places(snapshot, None, of)[1])
    sums: list[Doubles] = []
    counts: list[int] = []

    def work(place: slice, floats_BF: Floats) -> None:
        total = floats_BF.sum(axis=0, dtype=np.float64)
        if not np.isfinite(total).all():
            floats_BF = floats_BF[np.isfinite(floats_BF).all(axis=1)]
            total = floats_BF.sum(axis=0, dtype=np.float64)
        sums.append(total)
        counts.append(len(floats_BF))

    blocks.each(work)
    if not sum(counts):
        return np.zeros(blocks.width, np.float64)
    return np.sum(sums, axis=0) / sum(counts)


def _places(
    snapshot: Snapshot, selection: Selection | None, of: SetFeatures | None
) -> tuple[Selection, Selection]:
    """The rows that are compared, and where their features stand."""
    rows = snapshot.everything if selection is None else selection
    if of is None:
        return rows, rows
    return of.found(rows)


def _candidates(scores_N: Floats, wanted: int) -> npt.NDArray[np.int64]:
    """Where every row stands that can be among the `wanted` best."""
    if len(scores_N) > wanted:
        least = np.partition(scores_N, len(scores_N) - wanted)[len(scores_N) - wanted]
        return np.flatnonzero((scores_N >= least - _TOLERANCE) & (scores_N > -np.inf))
    return np.flatnonzero(scores_N > -np.inf)
