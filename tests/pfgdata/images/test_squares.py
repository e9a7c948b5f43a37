"""The four preprocessings, to the bit, on goldens that the original implementations made.

The goldens are kept as lossless WebP, an equal one once; two inputs of kinds that occur twice were left out.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pfgdata.conventions import PREPROCESSINGS
from pfgdata.errors import ConfigError
from pfgdata.images import decode, on_white, perceptual_hash, picture_in, square

GOLDEN = Path(__file__).parents[2] / "data" / "preprocess"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text())
PAIRS = [
    (case["input"], preprocess, case[preprocess])
    for case in CASES
    for preprocess in PREPROCESSINGS
    if case[preprocess]
]


def raw_decode(path: Path, preprocess: str) -> npt.NDArray[np.uint8]:
    """What the original starts from: no EXIF turn, no ICC, 16 bits as its own library has them."""
    if preprocess == "pfg-train":  # cv2.imread, and 16 bits divided by 257
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert array is not None
        if array.dtype == np.uint16:
            array = (array / 257).astype(np.uint8)
        if array.ndim == 2:
            return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2RGB), np.uint8)
        swap = cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(array, swap), np.uint8)
    with Image.open(path) as image:
        # webui says convert("RGB"), which only drops the alpha: the preprocessing's own step.
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


@pytest.mark.parametrize(("name", "preprocess", "expected"), PAIRS)
def test_a_preprocessing_is_its_original_to_the_bit(name: str, preprocess: str, expected: str) -> None:
    ours = square(raw_decode(GOLDEN / name, preprocess), preprocess=preprocess, size=448)
    with Image.open(GOLDEN / expected) as image:
        theirs = np.asarray(image)
    assert ours.shape == (448, 448, 3)
    worst = np.abs(ours.astype(int) - theirs).max()
    assert worst == 0, f"{name} by {preprocess} is off by up to {worst} of 255"


def test_the_goldens_cover_every_preprocessing_mode_and_size() -> None:
    assert {preprocess for _, preprocess, _ in PAIRS} == set(PREPROCESSINGS)
    assert {case["mode"] for case in CASES} >= {"RGB", "RGBA", "P", "L", "LA", "I;16"}
    assert min(max(case["size"]) for case in CASES) < 448 < max(max(case["size"]) for case in CASES)


def test_the_products_decode_gives_pfg_train_its_own_16_bit_result() -> None:
    case = next(case for case in CASES if case["mode"] == "I;16")
    pixels = decode((GOLDEN / case["input"]).read_bytes())
    with Image.open(GOLDEN / case["pfg-train"]) as image:
        assert np.array_equal(square(pixels.array, preprocess="pfg-train", size=448), np.asarray(image))


def test_only_webui_shows_the_hidden_colour_of_clear_pixels() -> None:
    magenta = np.zeros((448, 448, 4), np.uint8)
    magenta[..., 0] = magenta[..., 2] = 200
    shown = {
        preprocess: square(magenta, preprocess=preprocess, size=448)[200, 200].tolist()
        for preprocess in PREPROCESSINGS
    }
    assert shown.pop("webui") == [200, 0, 200]
    assert set(map(tuple, shown.values())) == {(255, 255, 255)}


def test_pfg_train_keeps_the_colour_of_half_clear_pixels() -> None:
    half = np.full((4, 4, 4), 100, np.uint8)
    assert square(half, preprocess="pfg-train", size=4).max() == 100
    assert square(half, preprocess="kohya", size=4).min() > 100


def test_white_composition_rounds_as_pillow_does_for_every_colour_and_alpha() -> None:
    colour, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    array = np.dstack([colour, colour, colour, alpha])
    ground = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    ground.alpha_composite(Image.fromarray(array))
    assert np.array_equal(on_white(array), np.asarray(ground.convert("RGB")))


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (65, 64), (64, 64), (3, 129)])
def test_any_shape_becomes_a_square(preprocess: str, shape: tuple[int, int]) -> None:
    result = square(np.zeros((*shape, 3), np.uint8), preprocess=preprocess, size=64)
    assert result.shape == (64, 64, 3)
    assert result.dtype == np.uint8
    assert result.min() < 255  # it has not vanished


def test_a_strip_too_long_for_memory_is_shrunk_before_it_is_padded() -> None:
    strip = np.zeros((20_000, 200, 3), np.uint8)
    columns = np.flatnonzero(square(strip, preprocess="kohya", size=400).min(axis=(0, 2)) < 128)
    assert abs(len(columns) - 4) <= 1  # 200 of 20,000


def test_an_unknown_preprocessing_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="kohya"):
        square(np.zeros((4, 4, 3), np.uint8), preprocess="khoya", size=4)


@pytest.mark.parametrize("work", [perceptual_hash, partial(square, preprocess="kohya", size=64)])
def test_want_of_memory_is_a_memory_error(work: Callable[[npt.NDArray[np.uint8]], object]) -> None:
    array = np.zeros((6000, 6000, 4), np.uint8)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (40 << 20), hard))  # on white it takes 108 MB
    try:
        with pytest.raises(MemoryError):
            work(array)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("size", [(1024, 1024), (832, 1216), (1501, 700), (449, 150)])
def test_the_picture_in_a_square_is_the_picture_without_its_margin(
    preprocess: str, size: tuple[int, int], mini: Path
) -> None:
    for path in sorted(mini.rglob("*.jpg"))[:6]:
        small = Image.fromarray(on_white(decode(path.read_bytes()).array))
        array = np.asarray(small.resize(size, Image.Resampling.BICUBIC))
        part = picture_in(square(array, preprocess=preprocess, size=448), array)
        assert part.shape[1] / part.shape[0] == pytest.approx(size[0] / size[1], rel=0.02)
        assert (perceptual_hash(part) ^ perceptual_hash(array)).bit_count() <= 4
    red = np.full((size[1], size[0], 3), (255, 0, 0), np.uint8)
    assert (picture_in(square(red, preprocess=preprocess, size=448), red) == (255, 0, 0)).all()


def test_what_was_not_shrunk_is_itself_the_picture() -> None:
    array = np.zeros((200, 448, 3), np.uint8)
    assert picture_in(square(array, preprocess="kohya", size=448), array) is array
