"""The steps of a convention's square, as its authors' tools do them: Pillow's filters on a picture on white.

torchvision, timm and deepghs' imgutils all come to Pillow here; where they round apart, the step says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pfgdata.conventions import Step
from pfgdata.images.white import on_white

__all__ = ["stepped", "within_memory"]

_Array = npt.NDArray[np.uint8]

_LARGEST_SIDE = 8192  # a padded square of 201 MB in each thread; for a 1 x 65500 strip it were 12.9 GB
_LONGEST_STRIP = 64  # times its width


def stepped(array: _Array, steps: Sequence[Step]) -> _Array:
    """Pixels (uint8 RGB or RGBA) after all steps, uint8 RGB; those with alpha are laid on white first."""
    if any(step.kind == "pad" for step in steps):
        array = within_memory(array)
    picture = Image.fromarray(on_white(array))
    for step in steps:
        picture = _APPLY[step.kind](picture, step)
    return np.asarray(picture)


def within_memory(array: _Array) -> _Array:
    """A picture that can be padded to a square: one with a side over 8192 is shrunk by a whole factor."""
    height, width = array.shape[:2]
    factor = -(-max(height, width) // _LARGEST_SIDE)
    if factor == 1:
        return array
    smaller = (max(1, width // factor), max(1, height // factor))
    return np.asarray(cv2.resize(array, smaller, interpolation=cv2.INTER_AREA), np.uint8)


def _pad(picture: Image.Image, step: Step) -> Image.Image:
    return _centred(picture, max(picture.size), step)


def _fit(picture: Image.Image, step: Step) -> Image.Image:
    """The authors' own arithmetic: int() of a product a hair below a whole number is one less."""
    ratio = min(step.size / picture.width, step.size / picture.height)
    rounded: Callable[[float], int] = int if step.rounding == "floor" else round
    inside = max(1, rounded(picture.width * ratio)), max(1, rounded(picture.height * ratio))
    if picture.size == (step.size, step.size):
        return picture
    return _centred(_resized(picture, inside, step), step.size, step)


def _stretch(picture: Image.Image, step: Step) -> Image.Image:
    return _resized(picture, (step.size, step.size), step)


def _shorter(picture: Image.Image, step: Step) -> Image.Image:
    """torchvision's Resize of one number: the other side is cut to a whole number.

    Of a longer strip the middle, for a crop follows: 1 x 65500 at 448 were 39 GB.
    """
    longest = _LONGEST_STRIP * min(picture.size)
    if max(picture.size) > longest:
        left, top = (max(0, (side - longest) // 2) for side in picture.size)
        picture = picture.crop((left, top, picture.width - left, picture.height - top))
    width, height = picture.size
    if width < height:
        return _resized(picture, (step.size, int(step.size * height / width)), step)
    return _resized(picture, (int(step.size * width / height), step.size), step)


def _crop(picture: Image.Image, step: Step) -> Image.Image:
    """torchvision's CenterCrop; half a pixel goes to the even one. Pillow's crop is black outside."""
    left, top = (round((side - step.size) / 2) for side in picture.size)
    return picture.crop((left, top, left + step.size, top + step.size))


def _centred(picture: Image.Image, side: int, step: Step) -> Image.Image:
    """On a square of one colour; an odd pixel goes to the right and bottom."""
    if picture.size == (side, side):
        return picture
    ground = Image.new("RGB", (side, side), step.colour)
    ground.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return ground


def _resized(picture: Image.Image, size: tuple[int, int], step: Step) -> Image.Image:
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling[step.filter.upper()])


_APPLY: dict[str, Callable[[Image.Image, Step], Image.Image]] = {
    "pad": _pad,
    "fit": _fit,
    "stretch": _stretch,
    "shorter": _shorter,
    "crop": _crop,
}
