"""Shards of a row or a few, as many tests of a store commit them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pfgdata.records import ImageKey
from pfgdata.store import Shadow, ShardContents, Store, failures_table, images_table, key_columns


def row(path: bytes, *, content: int = 0, member: bytes | None = None, root: str = "/r") -> dict[str, Any]:
    """A row of images.parquet for `path`."""
    return {
        **key_columns(ImageKey(root=root, path=path, member=member)),
        "content_id": content.to_bytes(16, "big"),
        "size": 10,
        "mtime_ns": 1,
        "width": 4,
        "height": 3,
        "format": "png",
        "frames": 1,
        "phash": 2**64 - 1,
        "rating": "general",
        "rating_scores": [0.9, 0.1, 0.0, 0.0],
        "character": None,
        "character_score": None,
        "tag_ids": [5, 4],
        "tag_scores": [0.75, 0.5],
    }


def failure(path: bytes) -> dict[str, Any]:
    """A row of failures.parquet for `path`."""
    key = key_columns(ImageKey(root="/r", path=path))
    return {**key, "size": 1, "mtime_ns": 1, "kind": "content", "reason": "no image"}


def contents(
    *paths: bytes,
    shadows: tuple[Shadow, ...] = (),
    failed: tuple[bytes, ...] = (),
    replaces: tuple[str, ...] = (),
) -> ShardContents:
    """A shard with one row for each path; its feature is the path's length everywhere."""
    features = np.array([[len(path)] * 768 for path in paths], np.float16).reshape(-1, 768)
    return ShardContents(
        images=images_table([row(path, content=hash(path) % 2**64) for path in paths]),
        features=features,
        failures=failures_table([failure(path) for path in failed]),
        shadows=shadows,
        replaces=replaces,
    )


def paths_of(store: Store) -> list[str]:
    """The visible paths, sorted."""
    return sorted(store.snapshot().images(["path"])["path"].to_pylist())
