"""A balanced sample: at most so many images of each group, by chance or as far from each other as can be.

What is drawn of a group depends on the seed, the group's name and its images: not on shards, nor on the other
groups. Farthest-point sampling (Gonzalez 1985) reads a group's features once for each image that it takes.

Shapes: N images of a group, F feature width, C rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pfgdata.records import NoProgress, Progress, Selection, during, ids_as_keys
from pfgdata.store import Snapshot

__all__ = ["SampleOptions", "SampleReport", "balanced_sample"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """At most `at_most` images of a group; `spread`: the farthest from each other, else by chance."""

    at_most: int
    spread: bool = False
    seed: int = 0
    memory: int = (
        2**28
    )  # bytes of features as float32: a group of more than 87,381 is read again for each image


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleReport:
    """What was drawn: `chosen` in row order, from `images` distinct ones in `groups`; `without` have none."""

    chosen: Selection
    images: int
    groups: int
    full: int  # groups that have more images than were asked for
    without: int


def balanced_sample(
    snapshot: Snapshot,
    selection: Selection,
    groups: Sequence[object],
    options: SampleOptions,
    *,
    progress: Progress | None = None,
) -> SampleReport:
    """At most `options.at_most` distinct images of each of `groups`, one value for each row of `selection`.

    Rows whose group is None are left out. At most some twice `options.memory` is used.
    """
    first = _first_rows(selection)
    members: dict[object, list[int]] = {}
    for row in first:
        members.setdefault(groups[row], []).append(int(row))
    without = len(members.pop(None, []))
    progress, chosen = progress or NoProgress(), []
    with during(progress, "sample", total=len(first) - without, brief=False):
        for group, rows in members.items():
            taken = np.asarray(rows, np.int64)
            if len(taken) > options.at_most:
                taken = taken[_drawn(snapshot, selection.take(taken), str(group), options)]
            chosen.append(taken)
            progress.advance(len(rows))
    index = np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))
    return SampleReport(
        chosen=selection.take(index),
        images=len(first),
        groups=len(members),
        full=sum(len(rows) > options.at_most for rows in members.values()),
        without=without,
    )


def _first_rows(selection: Selection) -> Ints:
    """One row for each distinct image, in the order of their content_ids."""
    _, first = np.unique(ids_as_keys(selection.content_ids), return_index=True)
    return first.astype(np.int64)


def _drawn(snapshot: Snapshot, group: Selection, name: str, options: SampleOptions) -> Ints:
    """Which of a group's images are taken, [at_most]."""
    words = np.frombuffer(blake3(f"{options.seed} {name}".encode()).digest(), np.uint32)
    generator = np.random.default_rng(words)
    if not options.spread:
        return generator.choice(len(group), options.at_most, replace=False)
    first = int(generator.integers(len(group)))
    return _farthest(_Features(snapshot, group, options.memory), count=options.at_most, first=first)


def _farthest(group: _Features, *, count: int, first: int) -> Ints:
    """`first`, then each time the one whose nearest taken one is farthest by cosine; of equals the first."""
    nearest_N, chosen = np.full(len(group), -np.inf, np.float32), [first]
    while len(chosen) < count:
        latest_F = group.read(slice(chosen[-1], chosen[-1] + 1))[0]
        for part, features_CF in group.blocks():
            np.maximum(nearest_N[part], features_CF @ latest_F, out=nearest_N[part])
        nearest_N[chosen] = np.inf  # a taken one is not taken again
        chosen.append(int(nearest_N.argmin()))
    return np.asarray(chosen, np.int64)


class _Features:
    """The unit features of a group, block by block; kept where all fit in `memory` bytes."""

    def __init__(self, snapshot: Snapshot, group: Selection, memory: int) -> None:
        self._snapshot = snapshot
        self._group = group
        self._block = max(1, memory // (4 * snapshot.feature_dim))
        self._kept = self.read(slice(0, len(group))) if len(group) <= self._block else None

    def __len__(self) -> int:
        return len(self._group)

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Each part of the group, and its features [C, F]."""
        for start in range(0, len(self), self._block):
            part = slice(start, min(start + self._block, len(self)))
            yield part, self.read(part) if self._kept is None else self._kept

    def read(self, part: slice) -> Floats:
        """The features of a part, [C, F]."""
        rows = self._group.take(np.arange(part.start, part.stop))
        features_CF = self._snapshot.features(rows).astype(np.float32)
        length_C1 = np.linalg.norm(features_CF, axis=1, keepdims=True)
        features_CF /= np.where(length_C1 > 0, length_C1, 1)
        return features_CF
