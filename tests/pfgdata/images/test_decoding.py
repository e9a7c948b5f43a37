"""Every kind of file the decode must get right, built here, and everything it must refuse."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from pfgdata.errors import ContentError
from pfgdata.images import Limits, decode, pixel_count
from tests.pfgdata.images.kinds import INTEGERS, Turn, exif_block, swapped_profile
from tests.pfgdata.images.tiffs import tiff

Array = npt.NDArray[np.uint8]


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Smooth, and with no symmetry: red grows to the right, blue to the bottom, green is low."""
    across, down = np.meshgrid(np.linspace(20, 230, width), np.linspace(40, 250, height))
    return Image.fromarray(np.stack([across, np.full_like(across, 60), down], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for what Pillow does not write; `rows` have their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def exif(orientation: int, *, order: str = ">") -> bytes:
    head = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def assert_close(array: Array, expected: Image.Image | Array, *, within: float = 12) -> None:
    expected = np.asarray(expected)
    assert array.shape == expected.shape
    assert np.abs(array.astype(int) - expected).max() <= within


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_a_format_is_told_by_its_content(format: str) -> None:
    options = {"quality": 95} if format in ("jpeg", "webp", "avif") else {}
    pixels = decode(encoded(picture(), format, **options))
    assert (pixels.format, pixels.frames, pixels.width, pixels.height) == (format, 1, 40, 30)
    assert pixels.array.dtype == np.uint8
    assert_close(pixels.array, picture(), within=60 if format == "gif" else 20)


def test_pixels_are_those_of_pillow_where_nothing_is_to_be_done(mini: Path) -> None:
    for path in sorted(mini.glob("*/*m000[0-2]*")):
        with Image.open(path) as image:
            image.load()
            if image.mode == "RGB" and not image.getexif().get(0x0112):
                assert np.array_equal(decode(path.read_bytes()).array, np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif"])
def test_all_eight_orientations_come_out_as_pillow_turns_them(orientation: int, format: str) -> None:
    data = encoded(picture(), format, exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        assert_close(decode(data).array, ImageOps.exif_transpose(image).convert("RGB"), within=0)


@pytest.mark.parametrize(
    "block",
    [
        exif(9),
        exif(0),
        b"Exif\0\0MM\0*" + struct.pack(">I", 1 << 30),
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535) + b"\x12",
        b"Exif\0\0",
        b"no exif at all",
    ],
)
def test_broken_exif_means_upright(block: bytes) -> None:
    data = encoded(picture(), "webp", exif=block)
    assert_close(decode(data).array, picture(), within=20)


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_no_exif_block_spoils_a_picture(block: bytes) -> None:
    assert decode(encoded(picture(), "png", exif=b"Exif\0\0MM\0*" + block)).format == "png"


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_turn_is_a_number_of_any_integer_type(kind: int, order: str) -> None:
    turn = Turn(6, kind, order)
    assert decode(encoded(picture(), "png", exif=exif_block(turn))).width == 30
    for big in {False, order == "<"}:  # Pillow reads no BigTIFF whose first byte is the highest
        data = tiff(np.asarray(picture()), turn, photometric=2, bits=8, order=order, big=big)
        assert_close(decode(data).array, picture().transpose(Image.Transpose.ROTATE_270), within=0)


def test_a_turn_of_another_type_is_none() -> None:
    block = exif(6).replace(b"\x01\x12\0\3", b"\x01\x12\0\7")
    assert decode(encoded(picture(), "png", exif=block)).width == 40


def test_little_endian_exif_is_read_too() -> None:
    assert decode(encoded(picture(), "png", exif=exif(6, order="<"))).width == 30


def test_16_bit_grey_is_divided_by_257() -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for format in ("png", "tiff"):
        array = decode(encoded(Image.fromarray(values), format)).array
        assert np.array_equal(array, np.repeat((values // 257).astype(np.uint8)[..., None], 3, axis=2))


def ramp(most: int) -> npt.NDArray[np.int64]:
    """Whole numbers from 0 to `most`, [16, 32, 1]."""
    return np.rint(np.linspace(0, most, 512)).astype(np.int64).reshape(16, 32, 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_white_is_0_is_no_negative(order: str, packed: bool) -> None:
    for bits in (1, 8, 16):
        most = 2**bits - 1
        data = [
            tiff(values, None, photometric=photometric, bits=bits, order=order, packed=packed)
            for photometric, values in enumerate((most - ramp(most), ramp(most)))
        ]
        assert np.array_equal(decode(data[0]).array, decode(data[1]).array)
        assert decode(data[0]).array[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("form", "bits"), [(2, 16), (2, 32), (3, 32)])
def test_a_tiffs_byte_order_and_packing_change_no_pixel(
    form: int, bits: int, order: str, packed: bool
) -> None:
    values = ramp(1000) / 1000 if form == 3 else ramp(30_000)
    plain = tiff(values, None, photometric=1, bits=bits, form=form)
    data = tiff(values, None, photometric=1, bits=bits, form=form, order=order, packed=packed)
    assert np.array_equal(decode(data).array, decode(plain).array)
    assert decode(data).array[-1, -1, 0] == (255 if form == 3 else 116)  # 30,000 of 65,535


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_channels_lie_apart_is_read(bits: int, order: str) -> None:
    values = np.asarray(picture(), np.int64) * (2**bits // 255)
    for planar in (False, True):
        data = tiff(values, None, photometric=2, bits=bits, order=order, planar=planar)
        assert_close(decode(data).array, picture(), within=1)
        alpha = tiff(
            np.dstack([values, values[..., 0]]),
            None,
            photometric=2,
            bits=bits,
            order=order,
            planar=planar,
            extra=(2,),
        )
        assert_close(decode(alpha).array[..., :3], picture(), within=1)


def test_12_bits_of_grey_reach_white() -> None:
    data = tiff(ramp(4095), None, photometric=1, bits=12)
    assert decode(data).array[..., 0].ravel()[[0, 255, 511]].tolist() == [0, 127, 255]


def test_a_grey_that_is_multiplied_by_its_alpha_is_divided_again() -> None:
    two = np.full((4, 4, 2), 100)
    two[..., 1] = 128
    assert decode(tiff(two, None, photometric=1, bits=8, extra=(1,))).array[0, 0].tolist() == [
        199,
        199,
        199,
        128,
    ]


def test_16_bit_colour_keeps_its_high_byte_and_its_alpha() -> None:
    samples = struct.pack(">8H", 0x8001, 0x10FF, 0xFFFF, 0x4000, 0, 0, 0, 0xFFFF)
    array = decode(png(2, 1, 16, 6, b"\0" + samples)).array
    assert array.tolist() == [[[0x80, 0x10, 0xFF, 0x40], [0, 0, 0, 0xFF]]]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key"),
    [
        (1, 0, b"\x40", b"\0\0"),  # 1-bit grey 0 1, 0 is clear
        (2, 0, b"\x70", b"\0\1"),  # 2-bit grey 1 3, 1 is clear
        (4, 0, b"\x5f", b"\0\5"),
        (8, 0, b"\x32\xff", b"\0\x32"),
        (16, 0, b"\x01\x02\xff\xff", b"\x01\x02"),
        (8, 2, b"\1\2\3\xff\xff\xff", b"\0\1\0\2\0\3"),
        (16, 2, b"\1\x11\2\x22\3\x33\xff\xff\xff\xff\xff\xff", b"\1\x11\2\x22\3\x33"),
    ],
)
def test_a_colour_that_stands_for_clear_becomes_alpha(
    depth: int, colour: int, row: bytes, key: bytes
) -> None:
    array = decode(png(2, 1, depth, colour, b"\0" + row, (b"tRNS", key))).array
    assert array[0, :, 3].tolist() == [0, 255]
    assert array[0, 1, :3].tolist() == [255, 255, 255]


def test_palette_alpha_survives() -> None:
    chunks = (b"PLTE", b"\xff\0\0\0\xff\0"), (b"tRNS", b"\x80")
    assert decode(png(2, 1, 8, 3, b"\0\0\1", *chunks)).array.tolist() == [
        [[255, 0, 0, 128], [0, 255, 0, 255]]
    ]


def test_grey_with_alpha_is_rgba() -> None:
    grey = Image.merge("LA", (Image.new("L", (4, 4), 90), Image.new("L", (4, 4), 30)))
    assert decode(encoded(grey, "png")).array[0, 0].tolist() == [90, 90, 90, 30]


def test_alpha_that_is_opaque_everywhere_is_dropped() -> None:
    assert decode(encoded(picture().convert("RGBA"), "png")).array.shape == (30, 40, 3)


def test_one_bit_is_black_and_white() -> None:
    assert decode(png(2, 1, 1, 0, b"\0\x40")).array.tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_float_greys_are_neither_clipped_to_black_nor_to_white(white: float) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, 0], ramp[15, 15] = -0.1, 1.1  # as resampling overshoots
    array = decode(encoded(Image.fromarray(ramp * np.float32(white)), "tiff")).array
    assert_close(array[..., 0], np.arange(256, dtype=np.uint8).reshape(16, 16), within=1)


def test_adobe_cmyk_and_plain_cmyk_jpegs_are_both_right_side_up() -> None:
    adobe = encoded(picture().convert("CMYK"), "jpeg", quality=95)
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 2 + int.from_bytes(adobe[at + 2 : at + 4], "big") :]
    assert_close(decode(adobe).array, picture(), within=20)
    inverse = np.asarray(Image.fromarray(255 - np.asarray(picture().convert("CMYK")), "CMYK").convert("RGB"))
    assert_close(decode(plain).array, inverse, within=20)
    assert_close(decode(encoded(picture().convert("CMYK"), "tiff")).array, picture(), within=2)


def test_an_icc_profile_is_converted_to_srgb() -> None:
    data = encoded(picture(), "png", icc_profile=swapped_profile())
    assert_close(decode(data).array, np.asarray(picture())[..., ::-1], within=3)


def test_an_icc_profile_leaves_alpha_alone() -> None:
    image = picture()
    image.putalpha(77)
    array = decode(encoded(image, "png", icc_profile=swapped_profile())).array
    assert_close(array[..., :3], np.asarray(picture())[..., ::-1], within=3)
    assert set(array[..., 3].ravel()) == {77}


def test_an_srgb_profile_changes_nothing_at_all() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_close(decode(encoded(picture(), "png", icc_profile=profile)).array, picture(), within=0)


@pytest.mark.parametrize("profile", [b"rubbish", swapped_profile()[:200]])
def test_a_broken_icc_profile_is_ignored(profile: bytes) -> None:
    assert_close(decode(encoded(picture(), "png", icc_profile=profile)).array, picture(), within=0)


def test_an_icc_profile_of_another_colour_space_is_ignored() -> None:
    data = encoded(picture().convert("L"), "png", icc_profile=swapped_profile())
    assert_close(decode(data).array, picture().convert("L").convert("RGB"), within=0)


def test_profiles_give_the_same_pixels_in_many_threads() -> None:
    data = [encoded(picture(100 + n, 80), "png", icc_profile=swapped_profile()) for n in range(8)]
    alone = [decode(one).array for one in data]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert all(map(np.array_equal, alone, pool.map(lambda one: decode(one).array, data)))


@pytest.mark.parametrize("format", ["gif", "png", "webp", "tiff"])
def test_an_animation_gives_its_first_frame_and_their_number(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options: dict[str, Any] = {"lossless": True} if format == "webp" else {}
    pixels = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert pixels.frames == 3
    assert pixels.array[5, 10].tolist() == [255, 0, 0]


def test_a_huge_picture_is_refused_by_its_header() -> None:
    with pytest.raises(ContentError, match="2,500 megapixels, over the limit of 200"):
        decode(png(50_000, 50_000, 1, 0, b""))
    with pytest.raises(ContentError, match="megapixels"):
        decode(encoded(picture(), "jpeg"), limits=Limits(max_pixels=1199))
    assert decode(encoded(picture(), "jpeg"), limits=Limits(max_pixels=1200)).width == 40


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "gif", "bmp", "avif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(format: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(ContentError):
        decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("missing", [1, 2, 3, 20, 200])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_is_refused(missing: int, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(ContentError):
        decode(encoded(Image.fromarray(noise), "jpeg", progressive=progressive)[:-missing])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML"),
        (b'{"error": "gone"}', "JSON"),
        (b'<?xml version="1.0"?><svg/>', "SVG"),
        (b"\xff\xd8\xff\xd9", "broken jpeg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "no image of a known format"),
        (bytes(range(256)), "no image of a known format"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, what: str) -> None:
    with pytest.raises(ContentError, match=what):
        decode(data)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_give_an_image_or_one_line(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["jpeg", "png", "webp", "gif", "bmp", "tiff"]))
    image = bytearray(encoded(picture(), format))
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(image), limits=Limits(max_pixels=1_000_000))
    except ContentError as error:
        assert "\n" not in str(error)


def test_the_header_says_how_many_pixels_there_are() -> None:
    for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"):
        assert pixel_count(encoded(picture(), kind)) == 1200
    huge = png(50_000, 50_000, 1, 0, b"")
    assert pixel_count(huge) == 0  # nothing of it will be decoded
    assert pixel_count(huge, limits=Limits(max_pixels=3_000_000_000)) == 2_500_000_000
    assert pixel_count(b"") == pixel_count(b"no image") == pixel_count(encoded(picture(), "png")[:20]) == 0
