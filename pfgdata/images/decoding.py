"""The one decode of the product: an image file's bytes to upright 8-bit sRGB pixels.

What the bytes are decides, never a file's name, and their header is weighed before a pixel is decoded.
Pillow's plugins are used directly: `Image.open` refuses what is over Pillow's own limit of 179 megapixels,
warns from half of it, and both limits are settings of the whole process, which are not ours to change.
Everything that costs lets other threads run meanwhile (docs/decode.md).
"""

from __future__ import annotations

import importlib
import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from pfgdata.errors import ContentError
from pfgdata.images.colour import srgb, to_srgb
from pfgdata.images.headers import gif_frames, jxl_header, lean_pngs, tiff_frames
from pfgdata.images.jpeg import decode_jpeg
from pfgdata.images.limits import Limits
from pfgdata.images.threads import plain_memory_errors
from pfgdata.images.tiff import TiffImage, black_is_zero
from pfgdata.images.upright import orientation, upright

__all__ = ["DECODE_VERSION", "Pixels", "decode", "pixel_count"]

# Part of a store's identity: raise it when images that were decoded rightly would decode to other pixels. It
# stays where a fault in rare files is mended (docs/decode.md has them): every store would refuse to go on.
DECODE_VERSION = "1"

_Array = npt.NDArray[np.uint8]

_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,  # a multi-picture MPO too: its first picture is a plain JPEG
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImage,
    "avif": AvifImagePlugin.AvifImageFile,
}

