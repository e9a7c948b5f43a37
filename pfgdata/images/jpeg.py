"""JPEG by libjpeg-turbo itself: the pixels that Pillow gives, without its copies, and smaller where asked.

Pillow decodes with the same library, so where both decode, the exact pixels are the same (a test compares
them for every subsampling and kind). Whatever libjpeg-turbo warns of is left to Pillow, which alone decides
what is broken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]

__all__ = ["decode_jpeg"]

_Array = npt.NDArray[np.uint8]

# libjpeg-turbo scales by n/8. Above 1/2 its transforms are plain C, slower than no scaling (docs/decode.md).
_LEAST_FACTOR = 2


def decode_jpeg(data: bytes, size: tuple[int, int], *, grey: bool, at_least: int | None) -> _Array | None:
    """RGB [h, w, 3], or grey [h, w], of a JPEG whose header says `size` (W, H); None leaves it to Pillow.

    With `at_least` the least of full size, 1/2, 3/8, 1/4 and 1/8 whose longer side keeps so many pixels. The
    lock of the interpreter is free meanwhile.
    """
    width, height = size
    least = {} if at_least is None else {"min_width" if width >= height else "min_height": at_least}
    try:
        found = simplejpeg.decode_jpeg_header(data)
        if (int(found[1]), int(found[0])) != size:
            return None  # the limits were judged by another header than this library found
        pixels = simplejpeg.decode_jpeg(
            data, "GRAY" if grey else "RGB", min_factor=_LEAST_FACTOR if least else 1, **least
        )
    except ValueError:
        return None
    return np.asarray(pixels[..., 0] if grey else pixels, np.uint8)
