"""Bytes to pixels to arrays: one decode for everything, the tagger squares, the buckets, the perceptual hash.

Loaded lazily, because every file behind this door imports OpenCV or Pillow. No file is named as a function of
the door: once imported, the file would stand in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.images.buckets import (
        PIXEL_RECIPE,
        BucketPolicy,
        CropBox,
        bucket_sizes,
        crop_to_bucket,
        nearest_buckets,
    )
    from pfgdata.images.decoding import DECODE_VERSION, Pixels, decode, pixel_count
    from pfgdata.images.hashes import perceptual_hash
    from pfgdata.images.limits import IMAGE_SECONDS, Limits
    from pfgdata.images.squares import picture_in, square
    from pfgdata.images.threads import one_opencv_thread
    from pfgdata.images.thumbs import THUMBNAIL_SIDE, thumbnail_jpeg
    from pfgdata.images.white import on_white

__all__ = [
    "DECODE_VERSION",
    "IMAGE_SECONDS",
    "PIXEL_RECIPE",
    "THUMBNAIL_SIDE",
    "BucketPolicy",
    "CropBox",
    "Limits",
    "Pixels",
    "bucket_sizes",
    "crop_to_bucket",
    "decode",
    "nearest_buckets",
    "on_white",
    "one_opencv_thread",
    "perceptual_hash",
    "picture_in",
    "pixel_count",
    "square",
    "thumbnail_jpeg",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
