"""The images of a store that are most like others, told so that one sees why: names, scores, shared tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from pfgdata.errors import QueryError
from pfgdata.query.columns import locations
from pfgdata.query.question import Question
from pfgdata.query.session import Session
from pfgdata.similarity import (
    Eye,
    Neighbours,
    Similar,
    Subject,
    corpus_mean,
    file_names,
    mean_direction,
    read_subjects,
    tags_over,
)
from pfgdata.store import Snapshot, Store
from pfgdata.taggers import Tagger

__all__ = ["LikenessOptions", "most_similar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LikenessOptions:
    """The `k` most similar among those of `where` (None: all); `mean`: asked once, of the mean of all images.

    `center` takes the mean feature of the store off every feature first.
    """

    k: int = 20
    where: str | Question | None = None
    mean: bool = False
    center: bool = False


def most_similar(
    session: Session,
    store: Store,
    images: Sequence[str],
    options: LikenessOptions,
    *,
    tagger: Callable[[], Tagger],
    eye: Eye | None = None,
) -> list[dict[str, Any]]:
    """For each of `images` what is asked and its `results`, the best first, as JSON has them.

    An image is a file, or a stored one by path or content_id; `tagger` is asked for where one is not stored.
    `eye` compares by the features of a set. Tags are shared from the session's thresholds on. Raises as
    `read_subjects` and the session do.
    """
    if not images:
        raise QueryError("like what? name one image or more")
    snapshot, chosen = session.snapshot, session.thresholds
    chosen.require(snapshot.score_floor)
    selection = None if options.where is None else session.select(options.where)
    least = chosen.least(snapshot.vocabulary)
    subjects = read_subjects(store, snapshot, images, least=least, tagger=tagger, eye=eye)
    asked = [subjects] if options.mean else [[one] for one in subjects]
    features = mean_direction([[one.feature for one in group] for group in asked])
    of = eye.features if eye else None
    mean = corpus_mean(snapshot, of=of) if options.center else None
    neighbours = Neighbours(snapshot, selection, mean=mean, of=of)
    found = neighbours.nearest(features, options.k, without={one.content_id for one in subjects})
    places = locations(store.roots(), start=Path.cwd())
    return [
        _answer(snapshot, group, one, least=least, places=places)
        for group, one in zip(asked, found, strict=True)
    ]


def _answer(
    snapshot: Snapshot,
    group: Sequence[Subject],
    found: Similar,
    *,
    least: npt.NDArray[np.float32],
    places: Mapping[str, str],
) -> dict[str, Any]:
    """One query and its results, as JSON has them."""
    names = snapshot.vocabulary.names
    ours = frozenset.intersection(*(one.tags for one in group))
    rows = zip(
        found.scores.tolist(),
        file_names(snapshot, found.rows, places),
        found.rows.content_ids,
        tags_over(snapshot, found.rows, least),
        strict=True,
    )
    results = [
        {
            "rank": rank,
            "score": score,
            **name,
            "content_id": str(UUID(bytes=content.tobytes())),
            "shared_tags": [names[tag] for tag in tags.tolist() if tag in ours],
        }
        for rank, (score, name, content, tags) in enumerate(rows, start=1)
    ]
    return {
        "query": [one.name for one in group],
        "content_id": [str(UUID(bytes=one.content_id)) for one in group],
        "tagged_now": [one.name for one in group if not one.stored],
        "results": results,
    }
