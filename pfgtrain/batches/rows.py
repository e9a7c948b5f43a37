"""A selection joined with its latents and its features: where each image's stand.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.records import Selection, ids_as_keys
from pfgdata.store import DerivedIndex, LatentIndex, Snapshot

__all__ = ["Places", "Rows", "TaggerVectors", "Vectors", "join"]


class Vectors(Protocol):
    """A feature set to train on: a vector of each of its images, by content_id, in shards."""

    @property
    def feature_dim(self) -> int:
        """How wide a vector is."""

    def index(self) -> DerivedIndex:
        """Where each stands."""

    def array_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The vectors of one shard [M, width], mapped from disk."""

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless every byte of a shard is as written."""


@dataclass(frozen=True, slots=True)
class TaggerVectors:
    """The tagger's own features of a selection, as a set: they stand in the store's shards."""

    snapshot: Snapshot
    selection: Selection

    @property
    def feature_dim(self) -> int:
        """How wide a vector is."""
        return self.snapshot.feature_dim

    def index(self) -> DerivedIndex:
        """Where each stands."""
        images = self.selection.distinct()
        return DerivedIndex(
            content_ids=images.content_ids,
            shards=images.shards,
            shard_index=images.shard_index,
            rows=images.rows,
        )

    def array_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The vectors of one shard [M, width], mapped from disk."""
        return self.snapshot.feature_map(shard_id)

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless every byte of a shard is as written."""
        self.snapshot.require_undamaged(shard_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the vector of each image stands in one set; row -1: there is none."""

    shards: tuple[str, ...]
    shard: npt.NDArray[np.int32]  # [N], into shards
    row: npt.NDArray[np.int64]  # [N]

    def take(self, numbers: npt.NDArray[np.int64]) -> Places:
        """Those of some images."""
        return replace(self, shard=self.shard[numbers], row=self.row[numbers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The images trained on, by content_id: where each one's latent and features stand."""

    images: Selection  # [N], in the order of content_ids; its shards are the store's
    bucket: npt.NDArray[np.int32]  # [N]
    latent_shards: tuple[str, ...]
    latent_shard: npt.NDArray[np.int32]  # [N], into latent_shards
    latent_row: npt.NDArray[np.int64]  # [N]
    features: tuple[Places, ...]  # of each set, in the order of their columns
    num_selected: int  # rows asked for
    num_distinct: int  # images among them

    def __len__(self) -> int:
        return len(self.bucket)

    def take(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """The rows of these numbers, which are in rising order."""
        return replace(
            self,
            images=self.images.take(numbers),
            bucket=self.bucket[numbers],
            latent_shard=self.latent_shard[numbers],
            latent_row=self.latent_row[numbers],
            features=tuple(places.take(numbers) for places in self.features),
        )


def join(selection: Selection, index: LatentIndex, features: Sequence[DerivedIndex]) -> Rows:
    """The distinct images of `selection` that have a latent in `index`; of several, the first latent.

    With each goes where its vector stands in each of `features`, if it does.
    """
    distinct = selection.distinct()
    _, mine, latent = np.intersect1d(
        ids_as_keys(distinct.content_ids), ids_as_keys(index.content_ids), return_indices=True
    )  # sorted by content_id
    images = distinct.take(mine)
    return Rows(
        images=images,
        bucket=index.bucket[latent],
        latent_shards=index.shards,
        latent_shard=index.shard_index[latent],
        latent_row=index.rows[latent],
        features=tuple(_places(images, one) for one in features),
        num_selected=len(selection),
        num_distinct=len(distinct),
    )


def _places(images: Selection, index: DerivedIndex) -> Places:
    """Where the vectors of `images` stand; of several of one, the first."""
    _, mine, theirs = np.intersect1d(
        ids_as_keys(images.content_ids), ids_as_keys(index.content_ids), return_indices=True
    )
    shard, row = np.full(len(images), -1, np.int32), np.full(len(images), -1, np.int64)
    shard[mine], row[mine] = index.shard_index[theirs], index.rows[theirs]
    return Places(shards=index.shards, shard=shard, row=row)
