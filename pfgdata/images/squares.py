"""The tagger's square: from decoded pixels to its input, in four named ways or by the steps of a convention.

The named ones are as the tools in use do it. They differ in alpha, padding and resampling (facts in each
function), so a store names the one it was made with. Each is bit-equal to its original on the goldens in
tests/data/preprocess. Channels are RGB here; the originals swap to BGR float32 first, which no step before
the model can tell. Every step runs in OpenCV or Pillow with the interpreter's lock free, so that threads make
squares side by side (docs/decode.md).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pfgdata.conventions import PREPROCESSINGS, Convention
from pfgdata.errors import ConfigError
from pfgdata.images.steps import stepped, within_memory
from pfgdata.images.threads import plain_memory_errors
from pfgdata.images.white import on_white
from pfgdata.records import nearest

__all__ = ["picture_in", "square"]

_Array = npt.NDArray[np.uint8]


@plain_memory_errors()
def square(array: _Array, *, preprocess: str, size: int) -> _Array:
    """Pixels (uint8 [H, W, 3] RGB or [H, W, 4] RGBA) as a preprocessing's uint8 RGB [size, size, 3].

    `preprocess` is a name, or the text of a convention, whose size must be `size`. By a name an image with a
    side over 8192 is first shrunk by a whole factor, so that a long strip padded to a square fits in memory;
    only there the result is not the original's to the bit.
    """
    if preprocess in _PREPROCESSINGS:
        return _PREPROCESSINGS[preprocess](within_memory(array), size)
    if ";" not in preprocess:
        known = nearest(preprocess, PREPROCESSINGS) or PREPROCESSINGS
        raise ConfigError(f"no preprocessing {preprocess!r}; did you mean {' or '.join(known)}?")
    convention = Convention.of(preprocess)
    if (name := convention.square[0]) in _PREPROCESSINGS:
        return _PREPROCESSINGS[name](within_memory(array), size)
    assert convention.size == size, f"a square of {size} by a convention of {convention.size}"
    return stepped(array, convention.steps)


def picture_in(tile: _Array, array: _Array, *, preprocess: str = PREPROCESSINGS[0]) -> _Array:
    """The part of a square that shows the picture `array`, a view [h, w, 3]; `array` if it was not shrunk.

    A border pixel that is partly margin is left out. By no named preprocessing the picture may lie in it
    otherwise: then it is `array` too.
    """
    if preprocess not in PREPROCESSINGS:
        return array
    (height, width), size = array.shape[:2], len(tile)
    side = max(height, width)
    if side <= size:
        return array
    (top, bottom), (left, right) = (_span(length, side, size) for length in (height, width))
    return tile[top:bottom, left:right]


def _span(length: int, side: int, size: int) -> tuple[int, int]:
    """Where the whole pixels of `length`, centred in `side`, begin and end with `side` shrunk to `size`."""
    before = (side - length) // 2
    return -(-before * size // side), (before + length) * size // side


def _kohya(array: _Array, size: int) -> _Array:
    """sd-scripts: on white; Lanczos of Pillow up, area down."""
    padded = _padded(on_white(array), max(array.shape[:2]))
    return _shrunk(padded, size) if len(padded) > size else _pillow(padded, size, Image.Resampling.LANCZOS)


def _webui(array: _Array, size: int) -> _Array:
    """pfg-webui and pfg-ComfyUI: alpha dropped, so hidden colour shows; Lanczos of OpenCV up, area down."""
    padded = _padded(_opaque(array), max(array.shape[:2]))
    if len(padded) >= size:
        return _shrunk(padded, size)
    return _uint8(cv2.resize(padded, (size, size), interpolation=cv2.INTER_LANCZOS4))


def _pfg_train(array: _Array, size: int) -> _Array:
    """laksjdjf/pfg training: only fully clear pixels turn white; never enlarged, padded to `size` instead."""
    flat = _opaque(array)
    if array.shape[2] == 4:
        alpha = cv2.extractChannel(array, 3)
        _, clear = cv2.threshold(alpha, 0, 255, cv2.THRESH_BINARY_INV)  # 255 where alpha is 0
        flat = _uint8(cv2.bitwise_or(flat, cv2.cvtColor(clear, cv2.COLOR_GRAY2RGB), dst=flat))
    return _shrunk(_padded(flat, max(*array.shape[:2], size)), size)


def _smilingwolf(array: _Array, size: int) -> _Array:
    """The models' author's demo, imgutils, wdv3-timm: on white; antialiased bicubic of Pillow both ways."""
    return _pillow(_padded(on_white(array), max(array.shape[:2])), size, Image.Resampling.BICUBIC)


_PREPROCESSINGS: dict[str, Callable[[_Array, int], _Array]] = {
    "kohya": _kohya,
    "webui": _webui,
    "pfg-train": _pfg_train,
    "smilingwolf": _smilingwolf,
}


def _padded(array: _Array, side: int) -> _Array:
    """Centre on a white square; an odd pixel goes to the bottom and right."""
    height, width = array.shape[:2]
    if height == width == side:
        return array
    top, left = (side - height) // 2, (side - width) // 2
    margins = (top, side - height - top, left, side - width - left)
    return _uint8(cv2.copyMakeBorder(array, *margins, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def _opaque(array: _Array) -> _Array:
    """RGB without its alpha; of a view OpenCV would make a copy with the lock held."""
    return array if array.shape[2] == 3 else _uint8(cv2.cvtColor(array, cv2.COLOR_RGBA2RGB))


def _shrunk(array: _Array, size: int) -> _Array:
    if len(array) == size:
        return np.ascontiguousarray(array)
    return _uint8(cv2.resize(array, (size, size), interpolation=cv2.INTER_AREA))


def _pillow(array: _Array, size: int, filter: Image.Resampling) -> _Array:
    return np.asarray(Image.fromarray(array).resize((size, size), filter))


def _uint8(array: object) -> _Array:
    return np.asarray(array, np.uint8)  # says to the type checker what OpenCV keeps to itself
