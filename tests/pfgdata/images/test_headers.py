"""What a file says about itself: frames counted without a decode, extras that may not spoil or exhaust."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pfgdata.errors import ContentError
from pfgdata.images import Limits, decode, pixel_count

COLOURS = ("red", "lime", "blue", "white", "black")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def animation(count: int, format: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (20, 10), COLOURS[n % 5]) for n in range(count)]
    return saved(frames[0], format, save_all=True, append_images=frames[1:], **options)


def with_chunk(data: bytes, kind: bytes, body: bytes, *, flaw: int = 0) -> bytes:
    """A PNG with one more chunk behind its header; a `flaw` spoils the checksum."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ flaw)
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize(
    "options", [{}, {"comment": b"x" * 700}, {"interlace": True}, {"loop": 0, "duration": 40, "disposal": 2}]
)
def test_a_gifs_frames_are_counted_as_pillow_counts_them(count: int, options: dict[str, Any]) -> None:
    data = animation(count, "gif", **options)
    with Image.open(io.BytesIO(data)) as image:
        assert decode(data).frames == image.n_frames == count  # type: ignore[attr-defined]


def test_a_gif_of_5000_frames_gives_its_first() -> None:
    one = saved(Image.new("RGB", (32, 32), "red"), "gif")
    frame = one[one.index(b",", 13) : -1]
    pixels = decode(one[:-1] + frame * 4999 + b";")
    assert pixels.frames == 5000
    assert pixels.array[0, 0].tolist() == [255, 0, 0]


def test_counting_ends_in_a_gif_made_of_nothing_but_blocks() -> None:
    one = saved(Image.new("RGB", (4, 4), "red"), "gif")
    frame = one[one.index(b",", 13) : -1]
    endless = one[:-1] + b"!\xfe" + b"\1x" * 1_100_000 + b"\0" + frame + b";"
    assert decode(endless).frames == 1


def test_a_gif_is_judged_by_its_screen_not_its_frame() -> None:
    data = bytearray(saved(Image.new("RGB", (8, 8)), "gif"))
    data[6:10] = b"\xff" * 4
    with pytest.raises(ContentError, match="65535 x 65535"):
        decode(bytes(data))


@pytest.mark.parametrize("big_tiff", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_tiffs_pages_are_counted(big_tiff: bool, count: int) -> None:
    assert decode(animation(count, "tiff", big_tiff=big_tiff)).frames == count


def test_a_tiff_whose_pages_run_in_a_circle_ends() -> None:
    data = bytearray(saved(Image.new("RGB", (20, 10), "red"), "tiff"))
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * entries, at)
    assert decode(bytes(data)).frames == 1


def test_a_tiff_that_lacks_its_last_pages_is_refused() -> None:
    data = bytearray(saved(Image.new("RGB", (20, 10), "red"), "tiff"))
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * entries, len(data) + 9)
    with pytest.raises(ContentError, match="leads out of the file"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000))),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(20_000_000))),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(20_000_000))),
    ],
)
def test_a_text_or_profile_that_inflates_without_end_is_left_out(kind: bytes, body: bytes) -> None:
    data = with_chunk(saved(Image.new("RGB", (20, 10), (9, 8, 7)), "png"), kind, body)
    assert decode(data).array[0, 0].tolist() == [9, 8, 7]


def test_a_bomb_beside_a_profile_costs_only_itself() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)
    data = saved(Image.new("RGB", (20, 10), (200, 60, 30)), "png", icc_profile=profile)
    bomb = with_chunk(data, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000)))
    assert np.array_equal(decode(bomb).array, decode(data).array)
    assert decode(data).array[0, 0, 2] > 190


def test_an_extra_with_a_wrong_checksum_spoils_nothing() -> None:
    data = saved(Image.new("RGB", (20, 10), (9, 8, 7)), "png")
    assert decode(with_chunk(data, b"tEXt", b"Comment\0text", flaw=1)).array[0, 0].tolist() == [9, 8, 7]


def test_many_texts_do_not_cost_a_png_its_picture() -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(80):
        info.add_text(f"key{number}", "x" * 1_000_000, zip=True)  # Pillow gives up at 64 MB of text
    assert decode(saved(Image.new("RGB", (20, 10), "red"), "png", pnginfo=info)).width == 20


