"""A small JPEG of a picture, for pages: whole, on white, never enlarged."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]

from pfgdata.images.white import on_white

__all__ = ["THUMBNAIL_SIDE", "thumbnail_jpeg"]

THUMBNAIL_SIDE = 256  # pixels of the longer side, at most
_QUALITY = 82  # 256 px of a drawing: about 12 kB


def thumbnail_jpeg(pixels: npt.NDArray[np.uint8], *, side: int = THUMBNAIL_SIDE) -> bytes:
    """JPEG bytes of `pixels` (uint8 [H, W, 3] or [H, W, 4]), its longer side `side` pixels or fewer."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    small = pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    flat = np.ascontiguousarray(on_white(small))
    return bytes(simplejpeg.encode_jpeg(flat, quality=_QUALITY, colorspace="RGB", colorsubsampling="420"))
