"""Latent sets: the derived sets of VAEs, under the store's `latents/`, a shard of one bucket each.

A set's bucket list is decided when the set is made and frozen: images that come later take the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.records import Factor, LatentScale, factor
from pfgdata.store.derived_sets import DerivedIdentity, DerivedIndex, DerivedInfo, DerivedSet
from pfgdata.store.layout import LATENTS_SCHEMA

__all__ = ["LatentIdentity", "LatentIndex", "LatentInfo", "LatentSet"]

_CROPS = ("crop_top", "crop_left", "resized_width", "resized_height", "width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentIdentity(DerivedIdentity):
    """What must be equal for two latents to be exchangeable."""

    vae_digest: str  # BLAKE3 of the state dict, see pfgdata.vaes
    compute_dtype: str
    stored_dtype: str
    resolution: int  # pixels; area = resolution ** 2
    step: int  # pixels
    area: int  # pixels
    min_side: int
    max_side: int
    max_ratio: float
    small_rule: str  # what happens to buckets with few images: "keep"
    crop_rule: str  # "centre"
    pixel_recipe: str  # decode and resize, with versions
    flip: bool
    kind: str  # "mean" or "moments"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInfo(DerivedInfo):
    """What a set also knows, outside its identity."""

    buckets: tuple[tuple[int, int], ...]  # width, height in pixels
    base_name: str
    base_revision: str | None
    scaling_factor: Factor  # of the VAE; the stored latents are neither scaled nor shifted
    probe: tuple[Any, ...]  # latent of a fixed image, nested floats [C][h][w]: tells VAEs apart by effect
    shift_factor: Factor = 0.0
    latent_channels: int | None = None  # None: as many as the probe, in a set that does not say

    def __post_init__(self) -> None:
        """Make tuples of what JSON gives, and count the channels where a set does not say."""
        buckets = tuple((int(width), int(height)) for width, height in self.buckets)
        object.__setattr__(self, "buckets", buckets)
        for name in ("scaling_factor", "shift_factor"):
            object.__setattr__(self, name, factor(getattr(self, name)))
        if self.latent_channels is None and self.probe:
            object.__setattr__(self, "latent_channels", len(self.probe))

    @property
    def scale(self) -> LatentScale:
        """What makes a UNet's latents of the stored ones."""
        return LatentScale(scaling=self.scaling_factor, shift=self.shift_factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentIndex(DerivedIndex):
    """Where each latent of a set stands, and of which bucket it is."""

    bucket: npt.NDArray[np.int32]  # [M], into LatentInfo.buckets


class LatentSet(DerivedSet[LatentIdentity, LatentInfo]):
    """One latent set: its arrays are latents, [N, C, h, w] (2C for moments), unscaled."""

    name = "latent"
    schema = LATENTS_SCHEMA
    identity_type = LatentIdentity
    info_type = LatentInfo

    def index(self) -> LatentIndex:
        """Where every committed latent stands, in commit order."""
        metas = self._with_arrays()
        index = self._index(metas)
        bucket_of = {bucket: number for number, bucket in enumerate(self.info.buckets)}
        buckets = np.array([bucket_of[tuple(meta.facts["bucket"])] for meta in metas], np.int32)
        return LatentIndex(
            content_ids=index.content_ids,
            shards=index.shards,
            shard_index=index.shard_index,
            rows=index.rows,
            bucket=buckets[index.shard_index],
        )

    def crops(self, shard_id: str) -> npt.NDArray[np.int64]:
        """How each image of one shard was cut, pixels [N, 6]: top, left, resized and original width, height.

        Top and left are of the resized image.
        """
        table = self.rows(shard_id, _CROPS)
        return np.stack([table[name].to_numpy().astype(np.int64) for name in _CROPS], axis=1)
