"""What a run was trained on, asked again: the nearest of its images to a feature, and whether it had one.

Features stay on disk and pass through memory a chunk at a time: 600,000 of 768 are 0.9 GB as float16.

Shapes: M features asked about, N training images, F feature width, C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import read_image
from pfgdata.errors import ImageError, StoreError
from pfgdata.query import Thresholds, select
from pfgdata.records import Selection, TaggerIdentity
from pfgdata.store import Snapshot, Store, require_same_tagger, stored_image
from pfgtrain.batches import join, trained_part
from pfgtrain.checkpoint import RunRecord
from pfgtrain.evaluate.measures import Floats, Ints

__all__ = ["TrainingImages", "thresholds_of", "training_images"]

_CHUNK = 8192  # rows: 25 MB as float32


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """The distinct images that a run was trained on, in the order of their rows or content_ids.

    Where that is not `exact` they are all of the run's selection, those held out and those without a latent
    too; `changed`: that selection is no longer what it was.
    """

    store: Store
    snapshot: Snapshot
    selection: Selection
    changed: bool = False
    exact: bool = True

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def doubt(self) -> str | None:
        """What there is to say where they are not the images trained on; None: they are."""
        if self.exact:
            return None
        if self.changed:
            return "the store has changed or is another: the run's selection in it is not what was trained on"
        return (
            "the run's latents are gone or have grown: what it held out is unknown and counts as trained on"
        )

    def holds(self, image: bytes) -> bool:
        """Whether the image of that content_id is among them."""
        return image in self._ids

    def nearest(self, features_MF: npt.ArrayLike) -> tuple[Ints, Floats]:
        """The nearest image to each feature, a row of the selection [M], and its centred cosine [M]."""
        asked_MF = _unit(np.asarray(features_MF, np.float32) - self.mean_F)
        best_M, row_M = np.full(len(asked_MF), -np.inf, np.float32), np.zeros(len(asked_MF), np.int64)
        for rows_C, features_CF in self._chunks():
            near_MC = asked_MF @ _unit(features_CF - self.mean_F).T
            place_M = near_MC.argmax(axis=1)
            value_M = near_MC[np.arange(len(asked_MF)), place_M]
            better_M = value_M > best_M
            best_M[better_M], row_M[better_M] = value_M[better_M], rows_C[place_M[better_M]]
        return row_M, best_M.astype(np.float64)

    def pixels(self, row: int) -> npt.NDArray[np.uint8] | None:
        """The pixels of one of them, or None if its file is not here as it was."""
        selection = self.selection
        shard = selection.shards[selection.shard_index[row]]
        (record,) = self.snapshot.rows(shard, selection.rows[row : row + 1]).to_pylist()
        try:
            return read_image(stored_image(record), roots=self._roots).pixels
        except ImageError:
            return None

    @cached_property
    def mean_F(self) -> npt.NDArray[np.float32]:
        """The mean of their features."""
        total_F = np.zeros(self.snapshot.feature_dim, np.float64)
        for _, features_CF in self._chunks():
            total_F += features_CF.sum(axis=0, dtype=np.float64)
        return (total_F / len(self)).astype(np.float32)

    @cached_property
    def _ids(self) -> frozenset[bytes]:
        return frozenset(row.tobytes() for row in self.selection.content_ids)

    @cached_property
    def _roots(self) -> dict[str, str]:
        return self.store.roots()

    def _chunks(self) -> Iterator[tuple[Ints, npt.NDArray[np.float32]]]:
        """Rows of the selection [C] and their features [C, F], a shard at a time."""
        for index, shard in enumerate(self.selection.shards):
            mine = np.flatnonzero(self.selection.shard_index == index)
            features = self.snapshot.feature_map(shard) if len(mine) else None
            for start in range(0, len(mine), _CHUNK):
                rows_C = mine[start : start + _CHUNK]
                assert features is not None
                yield rows_C, features[self.selection.rows[rows_C]].astype(np.float32)


def training_images(store: Store, record: RunRecord, *, tagger: TaggerIdentity) -> TrainingImages | None:
    """What the run of `record` was trained on, of what it selects in `store` now; None if that is nothing.

    Raises IdentityError for a store of another tagger than the run's, QueryError if it cannot be asked.
    """
    require_same_tagger(store.identity.tagger, tagger, where=f"store {store.path}")
    snapshot = store.snapshot()
    selection = select(snapshot, record.selection_expression, thresholds_of(record)).distinct()
    if not len(selection):
        return None
    trained = _trained(store, snapshot, selection, record)
    return TrainingImages(
        store=store,
        snapshot=snapshot,
        selection=selection if trained is None else trained,
        changed=selection.digest != record.selection_digest,
        exact=trained is not None,
    )


def _trained(store: Store, snapshot: Snapshot, selection: Selection, record: RunRecord) -> Selection | None:
    """Those of a distinct `selection` that have a latent and were not held out; None: that cannot be told."""
    if selection.digest == record.trained_digest:
        return selection
    try:
        latents = [one.index() for one in store.latent_sets() if one.id == record.latents_id]
    except StoreError:  # damaged: what was trained on is in the store's own shards
        return None
    if not latents:
        return None
    return trained_part(
        snapshot,
        join(selection, latents[0], []).images,
        count=record.held_out_count,
        digest=record.trained_digest,
        character_threshold=thresholds_of(record).character,
    )


def thresholds_of(record: RunRecord) -> Thresholds:
    """From which score on a tag counted when the run selected its images."""
    known = record.thresholds
    return Thresholds(**{name: known[name] for name in ("general", "character") if name in known})


def _unit(features_MF: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length_M1 = np.linalg.norm(features_MF, axis=1, keepdims=True)
    return np.divide(features_MF, np.where(length_M1 > 0, length_M1, 1), dtype=np.float32)
