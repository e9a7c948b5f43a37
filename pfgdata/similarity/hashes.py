"""All pairs of perceptual hashes that differ in few bits: exact at any radius.

Of two hashes within a radius r, cut into r + 1 bands, one band at least is equal: r bits cannot spoil all.
So only hashes that share a band are compared, each pair in the first band that it shares: at radius 8 one
pair in fourteen. Where bands would be too narrow to part anything, all pairs are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pfgdata.errors import QueryError

__all__ = ["BITS", "MOST_PAIRS", "Hashes", "is_flat", "pairs_within"]

BITS = 64
_NARROWEST = 4  # bits of a band
_TILE = 2**16  # pairs compared at once: their 64-bit differences (512 kB) stay in a core's cache
_WIDE = 2**9
MOST_PAIRS = 30_000_000  # 480 MB
_FLAT_BITS = 8  # of a picture that is not of one colour about 32 bits are 1: those above the median

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]


def pairs_within(hashes: Hashes, radius: int, *, most: int = MOST_PAIRS) -> Pairs:
    """The pairs of `hashes` (distinct, uint64 [N]) at most `radius` bits apart, int64 [P, 2], sorted.

    Raises QueryError where there are more than `most`.
    """
    bands = radius + 1 if BITS // (radius + 1) >= _NARROWEST else 1
    edges = np.linspace(0, BITS, bands + 1).astype(np.int64)
    masks = [_mask(int(low), int(high)) for low, high in pairwise(edges)]
    found: list[Pairs] = []
    total = 0
    for number, mask in enumerate(masks):
        for group in _groups(hashes & mask if bands > 1 else np.zeros_like(hashes)):
            for pairs in _compared(hashes, group, radius):
                differ = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
                new = np.ones(len(pairs), np.bool_)
                for earlier in masks[:number]:
                    new &= (differ & earlier) != 0
                found.append(pairs[new])
                total += int(new.sum())
                if total > most:
                    raise QueryError(
                        f"over {most:,} pairs of pictures within {radius} bits; ask with a smaller "
                        "--radius, or of fewer images (--where)"
                    )
    every = np.concatenate([np.empty((0, 2), np.int64), *found])
    return every[np.lexsort((every[:, 1], every[:, 0]))]


def is_flat(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Whether each hash is of a picture (nearly) of one colour, where it means nothing."""
    return np.bitwise_count(hashes) < _FLAT_BITS


def _mask(low: int, high: int) -> np.uint64:
    return np.uint64((1 << high) - (1 << low))


def _groups(keys: Hashes) -> Iterator[npt.NDArray[np.int64]]:
    """The places of equal keys, ascending, of each key that stands twice."""
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order])) + 1
    yield from (group for group in np.split(order, bounds) if len(group) > 1)


def _compared(hashes: Hashes, group: npt.NDArray[np.int64], radius: int) -> Iterator[Pairs]:
    """The pairs within `radius` among the hashes at `group`, tile by tile."""
    mine = hashes[group]
    width = min(len(mine), _WIDE)
    height = max(1, _TILE // width)
    differ, bits = np.empty(height * width, np.uint64), np.empty(height * width, np.uint8)
    for left in range(0, len(mine), width):
        columns = mine[left : left + width]
        for top in range(0, min(left + len(columns), len(mine)), height):
            rows = mine[top : top + height, None]
            size = len(rows) * len(columns)
            np.bitwise_xor(rows, columns, out=differ[:size].reshape(len(rows), len(columns)))
            np.bitwise_count(differ[:size], out=bits[:size])
            near = np.flatnonzero(bits[:size] <= radius)
            first, second = near // len(columns) + top, near % len(columns) + left
            once = first < second
            if once.any():
                yield np.stack([group[first[once]], group[second[once]]], axis=1)
