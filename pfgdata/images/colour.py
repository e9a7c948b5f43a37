"""A decoded image of any mode to 8-bit sRGB: alpha, palettes, 16 bits, CMYK, embedded ICC profiles.

An ICC transform is built once for a profile and mode, and used by all threads at once.
"""

from __future__ import annotations

import functools
import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

__all__ = ["srgb", "to_srgb"]

_Array = npt.NDArray[np.uint8]


def srgb(image: Image.Image, kind: str) -> _Array:
    """A loaded image of any mode in sRGB: RGB [H, W, 3], or RGBA [H, W, 4] where some pixel is not opaque."""
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    if image.mode == "La":  # multiplied by alpha; Pillow divides it on the way to LA alone
        image = image.convert("LA")
    is_grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        return _srgb_with_alpha(image, is_grey=is_grey)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if is_grey else "RGB")
    transform = to_srgb(image.info.get("icc_profile"), image.mode)
    if image.mode == "CMYK" and kind == "jpeg" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, which is inverted
    if transform:
        return np.asarray(transform.apply(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # convert would copy an RGB


def _srgb_with_alpha(image: Image.Image, *, is_grey: bool) -> _Array:
    rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
    alpha = cv2.extractChannel(rgba, 3)  # a view would be read with gaps: 5 times the time (measured)
    transform = to_srgb(image.info.get("icc_profile"), "L" if is_grey else "RGB")
    if transform:
        colour = Image.fromarray(cv2.extractChannel(rgba, 0) if is_grey else _opaque(rgba))
        rgba = np.dstack([np.asarray(transform.apply(colour)), alpha])
    return rgba if np.min(alpha) < 255 else _opaque(rgba)


def _opaque(rgba: _Array) -> _Array:
    return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)


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
def to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
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
