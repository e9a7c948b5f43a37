"""The latents themselves: read, crop to the bucket, encode in full batches, commit shard by shard.

A shard holds one bucket. What is stored is the posterior mean, unscaled, as float16.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.corpus import ordered_pool, read
from pfgdata.errors import AccessError, ImageError
from pfgdata.images import BucketPolicy, CropBox, bucket_sizes, crop_to_bucket, decode
from pfgdata.latents.plan import LatentOptions, LatentPlan, Missing, latent_identity, plan_latents
from pfgdata.records import NoProgress, Progress, Selection, content_id
from pfgdata.store import (
    LATENT_FAILURES_SCHEMA,
    LATENTS_SCHEMA,
    LatentInfo,
    LatentSet,
    LatentSetWriter,
    Store,
)
from pfgdata.vaes import Vae

__all__ = ["LatentReport", "encode_latents", "probe_image"]


@dataclass(slots=True, kw_only=True)
class LatentReport:
    """What an encoding did: distinct = encoded + present + failed + pending."""

    latents_id: str
    path: str
    selected: int  # rows
    distinct: int  # contents; rows with the same bytes fall together
    present: int  # had a latent before
    encoded: int = 0
    failed: int = 0  # now, and those known from before
    buckets: dict[str, int] = field(default_factory=dict)  # "WxH" -> encoded now
    failures: list[tuple[str, str, str]] = field(default_factory=list)  # file, kind, reason
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def pending(self) -> int:
        """Contents still to encode, because the run was interrupted."""
        return self.distinct - self.present - self.encoded - self.failed

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "pending": self.pending}


@dataclass(frozen=True, slots=True)
class _Cropped:
    """An image ready for the VAE, uint8 [H, W, 3], or the reason why not."""

    item: Missing
    pixels: npt.NDArray[np.uint8] | None
    box: CropBox | None
    kind: str = ""
    reason: str = ""


def encode_latents(
    store: Store,
    vae: Vae,
    selection: Selection,
    *,
    policy: BucketPolicy,
    base_name: str,
    base_revision: str | None,
    options: LatentOptions | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> LatentReport:
    """Encode the images of `selection` that the set of (`vae`, `policy`) lacks.

    `stop` is asked after each batch; what is encoded by then is committed. Raises StoreLockedError when
    another process writes to the same set.
    """
    options, progress, start = options or LatentOptions(), progress or NoProgress(), time.monotonic()
    info = LatentInfo(
        buckets=bucket_sizes(policy),
        base_name=base_name,
        base_revision=base_revision,
        scaling_factor=vae.scaling_factor,
        probe=_nested(vae.encode(probe_image(vae.factor)[None])[0][0]),
    )
    latent_set = store.latent_set(latent_identity(vae, policy), info)
    snapshot = store.snapshot()
    with latent_set.writer() as writer:
        plan = plan_latents(snapshot, selection, buckets=latent_set.info.buckets, latent_set=latent_set)
        report = _report(latent_set, plan)
        work = _Work(store.roots(), latent_set, vae, writer, options, progress, report)
        progress.start("encode", total=plan.to_do)
        for bucket in plan.missing:
            work.bucket(plan, bucket, stop)
            if report.interrupted:
                break
        progress.finish()
    report.seconds = time.monotonic() - start
    return report


def probe_image(factor: int) -> npt.NDArray[np.uint8]:
    """The fixed image whose latent tells two VAEs apart by effect, uint8 [8 * factor, 8 * factor, 3].

    Colour ramps with a checkerboard over them: both low and high frequencies count.
    """
    side = 8 * factor
    y, x = np.mgrid[0:side, 0:side]
    ramps = np.stack([x * 255 // side, y * 255 // side, (x + y) * 255 // (2 * side)], axis=-1)
    return np.where(((x // 4 + y // 4) % 2 == 0)[..., None], ramps, 255 - ramps).astype(np.uint8)


class _Work:
    """One encoding under way: fills shards of one bucket after another."""

    def __init__(
        self,
        roots: dict[str, str],
        latent_set: LatentSet,
        vae: Vae,
        writer: LatentSetWriter,
        options: LatentOptions,
        progress: Progress,
        report: LatentReport,
    ) -> None:
        self._roots, self._set, self._vae, self._writer = roots, latent_set, vae, writer
        self._options, self._progress, self._report = options, progress, report
        self._begin()

    def _begin(self) -> None:
        self._latents: list[npt.NDArray[np.float16]] = []
        self._rows: list[dict[str, Any]] = []
        self._failures: list[dict[str, Any]] = []
        self._named: list[tuple[str, str, str]] = []
        self._since = time.monotonic()

    def bucket(self, plan: LatentPlan, index: int, stop: Callable[[], bool]) -> None:
        """Encode what is missing of bucket `index` and commit it."""
        size = self._set.info.buckets[index]
        batches = self._batches(plan, index, size)
        with closing(batches):
            for batch in batches:
                self._encode(batch, size)
                self._progress.advance(len(batch))
                if self._due():
                    self._commit(size)
                if stop():
                    self._report.interrupted = True
                    break
        self._commit(size)

    def _batches(self, plan: LatentPlan, index: int, size: tuple[int, int]) -> Generator[list[_Cropped]]:
        count = self._options.batch_size
        threads = self._options.threads or os.cpu_count() or 1
        crops = ordered_pool(
            plan.items(index),
            lambda item: _crop(item, Path(self._roots[item.key.root]), size),
            threads=threads,
            ahead=2 * count + threads,
        )
        with closing(crops):
            batch: list[_Cropped] = []
            for crop in crops:
                batch.append(crop)
                if len(batch) == count:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def _encode(self, batch: list[_Cropped], size: tuple[int, int]) -> None:
        """Encode a batch, padded to full size; a failed image keeps its slot."""
        pixels = np.zeros((self._options.batch_size, size[1], size[0], 3), np.uint8)
        for slot, crop in enumerate(batch):
            if crop.pixels is not None:
                pixels[slot] = crop.pixels
        means = self._vae.encode(pixels)[0].astype(np.float16)
        for slot, crop in enumerate(batch):
            if crop.pixels is None:
                self._fail(crop.item, crop.kind, crop.reason)
            elif not np.isfinite(means[slot]).all():
                self._fail(crop.item, "content", "its latent is not finite in float16")
            else:
                self._latents.append(means[slot])
                self._rows.append(_row(crop))

    def _fail(self, item: Missing, kind: str, reason: str) -> None:
        self._failures.append({"content_id": item.content_id, "kind": kind, "reason": reason})
        self._named.append((str(item.key), kind, reason))

    def _due(self) -> bool:
        held = sum(latent.nbytes for latent in self._latents[:1]) * len(self._latents)
        return held >= self._options.shard_bytes or (
            bool(self._rows or self._failures)
            and time.monotonic() - self._since >= self._options.shard_seconds
        )

    def _commit(self, size: tuple[int, int]) -> None:
        if self._rows or self._failures:
            self._writer.commit(
                np.stack(self._latents) if self._latents else np.empty((0, 1, 1, 1), np.float16),
                bucket=size,
                rows=pa.Table.from_pylist(self._rows, schema=LATENTS_SCHEMA),
                failures=pa.Table.from_pylist(self._failures, schema=LATENT_FAILURES_SCHEMA),
                writer={"what": "latents", "batch_size": self._options.batch_size},
            )
            name = f"{size[0]}x{size[1]}"
            self._report.buckets[name] = self._report.buckets.get(name, 0) + len(self._rows)
            self._report.encoded += len(self._rows)
            self._report.failed += len(self._failures)
            self._report.failures += self._named
        self._begin()


def _crop(item: Missing, location: Path, size: tuple[int, int]) -> _Cropped:
    try:
        data = read(location, item.key).data
        if content_id(data) != item.content_id:
            return _Cropped(item, None, None, AccessError.kind, "changed since its ingest; ingest it again")
        pixels, box = crop_to_bucket(decode(data).array, size)
        return _Cropped(item, pixels, box)
    except ImageError as problem:
        return _Cropped(item, None, None, problem.kind, str(problem))
    except MemoryError:
        return _Cropped(item, None, None, AccessError.kind, "out of memory while decoding")


def _row(crop: _Cropped) -> dict[str, Any]:
    assert crop.box is not None
    return {
        "content_id": crop.item.content_id,
        "flip": False,
        "crop_top": crop.box.top,
        "crop_left": crop.box.left,
        "resized_width": crop.box.resized_width,
        "resized_height": crop.box.resized_height,
        "width": crop.item.width,
        "height": crop.item.height,
    }


def _report(latent_set: LatentSet, plan: LatentPlan) -> LatentReport:
    return LatentReport(
        latents_id=latent_set.id,
        path=str(latent_set.path),
        selected=plan.selected,
        distinct=plan.distinct,
        present=plan.done,
        failed=plan.failed_before,
    )


def _nested(array: npt.NDArray[np.float32]) -> tuple[Any, ...]:
    return tuple(array.astype(np.float32).tolist())
