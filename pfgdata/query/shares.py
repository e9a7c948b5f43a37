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
from pfgdata.query.question import Question
from pfgdata.query.session import Session

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
    session: Session, question: str | Question | None, *, thresholds: Thresholds | None = None
) -> TagShares:
    """How often each tag counts in the rows that `question` asks for, and in all others.

    A tag counts where has() of it holds. Raises QueryError as the session does.
    """
    total = session.snapshot.num_images
    every = session.counts(None, thresholds=thresholds)
    if question in (None, Question()):
        return TagShares(images=total, total=total, tags=_ordered(every, every["count"], total, total))
    size = session.count(question, thresholds=thresholds)
    mine = session.counts(question, thresholds=thresholds)
    found = pc.index_in(every["tag"], mine["tag"].combine_chunks())
    inside = pc.fill_null(mine["count"].take(found), 0)
    return TagShares(images=size, total=total, tags=_ordered(every, inside, size, total))


def _ordered(table: pa.Table, mine: pa.ChunkedArray, size: int, total: int) -> tuple[TagShare, ...]:
    """Every tag of `mine`, its counts in the set; `table` has those in all images."""
    inside, every = mine.to_numpy(), table["count"].to_numpy()
    share, rest = inside / max(size, 1), (every - inside) / max(total - size, 1)
    weight = _weight(inside, every, size, total)
    tags, kinds = table["tag"].to_pylist(), table["kind"].to_pylist()
    return tuple(
        TagShare(
            tag=tags[number],
            kind=kinds[number],
            count=int(inside[number]),
            share=float(share[number]),
            rest=float(rest[number]),
            lift=float(share[number] / rest[number]) if rest[number] else None,
            weight=float(weight[number]),
        )
        for number in np.lexsort((-inside, -weight))
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
