"""A store and its latents, written through the store's own door: no images, numbers from each content's seed.

What a content's feature and latent are does not depend on how many shards they are spread over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pfgdata.records import content_id
from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    FAILURES_SCHEMA,
    LATENTS_SCHEMA,
    LatentIdentity,
    LatentInfo,
    LatentSet,
    ShardContents,
    Store,
    StoreIdentity,
    images_table,
)
from pfgdata.taggers import Tagger
from tests.doubles import CheapTagger

FEATURE_DIM = 12
BUCKETS = ((32, 48), (48, 32), (64, 16))  # pixels; the tiny base's VAE makes an eighth of them
SHARES = (0.5, 0.4, 0.1)
CROP = ("crop_top", "crop_left", "resized_width", "resized_height", "width", "height")


def content_of(number: int) -> bytes:
    """The content_id of image `number`."""
    return content_id(str(number).encode())


def feature_of(number: int, dim: int = FEATURE_DIM) -> np.ndarray[tuple[int], np.dtype[np.float16]]:
    """The feature of image `number`."""
    return np.random.default_rng([1, number]).normal(size=dim).astype(np.float16)


def latent_of(number: int, bucket: tuple[int, int]) -> np.ndarray[tuple[int, int, int], np.dtype[np.float16]]:
    """The stored latent of image `number`: a colour that its feature tells, and noise."""
    colour = feature_of(number)[:4, None, None] * 3
    noise = np.random.default_rng([2, number]).normal(size=(4, bucket[1] // 8, bucket[0] // 8))
    return (colour + noise).astype(np.float16)


def bucket_of(number: int) -> int:
    """The bucket of image `number`: they are of unequal size."""
    return int(np.searchsorted(np.cumsum(SHARES), np.random.default_rng([3, number]).random()))


def build_store(
    path: Path,
    numbers: list[int],
    *,
    shard_rows: int,
    tagger: Tagger | None = None,
    feature_dim: int = FEATURE_DIM,
) -> Store:
    """A store of the images `numbers` (one twice makes two rows); every third is of special_week."""
    tagger = tagger or CheapTagger()
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=feature_dim
    )
    store = Store.create(path, identity=identity, vocabulary=tagger.vocabulary)
    add_images(store, numbers, shard_rows=shard_rows)
    return store


def add_images(store: Store, numbers: list[int], *, shard_rows: int, start: int = 0) -> None:
    """Commit rows for `numbers`; `start` counts on the names of files."""
    with store.writer() as writer:
        for first in range(0, len(numbers), shard_rows):
            part = numbers[first : first + shard_rows]
            rows = [
                image_row(number, f"{start + first + place:05d}.png") for place, number in enumerate(part)
            ]
            writer.commit(
                ShardContents(
                    images=images_table(rows),
                    features=np.stack([feature_of(number, store.identity.feature_dim) for number in part]),
                    failures=FAILURES_SCHEMA.empty_table(),
                )
            )


def build_latents(
    store: Store,
    numbers: list[int],
    *,
    vae_digest: str,
    shard_rows: int,
    base_name: str = "demo",
    step: int = 16,
    scaling_factor: float = 0.18215,
    probe: tuple[Any, ...] = (),
    kind: Literal["mean", "moments"] = "mean",
    spoilt: int | None = None,
) -> LatentSet:
    """Latents for `numbers`, in shards of one bucket each; that of the image `spoilt` is not finite."""
    identity = LatentIdentity(
        vae_digest=vae_digest,
        compute_dtype="float32",
        stored_dtype="float16",
        resolution=40,
        step=step,
        area=1536,
        min_side=16,
        max_side=64,
        max_ratio=4.0,
        small_rule="keep",
        crop_rule="centre",
        pixel_recipe="test",
        flip=False,
        kind=kind,
    )
    info = LatentInfo(
        buckets=BUCKETS, base_name=base_name, base_revision=None, scaling_factor=scaling_factor, probe=probe
    )
    latent_set = store.latent_set(identity, info)
    with latent_set.writer() as writer:
        for index, bucket in enumerate(BUCKETS):
            mine = [number for number in numbers if bucket_of(number) == index]
            for first in range(0, len(mine), shard_rows):
                part = mine[first : first + shard_rows]
                rows = [latent_row(number) for number in part]
                latents = np.stack([_stored(number, bucket, kind) for number in part])
                latents[np.array(part) == spoilt] = np.nan
                writer.commit(
                    latents,
                    facts={"bucket": list(bucket)},
                    rows=pa.Table.from_pylist(rows, schema=LATENTS_SCHEMA),
                    failures=DERIVED_FAILURES_SCHEMA.empty_table(),
                    writer={},
                )
    return latent_set


def latent_row(number: int) -> dict[str, object]:
    return {"content_id": content_of(number), "flip": False, **dict(zip(CROP, crop_of(number), strict=True))}


def crop_of(number: int) -> tuple[int, ...]:
    """How an image was cut, in the order of CROP; each has its own."""
    return (number, 2 * number, 40 + number, 50 + number, 400 + number, 500 + number)


def _stored(
    number: int, bucket: tuple[int, int], kind: str
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float16]]:
    """The latent, or with a log variance of its own beside it."""
    mean = latent_of(number, bucket)
    return mean if kind == "mean" else np.concatenate([mean, mean / 4 - 1]).astype(np.float16)


def image_row(number: int, name: str) -> dict[str, object]:
    is_hers = number % 3 == 0
    return {
        "content_id": content_of(number),
        "root": "/images",
        "path": name,
        "size": 1,
        "mtime_ns": 1,
        "width": 64,
        "height": 64,
        "format": "png",
        "frames": 1,
        "phash": number,
        "rating": "general",
        "rating_scores": [0.9, 0.1, 0.0, 0.0],
        "character": "special_week" if is_hers else None,
        "character_score": 0.95 if is_hers else None,
        "tag_ids": [4, 5],
        "tag_scores": [0.9, 0.8],
    }
