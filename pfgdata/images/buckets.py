"""Aspect-ratio buckets: which picture sizes a latent set has, and an image's crop to one of them.

A bucket is (width, height) in pixels, as people write it; arrays are [H, W, 3]. The crop is cut before it is
resampled, so that a 1 x 5000 strip costs no more than any other image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pfgdata.errors import ConfigError
from pfgdata.images.white import on_white

__all__ = ["PIXEL_RECIPE", "BucketPolicy", "CropBox", "bucket_sizes", "crop_to_bucket", "nearest_buckets"]

# Alpha on white, Pillow's Lanczos (antialiased, as diffusers' own image processor), to cover, centre crop.
PIXEL_RECIPE = "white-lanczos-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPolicy:
    """What the buckets of a latent set may be. Raises ConfigError where no bucket could exist."""

    resolution: int  # side of the square bucket; no bucket has a larger area
    step: int  # every side is a multiple of it: VAE factor x 2^(downsamplings of the UNet)
    min_side: int
    max_side: int
    max_ratio: float  # longer side over shorter

    def __post_init__(self) -> None:
        if self.step < 1 or self.resolution < self.step or self.resolution % self.step:
            raise ConfigError(
                f"resolution {self.resolution} is no multiple of the base's step {self.step};"
                f" use {max(1, round(self.resolution / max(1, self.step))) * max(1, self.step)}"
            )
        if not 0 < self.min_side <= self.resolution <= self.max_side:
            raise ConfigError(
                f"bucket sides {self.min_side} to {self.max_side} leave out the resolution {self.resolution}"
            )
        if not self.max_ratio >= 1:
            raise ConfigError(f"a bucket ratio of at most {self.max_ratio} leaves none; 1 means squares only")

    @property
    def area(self) -> int:
        """The most pixels a bucket may have."""
        return self.resolution**2

    @classmethod
    def derive(cls, resolution: int, step: int) -> BucketPolicy:
        """Sides of 2/3 to 4/3 of the resolution, ratio at most 2: at 768 the original's 512 to 1024."""

        def side(factor: float) -> int:
            return max(step, math.floor(resolution * factor / step + 0.5) * step)

        return cls(
            resolution=resolution,
            step=step,
            min_side=min(side(2 / 3), resolution),
            max_side=max(side(4 / 3), resolution),
            max_ratio=2.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CropBox:
    """Where a crop lies: `top` and `left` in pixels of the whole image resized to the given size."""

    top: int
    left: int
    resized_width: int
    resized_height: int


def bucket_sizes(policy: BucketPolicy) -> tuple[tuple[int, int], ...]:
    """All (width, height) the policy allows, sorted.

    For each width the largest height that keeps the area, and the same with the two exchanged.
    """
    sizes = set()
    for side in range(_up(policy.min_side, policy.step), policy.max_side + 1, policy.step):
        other = min(policy.max_side, policy.area // side) // policy.step * policy.step
        if other >= policy.min_side and max(side, other) <= policy.max_ratio * min(side, other):
            sizes |= {(side, other), (other, side)}
    return tuple(sorted(sizes))


def nearest_buckets(
    widths: npt.ArrayLike, heights: npt.ArrayLike, buckets: Sequence[tuple[int, int]]
) -> npt.NDArray[np.int64]:
    """Per image the index of the bucket whose ratio is nearest by logarithm, of equals the first: [N]."""
    ratios = np.log(np.asarray(widths, np.float64) / np.asarray(heights, np.float64))
    nearest, least = np.zeros(ratios.shape, np.int64), np.full(ratios.shape, np.inf)
    for index, (width, height) in enumerate(buckets):
        distance = np.round(np.abs(math.log(width / height) - ratios), 9)  # equals stay equal
        nearest[distance < least] = index
        least = np.minimum(least, distance)
    return nearest


def crop_to_bucket(
    array: npt.NDArray[np.uint8], bucket: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], CropBox]:
    """The centre of an image (uint8 [H, W, 3 or 4]) resized to cover a bucket (W, H): uint8 RGB [H, W, 3]."""
    height, width = array.shape[:2]
    box = _cover(width, height, bucket)
    scale_x, scale_y = width / box.resized_width, height / box.resized_height
    source = (
        box.left * scale_x,
        box.top * scale_y,
        min(width, (box.left + bucket[0]) * scale_x),
        min(height, (box.top + bucket[1]) * scale_y),
    )
    flat = Image.fromarray(on_white(array))
    return np.asarray(flat.resize(bucket, Image.Resampling.LANCZOS, box=source)), box


def _cover(width: int, height: int, bucket: tuple[int, int]) -> CropBox:
    """The least size of the image's ratio that covers the bucket, and the centre crop in it."""
    scale = max(bucket[0] / width, bucket[1] / height)
    resized_width, resized_height = (
        max(bucket[0], round(width * scale)),
        max(bucket[1], round(height * scale)),
    )
    return CropBox(
        top=(resized_height - bucket[1]) // 2,
        left=(resized_width - bucket[0]) // 2,
        resized_width=resized_width,
        resized_height=resized_height,
    )


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
