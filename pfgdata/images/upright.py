"""EXIF orientation: which way up an image is, and the turn that brings it upright."""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["orientation", "upright"]

_Array = npt.NDArray[np.uint8]

# What brings an image of each EXIF orientation upright; 1 is upright.
_TURNS: dict[int, Callable[[_Array], object]] = {
    2: lambda array: cv2.flip(array, 1),
    3: lambda array: cv2.rotate(array, cv2.ROTATE_180),
    4: lambda array: cv2.flip(array, 0),
    5: cv2.transpose,
    6: lambda array: cv2.rotate(array, cv2.ROTATE_90_CLOCKWISE),
    7: lambda array: cv2.flip(cv2.transpose(array), -1),
    8: lambda array: cv2.rotate(array, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

_INTEGERS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
}  # EXIF's types: BYTE, SHORT, LONG, the signed ones


def upright(array: _Array, number: int) -> _Array:
    """Pixels [H, W, C] turned as the orientation of that number asks."""
    turn = _TURNS.get(number)
    return np.asarray(turn(array), np.uint8) if turn else array


def orientation(exif: bytes) -> int:
    """EXIF tag 0x0112 of the first directory, 1 to 8; 1 where there is none, or the block is broken.

    Our own reading: Pillow's gives up on a block with any fault, and warns. A TIFF has no such block here,
    as Pillow turns TIFFs itself.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(count):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag == 0x0112 and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], block, at + 8)
                return int(value) if value in _TURNS else 1
    except struct.error:  # an offset or count beyond the block
        pass
    return 1
