"""The feature sets that a fit reads: found in its store by label, joined with its images, measured.

The feature of the store's own tagger is one of them like any other, and the only one where none is named.

Shapes: N images, F width of all sets side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from pfgdata.errors import ConfigError, RunError
from pfgdata.records import Selection
from pfgdata.store import FeatureSet, SetFeatures, Snapshot, Store, feature_set
from pfgtrain.batches import Batches, Rows, TaggerVectors, Vectors
from pfgtrain.config import (
    TAGGER_LABEL,
    AdapterPlan,
    FeaturePlan,
    FeatureSource,
    FitConfig,
    adapters_asked,
)

__all__ = [
    "SetRead",
    "feature_plan",
    "missing_digest",
    "require_vectors",
    "sets_read",
    "standardization_of",
    "tagger_read",
]

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRead:
    """One set that a fit reads: what goes on record of it, and its vectors."""

    source: FeatureSource
    vectors: Vectors


def sets_read(store: Store, snapshot: Snapshot, selection: Selection, config: FitConfig) -> list[SetRead]:
    """What `config` asks to read, in the order of its labels. Raises StoreError for one that is not there."""
    asked = adapters_asked(config.features) if config.features else ()
    labels = [label for one in asked for label in one.labels] or [TAGGER_LABEL]
    found = [_set_read(store, snapshot, selection, label) for label in labels]
    known: dict[str, str] = {}
    for label, one in zip(labels, found, strict=True):
        same = one.vectors.id if isinstance(one.vectors, FeatureSet) else ""
        if same in known:
            raise ConfigError(f"features: {known[same]} and {label} are one set; name it once")
        known[same] = label
    return found


def tagger_read(snapshot: Snapshot, selection: Selection, *, label: str = TAGGER_LABEL) -> SetRead:
    """The tagger's own feature of `selection`, as a set that is called `label`."""
    source = FeatureSource(label=label, feature_dim=snapshot.feature_dim)
    return SetRead(source=source, vectors=TaggerVectors(snapshot, selection))


def _set_read(store: Store, snapshot: Snapshot, selection: Selection, label: str) -> SetRead:
    found = feature_set(store, label)
    if found is None:
        return tagger_read(snapshot, selection, label=label)
    source = FeatureSource(
        label=label,
        feature_dim=found.feature_dim,
        identity=asdict(found.identity),
        extractor=found.info.extractor,
        revision=found.info.revision,
    )
    return SetRead(source=source, vectors=found)


def feature_plan(read: Sequence[SetRead], config: FitConfig) -> FeaturePlan:
    """The adapters of a fit of `config`, whose number of tokens is settled, over the sets that it reads."""
    sources = iter(one.source for one in read)
    if not config.features:
        return FeaturePlan(adapters=(AdapterPlan(sets=(next(sources),), num_tokens=config.num_tokens or 0),))
    asked = adapters_asked(config.features)
    for one in asked:
        assert one.num_tokens, "a fit settles them first"
    return FeaturePlan(
        adapters=tuple(
            AdapterPlan(sets=tuple(next(sources) for _ in one.labels), num_tokens=one.num_tokens or 0)
            for one in asked
        )
    )


def require_vectors(rows: Rows, read: Sequence[SetRead], config: FitConfig) -> None:
    """Raise RunError where a set has no vector of some of `rows`, and `config` does not allow it."""
    for places, one in zip(rows.features, read, strict=True):
        lacking = np.flatnonzero(places.row < 0)
        if not len(lacking) or not isinstance(one.vectors, FeatureSet):
            continue
        if config.allow_missing and len(lacking) < len(rows):
            continue
        said = SetFeatures(one.vectors).lacks(rows.images.content_ids[lacking], len(rows))
        if len(lacking) == len(rows):
            raise RunError(f"{said}, and none is left to train on")
        raise RunError(f"{said}; or train these with the pad in the place of its tokens: --allow-missing")


def missing_digest(rows: Rows) -> str | None:
    """BLAKE3 of which of `rows` lack a vector of which set; None where none does."""
    lacking = np.stack([places.row < 0 for places in rows.features])
    return blake3(np.packbits(lacking).tobytes()).hexdigest() if lacking.any() else None


def standardization_of(batches: Batches, *, allow_missing: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the features trained on, float32 [F] each; what never varies is divided by 1.

    With `allow_missing` those of each set are of the images that have its vector.
    """
    count: npt.NDArray[np.int64] | int = 0
    total = squares = np.zeros(())
    for first in range(0, len(batches.rows), _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(batches.rows)))
        part = batches.features(rows).astype(np.float64)
        there = ~np.isnan(part) if allow_missing else np.ones(part.shape, np.bool_)
        part = np.where(there, part, 0.0)
        count = count + there.sum(0)
        total = total + part.sum(0)
        squares = squares + np.square(part).sum(0)
    count = np.maximum(count, 1)  # of a set, all of whose images may be held out
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    for columns in batches.columns:  # each set has its own measure of what varies
        part_std = std[columns]
        part_std[part_std <= 1e-3 * part_std.max()] = 1.0
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
