"""A latent set of six latents in two buckets, made without a VAE."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pfgdata.records import content_id
from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    LATENTS_SCHEMA,
    LatentIdentity,
    LatentInfo,
    LatentSet,
    Store,
)

__all__ = ["encode"]

LATENTS = LatentIdentity(
    vae_digest="0",
    compute_dtype="float32",
    stored_dtype="float16",
    resolution=64,
    step=16,
    area=4096,
    min_side=32,
    max_side=128,
    max_ratio=2.0,
    small_rule="keep",
    crop_rule="centre",
    pixel_recipe="1",
    flip=False,
    kind="mean",
)
INFO = LatentInfo(
    buckets=((64, 64), (96, 48)), base_name="none", base_revision=None, scaling_factor=1.0, probe=()
)


def encode(store: Store) -> LatentSet:
    """A latent set with a shard of 3 in each of two buckets; what is there is not done again."""
    latents = store.latent_set(LATENTS, INFO)
    done = {bytes(row) for row in latents.index().content_ids}
    with latents.writer() as writer:
        for number, bucket in enumerate(INFO.buckets):
            ids = [content_id(bytes([number, row])) for row in range(3)]
            if done.isdisjoint(ids):
                blank = dict.fromkeys(LATENTS_SCHEMA.names[1:], 0) | {"flip": False}
                writer.commit(
                    np.full((3, 4, 8, 8), number, np.float16),
                    facts={"bucket": list(bucket)},
                    rows=pa.Table.from_pylist([{"content_id": i, **blank} for i in ids], LATENTS_SCHEMA),
                    failures=DERIVED_FAILURES_SCHEMA.empty_table(),
                    writer={},
                )
    return latents
