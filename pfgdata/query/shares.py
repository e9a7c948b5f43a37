"""Why a set is a set: how often each tag counts among its images, and how often among the rest.

Tags are ordered by the log-likelihood ratio of the two shares (Dunning 1993), those that the set has more of
first: a lift of 9 in three images says less than one of 3 in a thousand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.query.columns import Thresholds
from pfgdata.records import NoProgress, Progress, Selection, during
from pfgdata.store import Snapshot
from pfgdata.vocabulary import CHARACTER, RATING, Vocabulary

__all__ = ["TagShare", "TagShares", "tag_shares"]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagShare:
    """A tag that counts in `count` images of a set; `share` of the set, `rest` of all other images, 0..1.

    `lift` is share over rest, None where no other image has the tag; `weight` is the signed log-likelihood
    ratio, in nats: how far from chance that is.
    """

    tag: str
    kind: str  # rating, general, character
    count: int
    share: float
    rest: float
    lift: float | None
    weight: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagShares:
    """The tags of a set of `images` among `total`, most telling first; of all images, most frequent first."""

    images: int
    total: int
    tags: tuple[TagShare, ...]


def tag_shares(
    snapshot: Snapshot, selection: Selection, thresholds: Thresholds, *, progress: Progress | None = None
) -> TagShares:
    """How often each tag counts in `selection`, rows of `snapshot`, and in its other rows.

    A tag counts where has() of it holds. One shard is in memory at a time. Raises StoreError where the
    selection is of another snapshot, QueryError for thresholds below the store's floor.
    """
    thresholds.require(snapshot.score_floor)
    vocabulary = snapshot.vocabulary
    chosen = np.zeros(snapshot.num_images, np.bool_)
    chosen[snapshot.positions(selection)] = True
    floors = np.full(len(vocabulary.names), thresholds.stored("general"), np.float16)
    floors[vocabulary.categories == CHARACTER] = thresholds.stored("character")
    inside = np.zeros(len(vocabulary.names), np.int64)
    every, start, progress = inside.copy(), 0, progress or NoProgress()
    with during(progress, "tags", total=snapshot.num_images):
        for shard in snapshot.shards:
            table = snapshot.images(["rating", "tag_ids", "tag_scores"], shards=[shard.id])
            mine = chosen[start : start + len(table)]
            start += len(table)
            for part, rows in ((every, None), (inside, mine)):
                part += _counts(table, rows, floors, vocabulary)
            progress.advance(len(table))
    size = int(chosen.sum())
    return TagShares(
        images=size, total=len(chosen), tags=_ordered(inside, every, size, len(chosen), vocabulary)
    )


def _counts(
    table: pa.Table,
    rows: npt.NDArray[np.bool_] | None,
    floors: npt.NDArray[np.float16],
    vocabulary: Vocabulary,
) -> Counts:
    """In how many of the `rows` (None: all) each tag counts, [V]."""
    table = table if rows is None else table.filter(pa.array(rows))
    tags = pc.list_flatten(table["tag_ids"]).to_numpy()
    scores = pc.list_flatten(table["tag_scores"]).to_numpy()
    counts = np.bincount(tags[scores >= floors[tags]], minlength=len(floors)).astype(np.int64)
    ratings = {one["values"]: one["counts"] for one in table["rating"].value_counts().to_pylist()}
    for number in vocabulary.rating_ids:
        counts[number] = ratings.get(vocabulary.names[number], 0)
    return counts


def _ordered(
    inside: Counts, every: Counts, size: int, total: int, vocabulary: Vocabulary
) -> tuple[TagShare, ...]:
    share, rest = inside / max(size, 1), (every - inside) / max(total - size, 1)
    weight = _weight(inside, every, size, total)
    order = np.lexsort((-inside, -weight))
    kinds = {RATING: "rating", CHARACTER: "character"}
    return tuple(
        TagShare(
            tag=vocabulary.names[number],
            kind=kinds.get(int(vocabulary.categories[number]), "general"),
            count=int(inside[number]),
            share=float(share[number]),
            rest=float(rest[number]),
            lift=float(share[number] / rest[number]) if rest[number] else None,
            weight=float(weight[number]),
        )
        for number in order
        if inside[number]
    )


def _weight(inside: Counts, every: Counts, size: int, total: int) -> Floats:
    """The log-likelihood ratio of each tag's two shares against one, negative where the set has less."""
    others = total - size
    if not size or not others:
        return np.zeros(len(inside))
    expected: Floats = every.astype(np.float64) * (size / total)
    cells = (
        (inside, expected),
        (every - inside, every - expected),
        (size - inside, size - expected),
        (others - (every - inside), others - (every - expected)),
    )
    ratio: Floats = sum((_term(seen, wanted) for seen, wanted in cells), np.zeros(len(inside)))
    return np.asarray(np.where(inside >= expected, 1.0, -1.0) * np.maximum(ratio, 0.0), np.float64)


def _term(seen: Counts, expected: Floats) -> Floats:
    ratio: Floats = np.ones(len(seen))
    np.divide(seen, expected, out=ratio, where=(seen > 0) & (expected > 0))
    return np.asarray(seen * np.log(ratio), np.float64)
