"""Which latent set, and which of the selected images are missing from it, by bucket.

Rows with the same content_id fall together: one latent each. The order within a bucket is that of the
content_ids, so it does not depend on how the store's shards lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.images import DECODE_VERSION, PIXEL_RECIPE, BucketPolicy, nearest_bucket
from pfgdata.records import ImageKey, Selection
from pfgdata.store import KEY_COLUMNS, LatentIdentity, LatentSet, Snapshot, content_ids_of, key_of
from pfgdata.vaes import Vae

__all__ = ["LatentOptions", "LatentPlan", "Missing", "latent_identity", "plan_latents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentOptions:
    """How to encode; none of it changes what is stored, but for rounding."""

    batch_size: int = 8  # images a VAE call; the last batch of a bucket is padded to it
    threads: int | None = None  # read and decode; None: one for each core
    shard_bytes: int = 256_000_000  # a shard closes at so many bytes of latents ...
    shard_seconds: float = 300.0  # ... or at this age


@dataclass(frozen=True, slots=True)
class Missing:
    """One image to encode: its content, key and size in pixels as stored."""

    content_id: bytes
    key: ImageKey
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentPlan:
    """What is there and what is to do; `missing[b]` are row numbers of `table` for bucket b, in order."""

    selected: int  # rows
    distinct: int  # contents
    done: int  # contents with a latent in the set
    failed_before: int  # contents that are no usable image for this set
    missing: dict[int, npt.NDArray[np.int64]]
    table: pa.Table  # key columns, width, height, content_id of the distinct rows

    @property
    def to_do(self) -> int:
        """Images to encode."""
        return sum(len(rows) for rows in self.missing.values())

    def items(self, bucket: int) -> Iterator[Missing]:
        """The images of `bucket` to encode, in order."""
        for row in self.table.take(pa.array(self.missing[bucket])).to_pylist():
            yield Missing(row["content_id"].bytes, key_of(row), row["width"], row["height"])


def latent_identity(vae: Vae, policy: BucketPolicy) -> LatentIdentity:
    """The identity of the set that `vae` and `policy` make."""
    return LatentIdentity(
        vae_digest=vae.digest,
        compute_dtype=vae.compute_dtype,
        stored_dtype="float16",
        resolution=policy.resolution,
        step=policy.step,
        area=policy.area,
        min_side=policy.min_side,
        max_side=policy.max_side,
        max_ratio=policy.max_ratio,
        small_rule="keep",
        crop_rule="centre",
        pixel_recipe=f"decode {DECODE_VERSION}, {PIXEL_RECIPE}",
        flip=False,
        kind="mean",
    )


def plan_latents(
    snapshot: Snapshot,
    selection: Selection,
    *,
    buckets: tuple[tuple[int, int], ...],
    latent_set: LatentSet | None,
) -> LatentPlan:
    """Compare `selection` with `latent_set` (None: a new one); every missing image gets its bucket."""
    table = _distinct_rows(snapshot, selection)
    ids = _void(content_ids_of(table["content_id"]))
    done, failed = _void(np.empty(0, "V16")), _void(np.empty(0, "V16"))
    if latent_set is not None:
        done = _void(latent_set.index().content_ids)
        failed = _void(latent_set.failed_content())
    is_done = np.isin(ids, done)
    is_failed = np.isin(ids, failed) & ~is_done
    sizes = zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)
    bucket_of = np.array([nearest_bucket(width, height, buckets) for width, height in sizes], np.int64)
    wanted = ~is_done & ~is_failed
    missing = {int(b): np.flatnonzero(wanted & (bucket_of == b)) for b in np.unique(bucket_of[wanted])}
    return LatentPlan(
        selected=len(selection),
        distinct=len(ids),
        done=int(is_done.sum()),
        failed_before=int(is_failed.sum()),
        missing=missing,
        table=table,
    )


def _distinct_rows(snapshot: Snapshot, selection: Selection) -> pa.Table:
    """Key and size of the first row of each selected content, sorted by content_id."""
    distinct = selection.distinct()
    order = np.argsort(_void(distinct.content_ids), kind="stable")
    distinct = distinct.take(order)
    table = snapshot.images([*KEY_COLUMNS, "width", "height", "content_id"])
    return table.take(pa.array(snapshot.positions(distinct))).drop_columns(["shard", "row"])


def _void(ids: npt.NDArray[np.generic]) -> npt.NDArray[np.void]:
    return np.ascontiguousarray(ids).view("V16").ravel()
