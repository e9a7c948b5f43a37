"""JPEG by libjpeg-turbo: Pillow's own pixels and verdicts, and smaller pixels where asked for."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, JpegImagePlugin

from pfgdata.errors import ContentError
from pfgdata.images import Limits, decode

Array = npt.NDArray[np.uint8]
SIZES = [(1, 1), (1, 17), (7, 9), (16, 16), (33, 17), (100, 3), (131, 97)]


def scene(width: int, height: int) -> Image.Image:
    """Waves of every colour with grain, so that no step of the decoder goes unseen."""
    down, across = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(across / 7), np.cos(down / 5), np.sin((across + down) / 11)], axis=-1)
    grain = np.random.default_rng(width * height).normal(0, 12, waves.shape)
    return Image.fromarray((128 + 100 * waves + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "jpeg", **options)
    return out.getvalue()


def is_pillows(data: bytes) -> bool:
    """Whether our pixels of a JPEG are Pillow's, every one."""
    expected = by_pillow(data)
    return expected is not None and np.array_equal(decode(data).array, expected)


def by_pillow(data: bytes) -> Array | None:
    """What Pillow alone makes of a JPEG; None where it refuses."""
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        Limits(max_pixels=1_000_000).require(*image.size)
        return np.asarray(image.convert("RGB"))
    except Exception:
        return None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_its_pixels_are_pillows_to_the_bit(size: tuple[int, int], mode: str) -> None:
    image = scene(*size).convert(mode)
    for quality, sampling, progressive, restart in product((10, 75, 100), (0, 1, 2), (False, True), (0, 2)):
        options: dict[str, Any] = {"restart_marker_blocks": restart} if restart else {}
        if mode == "RGB":
            options["subsampling"] = sampling
        data = jpeg(image, quality=quality, progressive=progressive, **options)
        assert is_pillows(data), (quality, sampling, progressive, restart)


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_rarer_subsamplings_are_pillows_to_the_bit(sampling: str) -> None:
    data = simplejpeg.encode_jpeg(np.asarray(scene(61, 43)), 80, "RGB", sampling)
    assert is_pillows(data)


def test_a_jpeg_of_plain_rgb_is_pillows_to_the_bit() -> None:
    data = jpeg(scene(61, 43), keep_rgb=True)
    assert is_pillows(data)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("at_least", [None, 40])
def test_a_profile_is_converted_by_either_path(mode: str, at_least: int | None) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)
    smooth = Image.new("RGB", (160, 120), (200, 60, 30)).convert(mode)
    colour = decode(jpeg(smooth, quality=95, icc_profile=profile), at_least=at_least).array[5, 5]
    expected = (30, 60, 200) if mode == "RGB" else smooth.convert("RGB").getpixel((0, 0))
    assert np.abs(colour.astype(int) - expected).max() <= 4


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((640, 400), 320, (320, 200)),
        ((640, 400), 321, (640, 400)),  # never less than asked for
        ((400, 640), 100, (100, 160)),
        ((800, 336), 202, (300, 126)),  # 3/8
        ((640, 400), 1, (80, 50)),  # 1/8 is the least
        ((64, 40), 448, (64, 40)),  # never enlarged
    ],
)
def test_a_scaled_jpeg_keeps_so_much_of_its_longer_side(
    size: tuple[int, int], at_least: int, expected: tuple[int, int]
) -> None:
    image = scene(*size)
    for progressive in (False, True):
        data = jpeg(image, quality=92, progressive=progressive)
        pixels = decode(data, at_least=at_least)
        assert pixels.array.shape == (expected[1], expected[0], 3)
        assert (pixels.width, pixels.height) == size
        whole = Image.fromarray(decode(data).array)
        resized = np.asarray(whole.resize(expected, Image.Resampling.BOX), np.int16)
        assert np.abs(resized - pixels.array).mean() < 4


def test_a_jpeg_too_small_to_scale_has_its_exact_pixels() -> None:
    data = jpeg(scene(131, 97))
    assert np.array_equal(decode(data, at_least=67).array, decode(data).array)


def test_a_scaled_jpeg_stands_upright_with_its_whole_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(jpeg(scene(400, 200), exif=exif), at_least=100)
    assert (pixels.width, pixels.height) == (200, 400)
    assert pixels.array.shape == (100, 50, 3)


@pytest.mark.parametrize("format", ["png", "webp", "gif", "bmp", "tiff"])
def test_other_formats_are_never_scaled(format: str) -> None:
    out = io.BytesIO()
    scene(64, 40).save(out, format)
    assert decode(out.getvalue(), at_least=8).array.shape == (40, 64, 3)


def test_a_scaled_jpeg_is_still_judged_by_its_header() -> None:
    with pytest.raises(ContentError, match="megapixels"):
        decode(jpeg(scene(100, 100)), limits=Limits(max_pixels=9_999), at_least=10)


def test_rubbish_behind_or_between_changes_no_pixel() -> None:
    data = jpeg(scene(61, 43))
    for rubbish in (data + b"rubbish" * 9, data[:2] + b"\xff\xff" + data[2:], data[:20] + b"\0" + data[20:]):
        assert is_pillows(rubbish)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_jpeg_is_what_pillow_makes_of_it(data: st.DataObject) -> None:
    image = bytearray(
        jpeg(
            scene(40, 30), progressive=data.draw(st.booleans()), quality=data.draw(st.sampled_from([30, 95]))
        )
    )
    for _ in range(data.draw(st.integers(0, 3))):
        image[data.draw(st.integers(3, len(image) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(image[: data.draw(st.integers(len(image) // 2, len(image)))])
    expected = by_pillow(damaged)
    try:
        array = decode(damaged, limits=Limits(max_pixels=1_000_000)).array
    except ContentError:
        assert expected is None
    else:
        assert expected is not None
        with Image.open(io.BytesIO(damaged)) as opened:
            assert opened.mode == "CMYK" or np.array_equal(array, expected)
