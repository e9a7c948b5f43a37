"""Which rows a step sees: global batches of one bucket each.

The order of an epoch is a function of (seed, epoch) over the sorted content_ids, so the layout of shards, the
number of processes and where a run was cut do not show. Each image is in exactly one batch of an epoch; what
a batch lacks is filled with rows of weight 0.

Shapes: N images, M batches of an epoch, B rows, F width of all features side by side, C channels stored,
h w latent sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.errors import RunError
from pfgdata.store import LatentSet
from pfgtrain.batches.rows import Rows, Vectors
from pfgtrain.objective import seed_of

__all__ = ["Batch", "Batches", "EpochPlan", "Texts", "plan_epoch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlan:
    """The batches of one epoch in the order they are trained on."""

    rows: npt.NDArray[np.int64]  # [M, B], into Rows
    weights: npt.NDArray[np.float32]  # [M, B]: 1, or 0 where a row only fills its batch

    def __len__(self) -> int:
        return len(self.rows)


def plan_epoch(bucket_N: npt.NDArray[np.int32], *, batch_size: int, seed: int, epoch: int) -> EpochPlan:
    """Shuffle the images, cut each bucket into batches, shuffle the batches."""
    random = np.random.Generator(np.random.PCG64(seed_of("order", seed, epoch)))
    order = random.permutation(len(bucket_N))
    order = order[np.argsort(bucket_N[order], kind="stable")]
    sizes = np.bincount(bucket_N)
    batches = -(-sizes // batch_size)
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its bucket
    batch = np.repeat(np.cumsum(batches) - batches, sizes) + position // batch_size
    rows = np.full((int(batches.sum()), batch_size), -1)
    rows[batch, position % batch_size] = order
    weights = (rows >= 0).astype(np.float32)
    rows = np.where(rows >= 0, rows, rows[:, :1])  # a filling row repeats the first, which is there always
    shuffle = random.permutation(len(rows))
    return EpochPlan(rows=rows[shuffle], weights=weights[shuffle])


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One process's rows of a global batch, as stored: unscaled latents, float16."""

    index: int  # of the global batch, over all epochs: what its randomness is a function of
    rows: npt.NDArray[np.int64]  # [B], into Rows
    latents: npt.NDArray[np.float16]  # [B, C, h, w]
    features: npt.NDArray[np.float16]  # [B, F]; NaN in the columns of a set that has none of the row
    weights: npt.NDArray[np.float32]  # [B]
    weight: float  # of the global batch: its real rows over all processes
    texts: list[str] | None  # [B]; None where all rows share one
    sizes: npt.NDArray[np.int64] | None = None  # [B, 6], pixels; None: not asked for
    """Height and width of the image, top and left of its crop, height and width of its bucket."""

    def part(self, part: slice) -> Batch:
        """Some of its rows."""
        return replace(
            self,
            rows=self.rows[part],
            latents=self.latents[part],
            features=self.features[part],
            weights=self.weights[part],
            texts=None if self.texts is None else self.texts[part],
            sizes=None if self.sizes is None else self.sizes[part],
        )


class Texts(Protocol):
    """Gives the texts of rows."""

    def __call__(self, numbers: npt.NDArray[np.int64], seeds: list[int] | None) -> list[str]:
        """The texts of the rows `numbers`; with a seed for each, their parts may come in another order."""


