"""Bytes to pixels to arrays: one decode for everything, the tagger squares, the buckets, the perceptual hash.

Loaded lazily, because every file behind this door imports OpenCV or Pillow. No file is named as a function of
the door: once imported, the file would stand in its place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    from pfgdata.images.limits import Limits
    from pfgdata.images.squares import PREPROCESSINGS, on_white, picture_in, square
    from pfgdata.images.threads import one_opencv_thread

__all__ = [
    "DECODE_VERSION",
    "PIXEL_RECIPE",
    "PREPROCESSINGS",
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
]

_LAZY = {
    "DECODE_VERSION": "pfgdata.images.decoding",
    "Limits": "pfgdata.images.limits",
    "PIXEL_RECIPE": "pfgdata.images.buckets",
    "PREPROCESSINGS": "pfgdata.images.squares",
    "BucketPolicy": "pfgdata.images.buckets",
    "CropBox": "pfgdata.images.buckets",
    "Pixels": "pfgdata.images.decoding",
    "bucket_sizes": "pfgdata.images.buckets",
    "crop_to_bucket": "pfgdata.images.buckets",
    "decode": "pfgdata.images.decoding",
    "nearest_buckets": "pfgdata.images.buckets",
    "on_white": "pfgdata.images.squares",
    "one_opencv_thread": "pfgdata.images.threads",
    "perceptual_hash": "pfgdata.images.hashes",
    "picture_in": "pfgdata.images.squares",
    "pixel_count": "pfgdata.images.decoding",
    "square": "pfgdata.images.squares",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
