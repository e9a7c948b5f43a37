"""What is too large, too small or too thin to be an image for training, judged by its header."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pfgdata.errors import ContentError

__all__ = ["IMAGE_SECONDS", "Limits"]

IMAGE_SECONDS = 60.0  # one image may take to be read and decoded before it fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that an image must keep; none is part of what a feature means."""

    max_pixels: int = 200_000_000  # 600 MB as RGB; real scans end at about 100 megapixels
    min_side: int = 1  # pixels
    max_aspect: float = math.inf  # longer to shorter side

    @classmethod
    def of_stored(cls, width: int, height: int) -> Limits:
        """The usual bounds, or as many pixels as an image of a store has: its ingest allowed it."""
        return cls(max_pixels=max(cls().max_pixels, width * height))

    def require(self, width: int, height: int) -> None:
        """Raise ContentError unless an image of `width` x `height` pixels keeps every bound."""
        if width * height > self.max_pixels:
            raise ContentError(
                f"{width} x {height} is {width * height / 1e6:,.0f} megapixels,"
                f" over the limit of {self.max_pixels / 1e6:,.0f}"
            )
        if min(width, height) < self.min_side:
            raise ContentError(f"{width} x {height}, a side under the limit of {self.min_side} pixels")
        if max(width, height) > self.max_aspect * min(width, height):
            raise ContentError(f"{width} x {height}, longer than {self.max_aspect:g} times its other side")
