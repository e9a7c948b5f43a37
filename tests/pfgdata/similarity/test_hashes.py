"""Pairs of hashes within a radius: all of them, none else, at any radius."""

from __future__ import annotations

import numpy as np
import pytest

from pfgdata.errors import QueryError
from pfgdata.similarity.hashes import Hashes, is_flat, pairs_within


def some_hashes(count: int, *, seed: int = 0) -> Hashes:
    """Random hashes, a third of which are another with up to 20 bits turned."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 2**64, count, dtype=np.uint64)
    for index in range(0, count, 3):
        for bit in chance.choice(64, int(chance.integers(0, 21)), replace=False):
            hashes[index] = hashes[index - 1] ^ np.uint64(1 << int(bit)) if bit % 2 else hashes[index]
            hashes[index] ^= np.uint64(1 << int(bit))
    return np.unique(hashes)


@pytest.mark.parametrize("radius", [0, 1, 4, 8, 15, 16, 24])
def test_the_pairs_are_those_of_a_plain_comparison(radius: int) -> None:
    hashes = some_hashes(1500)
    hashes = np.unique(np.concatenate([hashes, hashes[:50] ^ np.uint64(0x8000000000000101)]))
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = np.argwhere(np.triu(bits <= radius, 1))
    found = pairs_within(hashes, radius)
    assert found.tolist() == expected.tolist()
    assert radius < 4 or len(found) >= 50


def test_no_hashes_have_no_pairs() -> None:
    for count in (0, 1):
        assert pairs_within(some_hashes(30)[:count], 8).shape == (0, 2)


def test_a_flood_of_pairs_is_one_line() -> None:
    with pytest.raises(
        QueryError, match="over 100 pairs of pictures within 8 bits; ask with a smaller --radius"
    ):
        pairs_within(np.arange(200, dtype=np.uint64), 8, most=100)


def test_a_picture_of_one_colour_is_flat() -> None:
    from pfgdata.images import perceptual_hash

    even = [np.full((200, 300, 3), value, np.uint8) for value in (0, 7, 128, 255)]
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    hashes = np.array([perceptual_hash(array) for array in (*even, noise)], np.uint64)
    assert is_flat(hashes).tolist() == [True] * 4 + [False]
