"""What a file of the matrix is: its pixels, how it says that it is turned, how near libvips must come."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageCms

__all__ = [
    "HEIGHT",
    "INTEGERS",
    "WIDTH",
    "Kind",
    "Made",
    "Samples",
    "Turn",
    "exif_block",
    "packed_rows",
    "samples_of",
    "swapped_profile",
]

Samples = npt.NDArray[Any]
Save = Callable[["Turn"], bytes]

INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # EXIF's integer types: BYTE, SHORT, LONG, signed
WIDTH, HEIGHT = 29, 18


@dataclass(frozen=True, slots=True)
class Turn:
    """How a file says that it is turned: an EXIF orientation, the type of its number, the byte order."""

    number: int
    kind: int = 3
    order: str = "<"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file, and how far from libvips' its pixels may be, of 255, colours multiplied by alpha."""

    name: str
    data: bytes
    within: float
    has_alpha: (
        bool  # False: what more there is in a pixel is not said to be alpha, and libvips takes it for it
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    save: Save
    within: float = 0.0
    turns: bool = True  # the format has a place for EXIF
    has_alpha: bool = True


def exif_block(turn: Turn) -> bytes:
    """An EXIF block that says nothing but the turn."""
    head = b"II*\0" if turn.order == "<" else b"MM\0*"
    value = struct.pack(turn.order + INTEGERS[turn.kind], turn.number).ljust(4, b"\0")
    entry = struct.pack(turn.order + "HHI", 0x0112, turn.kind, 1) + value
    return b"Exif\0\0" + head + struct.pack(turn.order + "IH", 8, 1) + entry + bytes(4)


def samples_of(channels: int, most: int, *, clear: bool = False) -> Samples:
    """Values 0..most [H, W, C], smooth, without symmetry; with `clear` the last is alpha, clear to opaque."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH] / [[[HEIGHT - 1]], [[WIDTH - 1]]]
    ramps = [across, down, (across * down + 1) / 2, 1 - across / 2, down**2, 1 - down * across]
    chosen = ramps[:channels]
    if clear:
        chosen[-1] = np.clip(1.5 * (across + down) - 0.5, 0, 1)
    return np.rint(np.stack(chosen, axis=-1) * most).astype(np.int64)


def packed_rows(part: Samples, bits: int, order: str, form: int) -> bytes:
    if bits % 8 == 0:
        return part.astype(f"{order}{'xuif'[form]}{bits // 8}").tobytes()
    rows = part.reshape(len(part), -1)
    return np.packbits(
        (rows[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(part), -1), axis=1
    ).tobytes()


def swapped_profile() -> bytes:
    """Little CMS's own sRGB with its red and blue primaries exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)
