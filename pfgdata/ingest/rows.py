"""Rows of images.parquet by column: arrays for a batch at once, not a Python object for a cell.

A row of 80 tags takes 0.03 ms of CPU; from a dict a row it took 0.38 ms, which 2,500 images/s cannot pay.

Shapes: N images, V tags, F feature width, K tags over the floor in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.ingest.outcomes import PixelFacts, Scored, Stat, Tagged
from pfgdata.records import ImageKey, shown
from pfgdata.store import IMAGES_SCHEMA
from pfgdata.vocabulary import Vocabulary

__all__ = ["RowColumns", "stat_columns"]

_Floats = npt.NDArray[np.float32]


class RowColumns:
    """Rows of scored images, gathered batch by batch; every tag that scores at least `floor`, best first."""

    def __init__(self, vocabulary: Vocabulary, *, floor: float) -> None:
        self._names = pa.array(vocabulary.names, pa.string())
        self._ratings = vocabulary.rating_ids
        tags = np.concatenate([vocabulary.general_ids, vocabulary.further_ids, vocabulary.character_ids])
        self._ranks = np.full(
            len(vocabulary), -1, np.int64
        )  # of each column among tags; ties keep their order
        self._ranks[tags] = np.arange(len(tags))
        self._first_character = len(tags) - len(vocabulary.character_ids)
        self._floor = np.float32(floor)
        self._keys: list[ImageKey] = []
        self._stats: list[Stat] = []
        self._pixels: list[PixelFacts] = []
        self._scored: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _SCORED}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, tagged: Sequence[Tagged], batch: Scored) -> None:
        """Append the rows of `tagged`, which are of `batch`."""
        if not tagged:
            return
        self._keys += [one.task.found.key for one in tagged]
        self._stats += [one.stat for one in tagged]
        self._pixels += [one.pixels for one in tagged]
        slots = np.array([one.slot for one in tagged], np.int64)
        scores_NV = batch.scores if len(slots) == len(batch.scores) else batch.scores[slots]
        self._scored["features"].append(batch.features[slots].astype(np.float16))
        if len(self._ratings):
            ratings = scores_NV[:, self._ratings]
            self._scored["ratings"].append(ratings.astype(np.float16))
            self._scored["rating"].append(self._ratings[ratings.argmax(axis=1)])
        self._add_tags(scores_NV)

    def _add_tags(self, scores_NV: _Floats) -> None:
        """The tags over the floor, by row and from the best down, and the best character of each row."""
        over = np.flatnonzero(scores_NV >= self._floor)  # a fifth of the time of nonzero in two dimensions
        rows, tags = np.divmod(over, scores_NV.shape[1])
        ranks = self._ranks[tags]
        kept = ranks >= 0
        rows_K, tags_K, ranks_K = rows[kept], tags[kept], ranks[kept]
        scores_K = scores_NV[rows_K, tags_K]
        order = np.lexsort((ranks_K, -scores_K, rows_K))
        rows_K, tags_K, ranks_K, scores_K = rows_K[order], tags_K[order], ranks_K[order], scores_K[order]
        characters = np.flatnonzero(ranks_K >= self._first_character)
        having, first = np.unique(rows_K[characters], return_index=True)
        best = np.full(len(scores_NV), -1, np.int64)
        score = np.zeros(len(scores_NV), np.float16)
        best[having] = tags_K[characters[first]]
        score[having] = scores_K[characters[first]]
        found: dict[str, npt.NDArray[Any]] = {
            "counts": np.bincount(rows_K, minlength=len(scores_NV)),
            "tag_ids": tags_K.astype(np.uint32),
            "tag_scores": scores_K.astype(np.float16),
            "character": best,
            "character_score": score,
        }
        for name, values in found.items():
            self._scored[name].append(values)

    def features(self, width: int) -> npt.NDArray[np.float16]:
        """The features, float16 [N, width]."""
        return np.concatenate([np.empty((0, width), np.float16), *self._scored["features"]])

    def table(self) -> pa.Table:
        """The rows with the columns of IMAGES_SCHEMA."""
        if not self._keys:
            return IMAGES_SCHEMA.empty_table()
        scored = {
            name: np.concatenate(parts)
            for name, parts in self._scored.items()
            if parts and name != "features"
        }
        offsets = pa.array(np.concatenate([[0], np.cumsum(scored["counts"])]).astype(np.int32))
        unknown = scored["character"] < 0
        columns = {
            **stat_columns(self._keys, self._stats),
            **_pixel_columns(self._pixels),
            **self._rating_columns(scored),
            "character": self._named(np.where(unknown, 0, scored["character"]), unknown),
            "character_score": pa.array(scored["character_score"], mask=unknown),
            "tag_ids": pa.ListArray.from_arrays(offsets, pa.array(scored["tag_ids"])),
            "tag_scores": pa.ListArray.from_arrays(offsets, pa.array(scored["tag_scores"])),
        }
        ordered = [columns[name].cast(IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names]
        return pa.Table.from_arrays(ordered, schema=IMAGES_SCHEMA)

    def _rating_columns(self, scored: Mapping[str, npt.NDArray[Any]]) -> dict[str, pa.Array]:
        """The rating and its four scores; null where the tagger gives none."""
        if "rating" not in scored:
            fields = [IMAGES_SCHEMA.field(name) for name in ("rating", "rating_scores")]
            return {field.name: pa.nulls(len(self), field.type) for field in fields}
        scores = pa.FixedSizeListArray.from_arrays(pa.array(scored["ratings"].ravel()), 4)
        return {"rating": self._named(scored["rating"]), "rating_scores": scores}

    def _named(self, tags: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
        """The names of score columns as a dictionary of those that occur; null where `missing`."""
        return self._names.take(pa.array(tags, mask=missing)).dictionary_encode()


_SCORED = (
    "features",
    "ratings",
    "rating",
    "counts",
    "tag_ids",
    "tag_scores",
    "character",
    "character_score",
)


def stat_columns(keys: Sequence[ImageKey], stats: Sequence[Stat]) -> dict[str, pa.Array]:
    """What a row says of its file: content_id, the five columns of the key, size and mtime_ns."""
    ids = pa.array([stat.content_id for stat in stats], pa.binary(16))
    return {
        "content_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "root": pa.array([key.root for key in keys], pa.dictionary(pa.int32(), pa.string())),
        **_name_columns("path", [key.path for key in keys]),
        **_name_columns("member", [key.member for key in keys]),
        "size": pa.array([stat.size for stat in stats], pa.uint64()),
        "mtime_ns": pa.array([stat.mtime_ns for stat in stats], pa.int64()),
    }


def _name_columns(column: str, names: Sequence[bytes | None]) -> dict[str, pa.Array]:
    """File names as text, and as bytes too where they are not UTF-8."""
    plain = pa.array(names, pa.binary())
    try:
        return {column: plain.cast(pa.string()), f"{column}_bytes": pa.nulls(len(names), pa.binary())}
    except pa.ArrowInvalid:  # a name that is not UTF-8
        text = [shown(name) if name is not None else None for name in names]
        odd = [
            None if word is None or word.encode() == name else name
            for word, name in zip(text, names, strict=True)
        ]
        return {column: pa.array(text, pa.string()), f"{column}_bytes": pa.array(odd, pa.binary())}


def _pixel_columns(pixels: Sequence[PixelFacts]) -> dict[str, pa.Array]:
    return {
        "width": pa.array([one.width for one in pixels], pa.uint32()),
        "height": pa.array([one.height for one in pixels], pa.uint32()),
        "format": pa.array([one.format for one in pixels], pa.dictionary(pa.int32(), pa.string())),
        "frames": pa.array([one.frames for one in pixels], pa.uint32()),
        "phash": pa.array([one.phash for one in pixels], pa.uint64()),
    }