class Batches:
    """The endless sequence of global batches of a run, each `batch_size` rows over all processes."""

    def __init__(
        self,
        rows: Rows,
        *,
        features: Sequence[Vectors],
        latent_set: LatentSet,
        batch_size: int,
        seed: int,
        texts: Texts | None = None,
    ) -> None:
        if not len(rows):
            raise RunError(_nothing_to_train_on(rows, latent_set))
        self.rows = rows
        self.batch_size = batch_size
        self._seed = seed
        self._texts = texts
        self._features = [
            _Maps(places.shards, one.array_map) for places, one in zip(rows.features, features, strict=True)
        ]
        ends = np.cumsum([0, *(one.feature_dim for one in features)]).tolist()
        self.columns = [slice(*pair) for pair in itertools.pairwise(ends)]  # of each set, in a feature
        self._latents = _Maps(rows.latent_shards, latent_set.array_map)
        self._buckets = np.array(latent_set.info.buckets)  # [buckets, 2]: width, height in pixels
        self._open_crops = latent_set.crops
        self._crops: _Maps | None = None
        self._planned: tuple[int, EpochPlan] | None = None
        self.per_epoch = int((-(-np.bincount(rows.bucket) // batch_size)).sum())

    def with_sizes(self) -> Batches:
        """The same batches, each with how its images were cut; read from a shard when first needed."""
        told = copy(self)
        told._crops = _Maps(self.rows.latent_shards, self._open_crops)
        return told

    def steps(self, steps: range, *, accumulation: int, end: int, part: slice) -> Generator[list[Batch]]:
        """The batches of each optimizer step in `steps`, read one step ahead by a thread.

        Step i takes the `accumulation` global batches from i * accumulation, fewer where the run ends at
        global batch `end`; `part` are the rows of this process.
        """

        def read(step: int) -> list[Batch]:
            first = step * accumulation
            return [self.read(index, part=part) for index in range(first, min(first + accumulation, end))]

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = None
            for step in steps:
                now = ahead or pool.submit(read, step)
                ahead = pool.submit(read, step + 1) if step + 1 < steps.stop else None
                yield now.result()

    def read(self, index: int, *, part: slice) -> Batch:
        """The rows `part` of global batch `index`."""
        epoch, position = divmod(index, self.per_epoch)
        plan = self._plan(epoch)
        rows, weights = plan.rows[position], plan.weights[position]
        seeds = None
        if self._texts:
            seeds = [seed_of("caption", self._seed, index, row) for row in range(len(rows))[part]]
        return self._batch(rows[part], weights[part], index=index, weight=float(weights.sum()), seeds=seeds)

    def probe(self, rows: npt.NDArray[np.int64], *, index: int) -> Batch:
        """A batch of just these `rows`, all of one bucket; `index` is below 0, apart from trained ones."""
        return self._batch(rows, np.ones(len(rows), np.float32), index=index, weight=float(len(rows)))

    def _batch(
        self,
        rows: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float32],
        *,
        index: int,
        weight: float,
        seeds: list[int] | None = None,
    ) -> Batch:
        latents, features = self.gather(rows)
        texts = self._texts(rows, seeds) if self._texts else None
        return Batch(
            index=index,
            rows=rows,
            latents=latents,
            features=features,
            weights=weights,
            weight=weight,
            texts=texts,
            sizes=self._sizes(rows) if self._crops else None,
        )

    def _sizes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        assert self._crops is not None
        crops = self._crops.take(self.rows.latent_shard[rows], self.rows.latent_row[rows])
        top, left, _, _, width, height = crops.T
        bucket_width, bucket_height = self._buckets[self.rows.bucket[rows]].T
        return np.stack([height, width, top, left, bucket_height, bucket_width], axis=1)

    def gather(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
        """Latents [B, C, h, w] and features [B, F] of `rows`, all of one bucket, in their order."""
        mine = self.rows
        latents = self._latents.take(mine.latent_shard[rows], mine.latent_row[rows])
        return latents, self.features(rows)

    def features(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Features [B, F] of `rows`, of any buckets, in their order."""
        out = np.full((len(rows), self.columns[-1].stop), np.nan, np.float16)
        for places, maps, columns in zip(self.rows.features, self._features, self.columns, strict=True):
            maps.fill(out[:, columns], places.shard[rows], places.row[rows])
        return out

    @property
    def texts(self) -> list[str]:
        """Each row's own text, its parts in their order; none where all share one."""
        return self._texts(np.arange(len(self.rows)), None) if self._texts else []

    def images_between(self, start: int, end: int) -> int:
        """Real rows of the global batches `start` to `end`; a full epoch has each image once."""
        whole, rest = divmod(end, self.per_epoch)
        before = whole * len(self.rows) + int(self._plan(whole).weights[:rest].sum())
        return before - (self.images_between(0, start) if start else 0)

    def _plan(self, epoch: int) -> EpochPlan:
        planned = self._planned  # one read: the reading thread may set it meanwhile, to the same values
        if planned is None or planned[0] != epoch:
            plan = plan_epoch(self.rows.bucket, batch_size=self.batch_size, seed=self._seed, epoch=epoch)
            self._planned = planned = (epoch, plan)
        return planned[1]


class _Maps:
    """Arrays of many shards as one: opened when first needed, read by (shard, row)."""

    def __init__(self, shards: Sequence[str], open_map: Callable[[str], npt.NDArray[Any]]) -> None:
        self._shards = shards
        self._open = open_map
        self._maps: dict[int, npt.NDArray[Any]] = {}

    def take(self, shard: npt.NDArray[np.int32], row: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The arrays at each (shard, row)."""
        first = self._map(int(shard[0]))
        out = np.empty((len(row), *first.shape[1:]), first.dtype)
        self.fill(out, shard, row)
        return out

    def fill(self, out: npt.NDArray[Any], shard: npt.NDArray[np.int32], row: npt.NDArray[np.int64]) -> None:
        """Put the array at each (shard, row) into `out`, in order; where shard is -1, `out` stays."""
        for part in np.unique(shard):
            mine = np.flatnonzero(shard == part)
            if part >= 0:
                out[mine] = np.take(self._map(int(part)), row[mine], axis=0)

    def _map(self, shard: int) -> npt.NDArray[Any]:
        if shard not in self._maps:
            self._maps[shard] = self._open(self._shards[shard])
        return self._maps[shard]


def _nothing_to_train_on(rows: Rows, latent_set: LatentSet) -> str:
    store = latent_set.path.parent.parent
    if not rows.num_selected:
        asked = rows.images.expression
        return f"{store}: no image is selected{f' by {asked!r}' if asked else ''}; try it with pfgdata query"
    return (
        f"{store}: none of the {rows.num_distinct:,} selected images has a latent in set {latent_set.id}; "
        f"make them with: pfgdata latents {store} --base {latent_set.info.base_name}"
    )
