"""The one decode of the product: an image file's bytes to upright 8-bit sRGB pixels.

What the bytes are decides, never a file's name, and their header is weighed before a pixel is decoded.
Pillow's plugins are used directly: `Image.open` refuses what is over Pillow's own limit of 179 megapixels,
warns from half of it, and both limits are settings of the whole process, which are not ours to change.
"""

from __future__ import annotations

import functools
import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pfgdata.errors import ContentError
from pfgdata.images.limits import Limits

__all__ = ["DECODE_VERSION", "Pixels", "decode"]

DECODE_VERSION = "1"  # part of a store's identity: raise it when any image would decode to other pixels

_Array = npt.NDArray[np.uint8]

_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,  # a multi-picture MPO too: its first picture is a plain JPEG
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}

_SIGNATURES = (
    ("jpeg", re.compile(rb"\xff\xd8\xff")),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("bmp", re.compile(rb"BM")),
    ("tiff", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("avif", re.compile(rb"....ftyp(?:....)*?avi[fs]", re.DOTALL)),
    ("HEIC, which this version cannot decode", re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)),
    ("JPEG XL, which this version cannot decode", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("HTML, no image", re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)),
    ("SVG or XML, no image", re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!doctype)", re.IGNORECASE)),
    ("JSON, no image", re.compile(rb"\s*[{\[]\s*[\"{\[]")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """A decoded image, upright; `array` may be read-only."""

    array: _Array  # RGB [H, W, 3], or RGBA [H, W, 4] where some pixel is not opaque
    format: str  # jpeg, png, webp, gif, bmp, tiff, avif
    frames: int  # in the file; the first one is decoded

    @property
    def width(self) -> int:
        """Pixels across, after turning upright."""
        return self.array.shape[1]

    @property
    def height(self) -> int:
        """Pixels down, after turning upright."""
        return self.array.shape[0]


def decode(data: bytes, *, limits: Limits = Limits()) -> Pixels:  # noqa: B008 (a frozen value)
    """The first frame of an image file's bytes as uint8 sRGB, upright.

    EXIF orientation is applied, an embedded ICC profile converted, 16 bits divided by 257, CMYK (Adobe's
    inverted too), grey and palettes expanded, alpha kept unless all is opaque. Raises ContentError for
    whatever is no complete image of a known format or does not keep `limits`.
    """
    kind = _kind(data)
    try:
        image = _OPENERS[kind](io.BytesIO(data))
        limits.require(*image.size)
        _load(image)
        array = _upright(_srgb(image, kind), _orientation(image.info.get("exif", b"")))
        frames = int(getattr(image, "n_frames", 1))  # after the pixels: counting moves a GIF's position
    except (ContentError, MemoryError):
        raise
    except (
        Exception
    ) as problem:  # Pillow's plugins let many kinds out: OSError, SyntaxError, struct.error ...
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise ContentError(f"broken {kind}: {reason}") from problem
    return Pixels(array=array, format=kind, frames=frames)


def _kind(data: bytes) -> str:
    """Which opener fits the first bytes; ContentError says what they are where none does."""
    if not data:
        raise ContentError("empty file")
    kind = next((kind for kind, signature in _SIGNATURES if signature.match(data[:256])), None)
    if kind is None:
        raise ContentError("no image of a known format")
    if kind not in _OPENERS:
        raise ContentError(kind)
    return kind


def _srgb(image: Image.Image, kind: str) -> _Array:
    """RGB [H, W, 3] or RGBA [H, W, 4] in sRGB of a loaded image of any mode."""
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return _srgb_with_alpha(image, is_grey=is_grey)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if is_grey else "RGB")
    transform = _to_srgb(image.info.get("icc_profile"), image.mode)
    if image.mode == "CMYK" and kind == "jpeg" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, which is inverted
    return np.asarray(transform.apply(image) if transform else image.convert("RGB"))


def _srgb_with_alpha(image: Image.Image, *, is_grey: bool) -> _Array:
    rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
    transform = _to_srgb(image.info.get("icc_profile"), "L" if is_grey else "RGB")
    if transform:
        colour = Image.fromarray(np.ascontiguousarray(rgba[..., 0] if is_grey else rgba[..., :3]))
        rgba = np.dstack([np.asarray(transform.apply(colour)), rgba[..., 3]])
    return rgba if rgba[..., 3].min() < 255 else np.ascontiguousarray(rgba[..., :3])


# Pillow widens or cuts a PNG's samples to 8 bits, but not the grey or colour its tRNS chunk calls clear.
_KEY_TO_8_BITS: dict[str, Callable[[int], int]] = {
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}


def _load(image: ImageFile.ImageFile) -> None:
    """Decode the pixels of an opened file, and bring its clear colour to their scale."""
    rescale = _KEY_TO_8_BITS.get(str(image.tile[0].args)) if image.tile else None
    image.load()
    key = image.info.get("transparency")
    if rescale and isinstance(key, int):
        image.info["transparency"] = rescale(key)
    elif rescale and isinstance(key, tuple):
        image.info["transparency"] = tuple(rescale(value) for value in key)


def _eight_bits(image: Image.Image) -> Image.Image:
    """L, or LA where one value is marked clear, of a single channel of 16 or 32 bits.

    16 bits are divided by 257. 32-bit integers and floats do not say what white is: it is the least of 1
    (floats only), 255, 65535 and 2^31 - 1 that 99 % of the values keep below, give or take a quarter.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = (values // 257).astype(np.uint8)
    else:
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        bright = np.percentile(values, 99)
        whites = ([1.0] if image.mode == "F" else []) + [255.0, 65535.0, 2.0**31 - 1]
        white = next((white for white in whites if bright <= 1.25 * white), bright)
        grey = (values.clip(0, white) * (255 / white)).astype(np.uint8)
    result = Image.fromarray(grey)
    key = image.info.get("transparency")
    if isinstance(key, int):
        result.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    result.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return result


@functools.lru_cache(maxsize=32)  # the images of a corpus share a few profiles; building takes milliseconds
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of an ICC profile to sRGB for pixels of `mode` (RGB, L, CMYK), for use by any thread.

    None where there is no profile, or it is broken, of another colour space than the pixels, or sRGB
    already: it moves no colour of a probe by over 2 of 255. Relative colorimetric with black point
    compensation.
    """
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[mode]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    probe = _probe(mode)
    before, after = np.asarray(probe.convert("RGB"), np.int16), np.asarray(transform.apply(probe), np.int16)
    return transform if np.abs(before - after).max() > 2 else None


def _probe(mode: str) -> Image.Image:
    """Colours of the whole cube, 17 steps a side, or every grey."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 17).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))


# What brings an image of each EXIF orientation upright; 1 is upright, other numbers mean nothing.
_TURNS: dict[int, Callable[[_Array], object]] = {
    2: lambda array: cv2.flip(array, 1),
    3: lambda array: cv2.rotate(array, cv2.ROTATE_180),
    4: lambda array: cv2.flip(array, 0),
    5: cv2.transpose,
    6: lambda array: cv2.rotate(array, cv2.ROTATE_90_CLOCKWISE),
    7: lambda array: cv2.flip(cv2.transpose(array), -1),
    8: lambda array: cv2.rotate(array, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def _upright(array: _Array, orientation: int) -> _Array:
    turn = _TURNS.get(orientation)
    return np.asarray(turn(array), np.uint8) if turn else array


def _orientation(exif: bytes) -> int:
    """EXIF tag 0x0112 of the first directory, or 1 where the block is broken or has none.

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
            tag, kind, _, value = struct.unpack_from(order + "HHIH", block, directory + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:  # SHORT
                return int(value)
    except struct.error:  # an offset or count beyond the block
        pass
    return 1
