"""Feature sets: the derived sets of further extractors, under the store's `features/`, a vector an image.

The store's own tagger made the first features: they stand in the store's shards and have no folder here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.errors import StoreError
from pfgdata.records import ExtractorIdentity, Selection, ids_as_keys
from pfgdata.store.derived_sets import DerivedIdentity, DerivedInfo, DerivedSet
from pfgdata.store.layout import FEATURES_SCHEMA
from pfgdata.store.snapshot import content_ids_of

__all__ = [
    "FeatureIdentity",
    "FeatureInfo",
    "FeatureSet",
    "SetFeatures",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureIdentity(DerivedIdentity):
    """That of its extractor, field by field (records.ExtractorIdentity); a digest of it names the set."""

    weights_sha256: str
    architecture: str
    node: str
    preprocess: str
    decode: str
    feature_dim: int

    @classmethod
    def of(cls, extractor: ExtractorIdentity) -> FeatureIdentity:
        """The identity of the sets that an extractor makes."""
        return cls(**asdict(extractor))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInfo(DerivedInfo):
    """What a set also knows, outside its identity: what it is called, and what finds its extractor again."""

    label: str  # of the set, in this store
    extractor: str  # a name of the catalog, a hub id, a folder or a file, made absolute
    revision: str | None = None  # the hub's commit


class FeatureSet(DerivedSet[FeatureIdentity, FeatureInfo]):
    """One feature set: its arrays are the vectors of images, [N, F]."""

    name = "feature"
    schema = FEATURES_SCHEMA
    identity_type = FeatureIdentity
    info_type = FeatureInfo

    @property
    def label(self) -> str:
        """What it is called in its store."""
        return self.info.label

    @property
    def feature_dim(self) -> int:
        """F, the width of its vectors."""
        return self.identity.feature_dim


class SetFeatures:
    """The features of a set as of now, read as a Snapshot's own are: by rows, which `placed` finds."""

    def __init__(self, feature_set: FeatureSet) -> None:
        self.set = feature_set
        self.feature_dim = feature_set.feature_dim
        self.shards = feature_set.shard_ids()
        self._index = feature_set.index()
        self._failed = np.unique(ids_as_keys(content_ids_of(feature_set.failures()["content_id"])))
        keys = ids_as_keys(self._index.content_ids)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def fresh(self) -> SetFeatures:
        """Itself; read anew where the set has grown since."""
        return self if self.shards == self.set.shard_ids() else SetFeatures(self.set)

    def has(self, content_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which of the contents, uint8 [N, 16], have a vector, [N]."""
        return np.asarray(self._found(content_ids)[1])

    def placed(self, selection: Selection) -> Selection:
        """`selection` with the places of its vectors in this set. Raises StoreError where one has none."""
        place, there = self._found(selection.content_ids)
        if not there.all():
            self.require(selection)
        return self._placed(selection, place)

    def present(self, selection: Selection) -> Selection:
        """The rows of `selection` that have a vector, as `found` finds them."""
        return self.found(selection)[0]

    def found(self, selection: Selection) -> tuple[Selection, Selection]:
        """The rows of `selection` that have a vector, all but those on record as failed; and its places.

        Raises StoreError, with the command that completes the set, where others have none.
        """
        place, there = self._found(selection.content_ids)
        if not there.all():
            known = np.isin(ids_as_keys(selection.content_ids), self._failed)
            if not (there | known).all():
                self.require(selection.take(np.flatnonzero(there | ~known)))
            selection, place = selection.take(np.flatnonzero(there)), place[there]
        return selection, self._placed(selection, place)

    def vector(self, content_id: bytes) -> npt.NDArray[np.float16] | None:
        """The vector of one content [F], mapped; None where it has none."""
        (place,), (there,) = self._found(np.frombuffer(content_id, np.uint8)[None])
        if not there:
            return None
        entry = self._order[place]
        return self.feature_map(self._index.shards[self._index.shard_index[entry]])[self._index.rows[entry]]

    def require(self, selection: Selection) -> None:
        """Raise StoreError, with the command that completes the set, where an image has no vector."""
        distinct = selection.distinct()
        lacking = distinct.content_ids[~self.has(distinct.content_ids)]
        if len(lacking):
            raise StoreError(self.lacks(lacking, len(distinct)))

    def lacks(self, lacking: npt.NDArray[np.uint8], of: int) -> str:
        """What to say where the contents `lacking`, uint8 [N, 16], of `of` images have no vector."""
        store, label = self.set.path.parent.parent, self.set.label
        unusable = ids_as_keys(self.set.failed_content())
        failed = int(np.isin(ids_as_keys(lacking), unusable).sum())
        said = f"feature set {label}: {len(lacking):,} of {of:,} images have no vector"
        if failed:
            said += f", {failed:,} of them on record as no image that its extractor can use"
        if failed == len(lacking):
            return said
        return f"{said}; pfgdata features {store} --label {label} makes what is missing"

    def bring_features(self, shards: Collection[str]) -> None:
        """Have the files of these shards at hand, where the store lies far away."""
        folder = self.set.path / "shards"
        self.set.disk.ahead(folder / shard / "features.h5" for shard in sorted(shards))

    def feature_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The features of all rows of one shard of the set, float16 [N, F], mapped from disk."""
        return self.set.array_map(shard_id)

    def features(self, selection: Selection) -> npt.NDArray[np.float16]:
        """The features of a `placed` selection in its order, float16 [len(selection), F], in memory."""
        out = np.empty((len(selection), self.feature_dim), np.float16)
        for index in np.unique(selection.shard_index).tolist():
            mine = np.flatnonzero(selection.shard_index == index)
            out[mine] = self.feature_map(selection.shards[index])[selection.rows[mine]]
        return out

    def _placed(self, selection: Selection, place: npt.NDArray[np.int64]) -> Selection:
        entry = self._order[place]
        return Selection(
            content_ids=selection.content_ids,
            shards=self._index.shards,
            shard_index=self._index.shard_index[entry],
            rows=self._index.rows[entry],
        )

    def _found(
        self, content_ids: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Where each content stands among the keys in order, and whether it does."""
        wanted = ids_as_keys(content_ids)
        place = np.searchsorted(self._keys, wanted)
        place[place == len(self._keys)] = 0
        there = self._keys[place] == wanted if len(self._keys) else np.zeros(len(wanted), np.bool_)
        return place, there