# Formats of packages a user may add: what people call it, the module, its plugin's class, the package.
_PLUGINS = {
    "jxl": ("JPEG XL", "pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "pillow-jxl-plugin"),
    "heic": ("HEIC", "pillow_heif", "HeifImageFile", "pillow-heif"),
}

_SIGNATURES = (
    ("jpeg", re.compile(rb"\xff\xd8\xff")),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("bmp", re.compile(rb"BM")),
    ("tiff", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("avif", re.compile(rb"....ftyp(?:....)*?avi[fs]", re.DOTALL)),
    ("heic", re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)),
    ("jxl", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("HTML, no image", re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)),
    ("SVG or XML, no image", re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!doctype)", re.IGNORECASE)),
    ("JSON, no image", re.compile(rb"\s*[{\[]\s*[\"{\[]")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """A decoded image, upright; `array` may be read-only."""

    array: (
        _Array  # RGB [h, w, 3], or RGBA [h, w, 4] where some pixel is not opaque; smaller only if asked for
    )
    width: int  # of the whole image, after turning upright
    height: int
    format: str  # jpeg, png, webp, gif, bmp, tiff, avif, jxl, heic
    frames: int  # in the file; the first one is decoded


def decode(data: bytes, *, limits: Limits = Limits(), at_least: int | None = None) -> Pixels:  # noqa: B008
    """The first frame of an image file's bytes as uint8 sRGB, upright.

    EXIF orientation is applied, an embedded ICC profile converted, 16 bits divided by 257, CMYK (Adobe's
    inverted too), grey and palettes expanded, alpha kept unless all is opaque. With `at_least` a JPEG may
    come scaled down by its decoder, its longer side no less than that. Raises ContentError for whatever is
    no complete image of a known format or does not keep `limits`.
    """
    kind = _kind(data)
    first: Exception | None = None
    for attempt in _attempts(data, kind):
        try:
            return _decoded(attempt, kind, limits, at_least)
        except (ContentError, MemoryError):
            raise
        except Exception as problem:  # the plugins let many kinds out: OSError, SyntaxError, struct.error ...
            first = first or problem
    raise ContentError(f"broken {kind}: {_reason(first)}") from first


def _reason(problem: Exception | None) -> str:
    """What a plugin says, or what it means where it speaks of its own making."""
    text = " ".join(str(problem).split())
    if isinstance(problem, struct.error):
        return "cut off"
    return "no picture in it" if text == "not identified by this driver" else text or type(problem).__name__


def pixel_count(data: bytes, *, limits: Limits = Limits()) -> int:  # noqa: B008
    """How many pixels the header of an image file's bytes states; 0 where `decode` will decode none."""
    try:
        kind = _kind(data)
        width, height = jxl_header(data)[:2] if kind == "jxl" else _opened(data, kind).size
        limits.require(width, height)
    except Exception:  # decode will say what it is
        return 0
    return int(width * height)


def _attempts(data: bytes, kind: str) -> Iterator[bytes]:
    """The bytes; for those of a PNG that cannot be read, copies without what may be the cause."""
    yield data
    if kind == "png":
        yield from lean_pngs(data)


@plain_memory_errors()
def _decoded(data: bytes, kind: str, limits: Limits, at_least: int | None) -> Pixels:
    image = _open(data, kind, limits)
    array = _jpeg(data, image, at_least) if kind == "jpeg" else None
    if array is None:
        _load(image)
        array = srgb(black_is_zero(image) if kind == "tiff" else image, kind)
    turned = _orientation(data, image, kind)  # after the pixels: a PNG may say it behind them
    width, height = image.size[::-1] if turned >= 5 else image.size  # 5 to 8 lie on their side
    frames = _frames(data, image, kind)
    return Pixels(array=upright(array, turned), width=width, height=height, format=kind, frames=frames)


def _kind(data: bytes) -> str:
    """Which opener fits the first bytes; ContentError says what they are where none does."""
    if not data:
        raise ContentError("empty file")
    kind = next((kind for kind, signature in _SIGNATURES if signature.match(data[:256])), None)
    if kind is None:
        raise ContentError("no image of a known format")
    if kind not in _OPENERS and kind not in _PLUGINS:
        raise ContentError(kind)
    return kind


def _open(data: bytes, kind: str, limits: Limits) -> Any:
    """Pillow's image of the header alone, within the limits."""
    if kind == "jxl":  # its plugin decodes when it opens, every picture, and keeps the last
        header = jxl_header(data)
        limits.require(header.width, header.height)
        if header.is_animated:
            raise ContentError(
                "animated JPEG XL, of which the plugin gives the last picture only; save it as APNG or WebP"
            )
    image = _opened(data, kind)
    limits.require(*image.size)
    return image


def _opened(data: bytes, kind: str) -> Any:
    opener = _OPENERS.get(kind) or _plugin(kind)
    return opener(io.BytesIO(data))


def _plugin(kind: str) -> Any:
    """The opener of an added package; ContentError says which one where it is missing."""
    name, module, opener, package = _PLUGINS[kind]
    try:
        return getattr(importlib.import_module(module), opener)
    except ImportError:
        raise ContentError(f"{name} needs a package: pip install {package}, then --retry-failed") from None


def _jpeg(data: bytes, image: Image.Image, at_least: int | None) -> _Array | None:
    """sRGB [h, w, 3] of an RGB or grey JPEG; None for what is Pillow's."""
    if image.mode not in ("RGB", "L"):
        return None
    transform = to_srgb(image.info.get("icc_profile"), image.mode)
    grey = image.mode == "L" and transform is not None  # a profile of greys wants them as they are
    array = decode_jpeg(data, image.size, grey=grey, at_least=at_least)
    if array is None or transform is None:
        return array
    return np.asarray(transform.apply(Image.fromarray(array)))


# Pillow widens or cuts a PNG's samples to 8 bits, but not the grey or colour its tRNS chunk calls clear.
_KEY_TO_8_BITS: dict[str, Callable[[int], int]] = {
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}


def _load(image: Any) -> None:
    """Decode the pixels of an opened file, and bring its clear colour to their scale."""
    rescale = _KEY_TO_8_BITS.get(str(image.tile[0].args)) if image.tile else None
    image.load()
    # What a file does not say some plugins give as None; from here on it is left out, as the others do.
    image.info = {name: value for name, value in image.info.items() if value is not None}
    key = image.info.get("transparency")
    if rescale and isinstance(key, int):
        image.info["transparency"] = rescale(key)
    elif rescale and isinstance(key, tuple):
        image.info["transparency"] = tuple(rescale(value) for value in key)


def _orientation(data: bytes, image: Any, kind: str) -> int:
    """The turn still due: JPEG XL's plugin has made it, but where it gives back the pixels of a JPEG."""
    if kind == "jxl":  # its own header decides, whatever EXIF says
        return jxl_header(data).orientation if image.jpeg else 1
    return orientation(image.info.get("exif", b""))


def _frames(data: bytes, image: Any, kind: str) -> int:
    if kind == "gif":
        return gif_frames(data)
    if kind == "tiff":
        return tiff_frames(data)
    return int(getattr(image, "n_frames", None) or 1)
