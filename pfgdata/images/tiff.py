"""TIFF as Pillow reads it, but for what it gets wrong: planes, MinIsWhite, 12 bits, byte order, turns.

Found by comparing with libvips every layout that can be written (tests/pfgdata/images/test_matrix.py).
"""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

__all__ = ["TiffImage", "black_is_zero"]

_DEFLATE = 8
_PLANES = 2  # PlanarConfiguration: each channel apart
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1

# libtiff hands over samples in the machine's byte order; Pillow minds that for unsigned 16 bits alone.
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}


class TiffImage(TiffImagePlugin.TiffImageFile):
    """Pillow's image of a TIFF; its greys of 16 bits still need `black_is_zero`, once they are loaded."""

    is_negative = False

    def _setup(self) -> None:
        tags = self.tag_v2
        if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _PLANES and tags.get(259, 1) == 1:
            # Pillow's own reader takes planes of 16 bits for 8, and refuses some; libtiff, which it calls for
            # whatever is compressed and which looks at the file itself, reads all.
            tags[TiffImagePlugin.COMPRESSION] = _DEFLATE
        photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
        if photometric == _WHITE_IS_ZERO and tags.get(TiffImagePlugin.BITSPERSAMPLE) == (16,):
            # not inverted in the one byte order, refused in the other
            tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = _BLACK_IS_ZERO
            self.is_negative = True
        super()._setup()
        if self.use_load_libtiff:
            (tile,) = self.tile
            assert isinstance(tile.args, tuple)
            raw, *rest = tile.args
            self.tile = [tile._replace(args=(_NATIVE.get(raw, raw), *rest))]

    def load_end(self) -> None:
        """Pillow's, which turns the pixels: by numbers, and the value of a BYTE it reads as text."""
        turn = self.tag_v2.get(ExifTags.Base.Orientation)
        if isinstance(turn, bytes) and self.tag_v2.tagtype[ExifTags.Base.Orientation] == TiffTags.BYTE:
            self.getexif()[ExifTags.Base.Orientation] = turn[0]
        super().load_end()


def black_is_zero(image: TiffImage) -> Image.Image:
    """A loaded TIFF; if it is a grey of 12 or 16 bits, with 0 for black and 65535 for white."""
    is_12_bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,)
    if not image.mode.startswith("I;16") or not (image.is_negative or is_12_bits):
        return image
    values = np.asarray(image).astype(np.uint16)
    if is_12_bits:
        values = np.bitwise_or(values << 4, values >> 8, dtype=np.uint16)
    plain = Image.fromarray(~values if image.is_negative else values)
    plain.info = image.info
    return plain
