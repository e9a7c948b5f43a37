"""Pixels by libvips, a decoder that shares no code of ours: the judge of the matrix.

Called through ctypes: a call of its command line takes a twentieth of a second before it reads. What libvips
leaves to its caller (white, ink, profiles) is decided here and nowhere else, so that it is said once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import byref, c_size_t, c_void_p
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["NotRead", "pixels_by_vips"]

_Values = npt.NDArray[np.float64]

_FORMATS = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "c8", "f8")  # VipsBandFormat, in order
_LAB, _CMYK, _SRGB = 13, 15, 22  # VipsInterpretation
_RELATIVE = 1  # VipsIntent
_END = c_void_p(None)


class NotRead(Exception):
    """libvips says that it cannot read a file."""


def pixels_by_vips(data: bytes, *, has_alpha: bool) -> _Values:
    """A file's first picture, upright, as RGBA [H, W, 4], 0..255 and not rounded.

    What libvips takes for alpha is left out unless `has_alpha`. Raises NotRead with libvips' reason.
    """
    vips = _vips()
    image = vips.vips_image_new_from_buffer(data, c_size_t(len(data)), b"", _END)
    if not image:
        raise NotRead(_reason())
    image = _done(vips.vips_autorot, image)
    if vips.vips_image_get_typeof(c_void_p(image), b"icc-profile-data"):
        image = _done(
            vips.vips_icc_transform,
            image,
            b"srgb",
            *_options(embedded=1, intent=_RELATIVE, black_point_compensation=1),
        )
    if vips.vips_image_get_interpretation(c_void_p(image)) == _LAB:
        image = _done(vips.vips_colourspace, image, _SRGB)
    try:
        values = _rgba(*_read(image))
    finally:
        vips.g_object_unref(c_void_p(image))
    if not has_alpha:
        values[..., 3] = 255
    return values


@cache
def _vips() -> ctypes.CDLL:
    os.environ.setdefault("VIPS_CONCURRENCY", "1")  # the pictures are small
    os.environ.setdefault("VIPS_WARNING", "0")  # of every AVIF it says that it leaves out its nclx profile
    library = ctypes.CDLL("libvips.so.42")  # of the Debian package libvips-tools
    for name in ("vips_image_new_from_buffer", "vips_image_write_to_memory"):
        getattr(library, name).restype = c_void_p
    library.vips_error_buffer.restype = ctypes.c_char_p
    if library.vips_init(b"pfg"):
        raise OSError("libvips does not start")
    return library


def _options(**values: int) -> list[bytes | int]:
    """Options of a libvips operation, as its variadic functions take them."""
    return [part for name, value in values.items() for part in (name.encode(), value)]


def _done(operation: Callable[..., int], image: int, *arguments: bytes | int) -> int:
    """The image that an operation makes of `image`, which is given up."""
    out = c_void_p()
    failed = operation(c_void_p(image), byref(out), *arguments, _END)
    _vips().g_object_unref(c_void_p(image))
    if failed or not out.value:
        raise NotRead(_reason())
    return out.value


def _reason() -> str:
    text = " ".join(_vips().vips_error_buffer().decode(errors="replace").split())
    _vips().vips_error_clear()
    return text


def _read(image: int) -> tuple[npt.NDArray[np.generic], int, bool]:
    """Values as stored [H, W, bands], their interpretation, and whether the last band is alpha."""
    vips, one, size = _vips(), c_void_p(image), c_size_t()
    memory = vips.vips_image_write_to_memory(one, byref(size))
    if not memory:
        raise NotRead(_reason())
    kind = np.dtype(_FORMATS[vips.vips_image_get_format(one)])
    values = np.frombuffer(ctypes.string_at(memory, size.value), kind)
    vips.g_free(c_void_p(memory))
    shape = (vips.vips_image_get_height(one), vips.vips_image_get_width(one), -1)
    return values.reshape(shape), vips.vips_image_get_interpretation(one), bool(vips.vips_image_hasalpha(one))


def _rgba(stored: npt.NDArray[np.generic], interpretation: int, has_alpha: bool) -> _Values:
    """White is the greatest value of an integer, and 1 of a float; ink covers as (1 - ink) (1 - black)."""
    white = 1.0 if stored.dtype.kind == "f" else float(2 ** (8 * stored.dtype.itemsize) - 1)
    values = stored.astype(np.float64) * (255 / white)
    colour = values[..., :-1] if has_alpha else values
    if interpretation == _CMYK:
        colour = (255 - colour[..., :3]) * (255 - colour[..., 3:4]) / 255
    elif colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    alpha = values[..., -1:] if has_alpha else np.full_like(values[..., :1], 255)
    return np.concatenate([colour[..., :3], alpha], axis=2)
