"""The features of many rows as float32 blocks, made by several threads from the mapped float16 arrays.

OpenCV makes floats of halves in 240 ms of CPU time for 600,000 x 768, torch in 140, numpy alone in 800, where
reading those bytes takes 80 (measured). Torch takes 2 s to load: it is asked only where it is loaded already.
A block of 256 rows stays in a core's own cache until it has been used.

Shapes: N rows, F features, B rows of a block.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from pfgdata.records import Selection

__all__ = ["FeatureBlocks", "Features", "Floats", "Work"]

Floats = npt.NDArray[np.float32]
Work = Callable[
    [slice, Floats], None
]  # where the block stands among the rows as sorted, and its floats [B, F]

_ROWS = 256


class Features(Protocol):
    """Where vectors stand, shard by shard: a Snapshot's own, or those of a set (SetFeatures)."""

    feature_dim: int

    def bring_features(self, shards: Collection[str]) -> None:
        """Have the files of these shards at hand, where they lie far away."""

    def feature_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The features of all rows of one shard, float16 [N, F], mapped."""

    def features(self, selection: Selection) -> npt.NDArray[np.float16]:
        """The features of `selection` in its order, float16 [N, F]."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one map, which stand at `place` of the rows as sorted."""

    map: npt.NDArray[np.float16]
    rows: slice | npt.NDArray[np.int64]
    place: slice


class FeatureBlocks:
    """The features of `selection`, mapped. `order` int64 [N] sorts its rows by shard and row.

    The rows of `selection` are places in `features`.
    """

    def __init__(self, features: Features, selection: Selection) -> None:
        self.order = np.lexsort((selection.rows, selection.shard_index))
        self.width = features.feature_dim
        shard_index, rows = selection.shard_index[self.order], selection.rows[self.order]
        self._blocks: list[_Block] = []
        bounds = np.searchsorted(shard_index, np.arange(len(selection.shards) + 1))
        used = {selection.shards[index] for index in np.unique(shard_index)}
        features.bring_features(used)
        for index, shard in enumerate(selection.shards):
            start, stop = int(bounds[index]), int(bounds[index + 1])
            if start < stop:
                mapped = np.asarray(features.feature_map(shard))
                for first in range(start, stop, _ROWS):
                    place = slice(first, min(first + _ROWS, stop))
                    self._blocks.append(_Block(mapped, _run(rows[place]), place))

    def __len__(self) -> int:
        return len(self.order)

    def each(self, work: Work, *, threads: int | None = None) -> None:
        """Call `work` with every block, in several threads; the floats are its own until it returns."""
        count = min(threads or os.cpu_count() or 1, len(self._blocks)) or 1
        to_floats = _to_floats()

        def run(blocks: list[_Block]) -> None:
            buffer = np.empty((_ROWS, self.width), np.float32)
            for block in blocks:
                halves = np.ascontiguousarray(block.map[block.rows])
                floats = buffer[: len(halves)]
                to_floats(halves, floats)
                work(block.place, floats)

        bounds = [part * len(self._blocks) // count for part in range(count + 1)]
        parts = [self._blocks[start:stop] for start, stop in pairwise(bounds)]
        if count == 1:
            run(self._blocks)
            return
        with ThreadPoolExecutor(count) as pool:
            for done in [pool.submit(run, part) for part in parts]:
                done.result()


def _to_floats() -> Callable[[npt.NDArray[np.float16], Floats], None]:
    """What writes halves [B, F] into floats [B, F], the same numbers whoever does it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda halves, floats: cv2.add(halves, 0, dst=floats, dtype=cv2.CV_32F)  # type: ignore[call-overload]  # it takes a number
    with warnings.catch_warnings():  # of an array that cannot be written: once a process
        warnings.simplefilter("ignore")
        torch.from_numpy(np.frombuffer(bytes(2), np.float16))
    return lambda halves, floats: torch.from_numpy(floats).copy_(torch.from_numpy(halves))


def _run(rows: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """`rows`, sorted, as a slice where they follow each other: then nothing is copied.

    One stands there twice where two images of the same bytes have one vector in a set.
    """
    return slice(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else rows
