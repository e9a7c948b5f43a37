"""A small store whose rows are written by hand, so that every answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.records import TaggerIdentity, content_id
from pfgdata.store import (
    FAILURES_SCHEMA,
    Shadow,
    ShardContents,
    Store,
    StoreIdentity,
    images_table,
)
from tests.doubles import tiny_vocabulary

VOCABULARY = tiny_vocabulary()
ROOT = "/corpus"


def row(path: str, tags: Mapping[str, float] | None = None, **other: Any) -> dict[str, Any]:
    """One row; `tags` are names and scores, ratings and characters among them."""
    scores = {VOCABULARY.index(name): score for name, score in (tags or {}).items()}
    ratings = [scores.pop(int(index), 0.0) for index in VOCABULARY.rating_ids]
    if not any(ratings):
        ratings[0] = 0.9
    best = sorted(scores, key=lambda index: -scores[index])
    characters = [index for index in best if index in VOCABULARY.character_ids]
    values = {
        "content_id": content_id(path.encode()),
        "root": ROOT,
        "path": path,
        "size": 1000,
        "mtime_ns": 1_700_000_000_000_000_000,
        "width": 640,
        "height": 480,
        "format": "jpeg",
        "frames": 1,
        "phash": 2**63 + 5,
        "rating": VOCABULARY.names[int(VOCABULARY.rating_ids[int(np.argmax(ratings))])],
        "rating_scores": ratings,
        "character": VOCABULARY.names[characters[0]] if characters else None,
        "character_score": scores[characters[0]] if characters else None,
        "tag_ids": best,
        "tag_scores": [scores[index] for index in best],
    }
    return {**values, **other}


def store_of(path: Path, *shards: Sequence[dict[str, Any]]) -> Store:
    """A store with one shard for each list of rows."""
    tagger = TaggerIdentity(
        name="cheap", revision=None, weights_sha256="0", feature_node="f", preprocess="kohya", decode="1"
    )
    identity = StoreIdentity(tagger=tagger, vocabulary_digest=VOCABULARY.digest, feature_dim=4)
    store = Store.create(path, identity=identity, vocabulary=VOCABULARY)
    for rows in shards:
        add_shard(store, rows)
    return store


def add_shard(store: Store, rows: Sequence[dict[str, Any]], *, shadows: Sequence[Shadow] = ()) -> str:
    """Commit one more shard and return its id; a row without a `feature` has zeros."""
    features = [one.get("feature", np.zeros(4)) for one in rows]
    rows = [{name: value for name, value in one.items() if name != "feature"} for one in rows]
    with store.writer() as writer:
        contents = ShardContents(
            images=images_table(rows),
            features=np.array(features, np.float16).reshape(len(rows), 4),
            failures=FAILURES_SCHEMA.empty_table(),
            shadows=tuple(shadows),
        )
        return writer.commit(contents).id
