"""Whether the shards that a fit reads are as they were written: found out by a thread while it trains.

Neither a memory map nor Parquet looks at its bytes, so a flipped one would be trained on in silence. Nothing
is saved before all are compared, so no checkpoint has learnt from a damaged shard, unless a fit was stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pfgdata.errors import RunError
from pfgdata.records import Progress
from pfgtrain.fit.data import FitData, Sets

__all__ = ["ShardCheck", "comparisons"]


def comparisons(data: FitData, sets: Sets) -> list[Callable[[], None]]:
    """For each shard that a row of `sets` stands in, what raises CorruptShardError where it is damaged."""
    rows = [sets.train.rows, *([sets.validation.rows] if sets.validation else [])]
    images = set[str]().union(*(_used(one.images.shards, one.images.shard_index) for one in rows))
    vectors = [
        (
            one.vectors,
            set[str]().union(*(_used(row.features[n].shards, row.features[n].shard) for row in rows)),
        )
        for n, one in enumerate(data.read)
        if one.source.identity is not None  # the tagger's own stand with the images
    ]
    latents = set[str]().union(*(_used(one.latent_shards, one.latent_shard) for one in rows))
    return [
        *(partial(data.snapshot.require_undamaged, shard) for shard in sorted(images)),
        *(partial(one.require_undamaged, shard) for one, used in vectors for shard in sorted(used)),
        *(partial(data.latent_set.require_undamaged, shard) for shard in sorted(latents)),
    ]


class ShardCheck:
    """Runs `comparisons` one after another in a thread of its own, while it is entered."""

    def __init__(self, comparisons: list[Callable[[], None]], progress: Progress) -> None:
        self._progress = progress
        self._count = len(comparisons)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._left: deque[Future[None]] = deque(map(self._pool.submit, comparisons))
        if self._left:
            progress.say(f"shards read: {self._count:,}; each is compared with its digest meanwhile")

    def __enter__(self) -> ShardCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(value, RunError):  # a loss that is not finite may well be a damaged shard's doing
                self.finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def look(self) -> None:
        """Raise CorruptShardError if one of the shards compared so far is damaged. Never waits."""
        while self._left and self._left[0].done():
            self._take()

    def finish(self, *, quickly: bool = False) -> None:
        """Wait until all are compared, or say `quickly` how many are not; raises as `look` does."""
        self.look()
        left = len(self._left)
        if left and quickly:
            self._progress.say(
                f"{left:,} of {self._count:,} shards were not compared yet; a resume compares all"
            )
        elif left:
            self._progress.say(f"waits until the last {left:,} of {self._count:,} shards are compared")
        while self._left and not quickly:
            self._take()

    def _take(self) -> None:
        self._left.popleft().result()
        if not self._left:
            self._progress.say(f"all {self._count:,} shards are as they were written")


def _used(shards: tuple[str, ...], index: npt.NDArray[np.int32]) -> set[str]:
    return {shards[number] for number in np.unique(index) if number >= 0}
