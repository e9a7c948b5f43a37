"""Aspect buckets: which there are, which one an image gets, and where its crop lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pfgdata.errors import ConfigError
from pfgdata.images import BucketPolicy, bucket_sizes, crop_to_bucket, nearest_buckets

ORIGINAL = BucketPolicy(resolution=768, step=64, min_side=512, max_side=1024, max_ratio=2.0)


def test_the_derived_policy_at_768_is_the_originals() -> None:
    assert BucketPolicy.derive(768, 64) == ORIGINAL
    assert ORIGINAL.area == 589_824


def test_the_originals_buckets() -> None:
    assert bucket_sizes(ORIGINAL) == (
        (512, 1024), (576, 960), (576, 1024), (640, 896), (704, 832), (768, 768),
        (832, 704), (896, 640), (960, 576), (1024, 512), (1024, 576),
    )  # fmt: skip


@given(st.integers(1, 24), st.sampled_from([8, 16, 32, 64]))
def test_buckets_keep_their_policy(steps: int, step: int) -> None:
    policy = BucketPolicy.derive(steps * step, step)
    sizes = bucket_sizes(policy)
    assert (policy.resolution, policy.resolution) in sizes
    assert set(sizes) == {(height, width) for width, height in sizes}
    for width, height in sizes:
        assert width % step == height % step == 0
        assert width * height <= policy.area
        assert max(width, height) <= 2 * min(width, height)
        assert policy.min_side <= min(width, height) <= max(width, height) <= policy.max_side


@pytest.mark.parametrize(
    "change",
    [{"resolution": 100}, {"step": 0}, {"min_side": 800}, {"max_side": 700}, {"max_ratio": 0.9}],
)
def test_a_policy_without_buckets_is_refused(change: dict[str, int]) -> None:
    fields = {"resolution": 768, "step": 64, "min_side": 512, "max_side": 1024, "max_ratio": 2}
    with pytest.raises(ConfigError):
        BucketPolicy(**{**fields, **change})


SIDES = st.integers(1, 20_000)


def one_by_one(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> int:
    """The bucket of one image, by the same rule without numpy."""
    ratio = math.log(width / height)
    return min(range(len(sizes)), key=lambda i: round(abs(math.log(sizes[i][0] / sizes[i][1]) - ratio), 9))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1), st.sampled_from([512, 768, 1024]))
def test_the_nearest_buckets_are_nearest_by_logarithm(images: list[tuple[int, int]], resolution: int) -> None:
    sizes = bucket_sizes(BucketPolicy.derive(resolution, 64))
    widths, heights = zip(*images, strict=True)
    expected = [one_by_one(width, height, sizes) for width, height in images]
    assert nearest_buckets(widths, heights, sizes).tolist() == expected


def test_every_ratio_of_small_sides_gets_the_bucket_it_gets_alone() -> None:
    sizes = bucket_sizes(ORIGINAL)
    widths, heights = (sides.ravel() for sides in np.meshgrid(np.arange(1, 200), np.arange(1, 200)))
    expected = [one_by_one(int(w), int(h), sizes) for w, h in zip(widths, heights, strict=True)]
    assert nearest_buckets(widths, heights, sizes).tolist() == expected


def test_no_images_have_no_buckets() -> None:
    assert nearest_buckets([], [], bucket_sizes(ORIGINAL)).shape == (0,)


def test_of_two_buckets_as_near_the_first_is_taken() -> None:
    assert nearest_buckets([100], [100], [(512, 1024), (1024, 512)]) == [0]
    assert nearest_buckets([100], [100], [(1024, 512), (512, 1024)]) == [0]


def test_a_crop_is_that_of_the_whole_image_resized() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (301, 400, 3), np.uint8)
    crop, box = crop_to_bucket(noise, (128, 192))
    assert (box.resized_width, box.resized_height) == (255, 192)
    assert (box.left, box.top) == (63, 0)
    whole = Image.fromarray(noise).resize((255, 192), Image.Resampling.LANCZOS)
    expected = np.asarray(whole)[box.top : box.top + 192, box.left : box.left + 128]
    assert np.abs(crop.astype(int) - expected).max() <= 1


def test_an_image_of_a_buckets_size_is_left_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (192, 128, 3), np.uint8)
    crop, box = crop_to_bucket(noise, (128, 192))
    assert np.array_equal(crop, noise)
    assert (box.top, box.left) == (0, 0)


def test_a_crop_has_white_where_the_image_is_clear() -> None:
    assert crop_to_bucket(np.zeros((50, 60, 4), np.uint8), (64, 64))[0].min() == 255


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(64, 64), (32, 64), (64, 32)]))
def test_a_crop_is_centred_and_covers_its_bucket(width: int, height: int, bucket: tuple[int, int]) -> None:
    crop, box = crop_to_bucket(np.full((height, width, 3), 7, np.uint8), bucket)
    assert crop.shape == (bucket[1], bucket[0], 3)
    assert crop.min() == crop.max() == 7
    assert 0 <= box.resized_width - bucket[0] - 2 * box.left <= 1
    assert 0 <= box.resized_height - bucket[1] - 2 * box.top <= 1
    assert min(box.resized_width - bucket[0], box.resized_height - bucket[1]) == 0


def test_a_strip_of_one_pixel_is_cut_before_it_is_enlarged() -> None:
    crop, box = crop_to_bucket(np.full((50_000, 1, 3), 9, np.uint8), (512, 1024))
    assert crop.shape == (1024, 512, 3)
    assert box.resized_height == 25_600_000  # never made