def test_broken_pixels_stay_broken_whatever_is_left_out() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = bytearray(with_chunk(saved(Image.fromarray(noise), "png"), b"tEXt", b"Comment\0text"))
    data[len(data) // 2] ^= 255
    with pytest.raises(ContentError, match="broken png"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "module", "package"),
    [
        (b"\xff\x0a" + bytes(20), "pillow_jxl", "pillow-jxl-plugin"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", "pillow-heif"),
    ],
)
def test_a_format_of_an_added_package_names_it_where_it_is_missing(
    data: bytes, module: str, package: str
) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"  # as if it were not installed
        f"from pfgdata.images import decode\ndecode({data!r})"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"pip install {package}, then --retry-failed" in ended.stderr


@pytest.mark.parametrize("size", [(40, 30), (256, 128), (1000, 10), (64, 64), (1, 700), (48, 40)])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_jpeg_xl_is_decoded_and_judged_by_its_header(size: tuple[int, int], lossless: bool) -> None:
    import pillow_jxl  # noqa: F401  (registers what `saved` needs)

    image = Image.new("RGB", size, (200, 60, 30))
    data = saved(image, "jxl", lossless=lossless)
    pixels = decode(data)
    assert (pixels.width, pixels.height, pixels.format) == (*size, "jxl")
    assert pixel_count(data) == size[0] * size[1]
    assert np.abs(pixels.array[0, 0].astype(int) - (200, 60, 30)).max() < 9
    with pytest.raises(ContentError, match=f"{size[0]} x {size[1]} is"):
        decode(data, limits=Limits(max_pixels=size[0] * size[1] - 1))


# Three pictures of 20 x 10, red, lime and blue, by cjxl 0.7, lossless.
ANIMATED_JXL = bytes.fromhex(
    "ff0a4870c100028a4b020802920900005c004b188b1500d48c3118c70b4400f0492423e30f40dc8f0608029209000050"
    "004b188b15805db0ff021100086d570060d2faf703080292050044004b188b15805dd8ff021100008f7ea3f803"
)


def test_of_an_animated_jpeg_xl_no_picture_is_given_for_the_first() -> None:
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 8 + len(ANIMATED_JXL), b"jxlc") + ANIMATED_JXL
    for data in (ANIMATED_JXL, boxes):
        assert pixel_count(data) == 200
        with pytest.raises(ContentError, match="animated JPEG XL"):
            decode(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_within_a_jpeg_xl_is_turned_as_the_file_says(orientation: int) -> None:
    import pillow_jxl

    make: Any = pillow_jxl.Encoder  # its annotations lack the mode
    image = Image.merge("RGB", [Image.linear_gradient("L").resize((40, 30))] * 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = saved(image, "jpeg", exif=exif)
    packed = decode(bytes(make(mode="RGB", lossless=True)(jpeg, 40, 30, jpeg_encode=True)))
    assert packed.format == "jxl"
    assert np.array_equal(packed.array, decode(jpeg).array)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif", "jxl"])
def test_a_file_that_says_nothing_of_itself_is_a_picture(format: str, mode: str) -> None:
    import pillow_heif
    import pillow_jxl  # noqa: F401  (registers what `saved` needs)

    pillow_heif.register_heif_opener()
    image = Image.new("L", (64, 48), 90).convert(mode.removesuffix("A") if format == "jpeg" else mode)
    pixels = decode(saved(image, format))
    assert (pixels.array.shape, pixels.width, pixels.height, pixels.frames) == ((48, 64, 3), 64, 48, 1)
    assert abs(int(pixels.array[0, 0, 0]) - 90) < 9


def test_a_heic_is_decoded_and_exif_turns_it_no_second_time() -> None:
    import pillow_heif  # turns by the file's own box, the only one that counts there

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(saved(Image.new("RGB", (64, 48), (200, 60, 30)), "heif", exif=exif))
    assert (pixels.width, pixels.height, pixels.format, pixels.frames) == (64, 48, "heic", 1)
