"""One image: its files, scores against the thresholds, what the user's columns say; and what is like it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from pfgdata.errors import QueryError
from pfgdata.query import Question, Thresholds
from pfgdata.records import Selection
from pfgdata.similarity import Neighbours, file_names, named_file, tags_over
from pfgdata.store import OWN_FEATURE, SetFeatures, feature_set
from pfgdata.vocabulary import CHARACTER
from pfgdata.web.ask import Ask
from pfgdata.web.catalog import Rows, text_of
from pfgdata.web.desk import Desk, Shown
from pfgdata.web.own import OwnColumns

__all__ = ["Likeness", "detail", "places_of"]

_MOST_NEIGHBOURS = 200
_FILES = 100  # of one content, named


def detail(shown: Shown, own: OwnColumns, rows: Rows, thresholds: Thresholds) -> dict[str, Any]:
    """What is known of the image of `rows`, which have one content; the latest row tells."""
    thresholds.require(shown.snapshot.score_floor)
    row = int(rows[-1])
    at = shown.catalog.selection(rows[-1:])
    (stored,) = shown.snapshot.rows(at.shards[at.shard_index[0]], at.rows).to_pylist()
    vocabulary = shown.snapshot.vocabulary
    best = stored["character_score"]
    over = best is not None and best >= thresholds.stored("character")
    ratings = (vocabulary.names[number] for number in vocabulary.rating_ids.tolist())
    return {
        "content_id": text_of(shown.catalog.content_ids[row]),
        "files": places_of(shown, rows[:_FILES]),
        **{name: stored[name] for name in ("width", "height", "format", "frames", "size", "rating")},
        "rating_scores": {
            name: _score(score) for name, score in zip(ratings, stored["rating_scores"] or (), strict=True)
        },
        "character": stored["character"] if over else None,
        "character_score": None if best is None else _score(best),
        "tags": _tags(shown, stored, thresholds),
        "columns": own.of_row(row),
        "copies": len(rows) - 1,
    }


def places_of(shown: Shown, rows: Rows) -> list[str]:
    """The file of each row as it opens from where the server was started; of a member, ARCHIVE!MEMBER."""
    found = file_names(shown.snapshot, shown.catalog.selection(rows), shown.places)
    return [named_file(name) for name in found]


class Likeness:
    """Images like another, of one moment of a store: the maps and norms of its features are kept."""

    def __init__(self, desk: Desk, shown: Shown) -> None:
        self._desk = desk
        self._shown = shown
        self._lock = threading.Lock()
        self._sets: dict[str, SetFeatures] = {}  # by their ids; a sort of all contents each
        self._all: dict[str, tuple[SetFeatures | None, Neighbours]] = {}

    def answer(self, rows: Rows, k: int, ask: Ask, *, label: str = OWN_FEATURE) -> dict[str, Any]:
        """The `k` images most like the one of `rows` by the features `label`, of those that `ask` selects.

        Raises QueryError, StoreError for a set that is not there or not whole.
        """
        begun, shown = time.perf_counter(), self._shown
        question = ask.question(shown.snapshot)
        least = ask.thresholds.least(shown.snapshot.vocabulary)
        subject = shown.catalog.selection(rows[-1:])
        content_id = subject.content_ids[0].tobytes()
        of = self._features(label)
        neighbours = self._neighbours(question, ask.thresholds, of)
        count = min(max(k, 1), _MOST_NEIGHBOURS)
        (found,) = neighbours.nearest(_feature(shown, subject, of), count, without={content_id})
        (mine,) = tags_over(shown.snapshot, subject, least)
        theirs = tags_over(shown.snapshot, found.rows, least)
        there = [int(shown.catalog.find(one.tobytes())[-1]) for one in found.rows.content_ids]
        there_rows = np.array(there, np.uint32)
        names = shown.snapshot.vocabulary.names
        return {
            "results": [
                {
                    "content_id": content,
                    "score": round(score, 6),
                    "file": file,
                    "width": width,
                    "height": height,
                    "shared_tags": [names[tag] for tag in tags.tolist() if tag in mine],
                }
                for (content, width, height), score, file, tags in zip(
                    shown.catalog.described(there_rows),
                    found.scores.tolist(),
                    places_of(shown, there_rows),
                    theirs,
                    strict=True,
                )
            ],
            "seconds": round(time.perf_counter() - begun, 4),
        }

    def _features(self, label: str) -> SetFeatures | None:
        """The features of a set, read anew where it has grown; None of the tagger's own."""
        found = feature_set(self._desk.store, label)
        if found is None:
            return None
        with self._lock:
            kept = self._sets.get(found.id)
            fresh = self._sets[found.id] = SetFeatures(found) if kept is None else kept.fresh()
            return fresh

    def _neighbours(self, question: Question, thresholds: Thresholds, of: SetFeatures | None) -> Neighbours:
        shown = self._shown
        if question.where is None and question.sample is None and question.limit is None:
            with self._lock:
                key = OWN_FEATURE if of is None else of.set.id
                if key not in self._all or self._all[key][0] is not of:
                    self._all[key] = of, Neighbours(shown.snapshot, of=of)
                return self._all[key][1]
        rows = self._desk.rows_of(shown, question, thresholds)
        return Neighbours(shown.snapshot, shown.catalog.selection(rows), of=of)


def _feature(shown: Shown, subject: Selection, of: SetFeatures | None) -> Any:
    """The feature of one stored image, [1, F]. Raises QueryError where its set could make none of it."""
    if of is None:
        return shown.snapshot.features(subject)
    _, places = of.found(subject)
    if not len(places):
        raise QueryError(f"this image's vector of {of.set.label} could not be made")
    return of.features(places)


def _tags(shown: Shown, stored: dict[str, Any], thresholds: Thresholds) -> list[dict[str, Any]]:
    """Every stored tag of a row, the best first, and whether it counts."""
    vocabulary = shown.snapshot.vocabulary
    least = thresholds.least(vocabulary)
    found = []
    for number, score in zip(stored["tag_ids"] or (), stored["tag_scores"] or (), strict=True):
        kind = "character" if vocabulary.categories[number] == CHARACTER else "general"
        counts = bool(np.float32(score) >= least[number])
        name = vocabulary.names[number]
        found.append({"tag": name, "kind": kind, "score": _score(score), "counts": counts})
    return found


def _score(score: float) -> float:
    return float(f"{score:.5g}")
