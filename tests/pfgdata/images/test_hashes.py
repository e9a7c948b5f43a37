"""The perceptual hash: stable where it should be, apart where it should be."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfgdata.images import decode, perceptual_hash


@pytest.fixture(scope="module")
def pictures(mini: Path) -> list[Image.Image]:
    paths = sorted(path for path in mini.rglob("*-m000[0-3]-*") if path.suffix != ".png")
    return [Image.fromarray(decode(path.read_bytes()).array).convert("RGB") for path in paths[:24]]


def distance(one: Image.Image, other: Image.Image) -> int:
    return (perceptual_hash(np.asarray(one)) ^ perceptual_hash(np.asarray(other))).bit_count()


def again(image: Image.Image, format: str, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, format, quality=quality)
    return Image.open(out).convert("RGB")


def test_re_encoding_and_resizing_move_few_bits(pictures: list[Image.Image]) -> None:
    for image in pictures:
        assert distance(image, again(image, "jpeg", 40)) <= 8
        assert distance(image, again(image, "webp", 80)) <= 8
        assert distance(image, image.resize((image.width // 2, image.height * 2 // 3))) <= 8


def test_other_pictures_are_far_away(pictures: list[Image.Image]) -> None:
    distances = [distance(one, other) for one, other in combinations(pictures, 2)]
    assert np.percentile(distances, 5) > 16
    assert np.median(distances) > 24


def test_it_is_the_dct_hash_it_says_it_is() -> None:
    rows, columns = np.mgrid[0:32, 0:32]
    wave = np.cos(np.pi * 3 * (2 * rows + 1) / 64) * np.cos(np.pi * 5 * (2 * columns + 1) / 64)
    grey = np.repeat((128 + 100 * wave).round().astype(np.uint8)[..., None], 3, axis=2)
    value = perceptual_hash(grey)
    assert value >> 63 == 1  # the mean, first and most significant
    assert value >> (63 - (3 * 8 + 5)) & 1  # row 3, column 5


@pytest.mark.parametrize("value", [1, 77, 200, 255])
def test_an_even_area_has_the_hash_of_an_even_area(value: int) -> None:
    assert perceptual_hash(np.full((50, 70, 3), value, np.uint8)) == 1 << 63


def test_what_is_clear_counts_as_white() -> None:
    clear = np.zeros((40, 40, 4), np.uint8)
    assert perceptual_hash(clear) == perceptual_hash(np.full((40, 40, 3), 255, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 4)])
def test_any_shape_has_a_hash_of_64_bits(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    assert 0 <= perceptual_hash(noise) < 1 << 64
