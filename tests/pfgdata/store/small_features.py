"""Feature sets of given vectors, made without an extractor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    FEATURES_SCHEMA,
    FeatureIdentity,
    FeatureInfo,
    FeatureSet,
    Store,
)

__all__ = ["give_features"]


def give_features(
    store: Store,
    label: str,
    content_ids: npt.NDArray[np.uint8],
    vectors: npt.NDArray[np.floating],
    *,
    failed: npt.NDArray[np.uint8] | None = None,
) -> FeatureSet:
    """The set `label` of `store` with one more shard: `vectors` [N, F] of `content_ids` [N, 16].

    `failed` [M, 16] are contents that could not be used.
    """
    identity = FeatureIdentity(
        weights_sha256=label,
        architecture="none",
        node="given",
        preprocess="smilingwolf",
        decode="1",
        feature_dim=vectors.shape[1],
    )
    feature_set = store.feature_set(identity, FeatureInfo(label=label, extractor=f"/models/{label}"))
    none = np.empty((0, 16), np.uint8) if failed is None else failed
    lost = [{"content_id": one.tobytes(), "kind": "content", "reason": "no"} for one in none]
    with feature_set.writer() as writer:
        writer.commit(
            vectors.astype(np.float16),
            rows=pa.Table.from_pylist(
                [{"content_id": one.tobytes()} for one in content_ids], FEATURES_SCHEMA
            ),
            failures=pa.Table.from_pylist(lost, DERIVED_FAILURES_SCHEMA),
            facts={},
            writer={},
        )
    return feature_set
