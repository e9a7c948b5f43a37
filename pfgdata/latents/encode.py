"""The latents themselves: read, crop to the bucket, encode in full batches, commit shard by shard.

A shard holds one bucket. What is stored is the posterior mean, unscaled, as float16.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.corpus import read_images
from pfgdata.errors import AccessError, ContentError, ImageError
from pfgdata.images import BucketPolicy, CropBox, bucket_sizes, crop_to_bucket
from pfgdata.latents.job import LatentOptions
from pfgdata.latents.plan import (
    LatentPlan,
    latent_identity,
    plan_latents,
    require_work,
)
from pfgdata.records import NoProgress, Progress, Selection, StoredImage
from pfgdata.store import (
    LATENT_FAILURES_SCHEMA,
    LATENTS_SCHEMA,
    LatentInfo,
    LatentSet,
    LatentSetWriter,
    Snapshot,
    Store,
    content_ids_of,
    installed_versions,
)
from pfgdata.vaes import Vae

__all__ = ["LatentReport", "encode_latents", "probe_image"]

_PACKAGES = ("pfg", "torch", "diffusers", "numpy", "pillow", "opencv-python-headless")  # latents follow these


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


_Crop = tuple[npt.NDArray[np.uint8], CropBox]  # an image ready for the VAE, uint8 [H, W, 3], and what was cut


def encode_latents(
    store: Store,
    vae: Vae,
    snapshot: Snapshot,
    selection: Selection,
    *,
    policy: BucketPolicy,
    options: LatentOptions | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> LatentReport:
    """Encode the images of `selection`, made from `snapshot`, that the set of (`vae`, `policy`) lacks.

    `stop` is asked after each batch; what is encoded by then is committed. Raises StoreError when the
    selection is of another snapshot, StoreLockedError when another process writes to the same set.
    """
    require_work(store, selection)
    options, progress, start = options or LatentOptions(), progress or NoProgress(), time.monotonic()
    info = LatentInfo(
        buckets=bucket_sizes(policy),
        base_name=vae.name,
        base_revision=vae.revision,
        scaling_factor=vae.scaling_factor,
        probe=_nested(vae.encode(probe_image(vae.factor)[None])[0][0]),
    )
    latent_set = store.latent_set(latent_identity(vae, policy), info)
    with latent_set.writer() as writer:
        plan = plan_latents(snapshot, selection, buckets=latent_set.info.buckets, latent_set=latent_set)
        report = _report(latent_set, plan)
        work = _Work(
            store.roots(), latent_set, vae, writer, options=options, progress=progress, report=report
        )
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


@dataclass(slots=True)
class _OpenShard:
    """What is gathered for the next shard, and the seconds it took."""

    latents: list[npt.NDArray[np.float16]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)  # to write
    named: list[tuple[str, str, str]] = field(default_factory=list)  # all failures: file, kind, reason
    since: float = field(default_factory=time.monotonic)
    waited: float = 0.0  # for images to be read, decoded and cropped
    encoded: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of latents; all of a shard have one shape."""
        return self.latents[0].nbytes * len(self.latents) if self.latents else 0

    def seconds(self) -> dict[str, float]:
        """For shard.json."""
        total = time.monotonic() - self.since
        return {"read": round(self.waited, 3), "encode": round(self.encoded, 3), "total": round(total, 3)}


class _Work:
    """One encoding under way: fills shards of one bucket after another."""

    def __init__(
        self,
        roots: Mapping[str, str],
        latent_set: LatentSet,
        vae: Vae,
        writer: LatentSetWriter,
        *,
        options: LatentOptions,
        progress: Progress,
        report: LatentReport,
    ) -> None:
        self._roots, self._set, self._vae, self._writer = roots, latent_set, vae, writer
        self._options, self._progress, self._report = options, progress, report
        self._known = _access_failures(latent_set)
        self._facts = _facts(vae, options)
        self._open = _OpenShard()

    def bucket(self, plan: LatentPlan, index: int, stop: Callable[[], bool]) -> None:
        """Encode what is missing of bucket `index` and commit it."""
        size = self._set.info.buckets[index]
        with closing(self._batches(plan, index, size)) as batches:
            asked = time.monotonic()
            for batch in batches:
                self._open.waited += time.monotonic() - asked
                self._encode(batch, size)
                self._progress.advance(len(batch))
                if self._due():
                    self._commit(size)
                if stop():
                    self._report.interrupted = True
                    break
                asked = time.monotonic()
        self._commit(size)

    def _batches(
        self, plan: LatentPlan, index: int, size: tuple[int, int]
    ) -> Generator[list[tuple[StoredImage, _Crop | ImageError]]]:
        count = self._options.batch_size
        threads = self._options.threads or os.cpu_count() or 1
        crops = read_images(
            plan.items(index),
            lambda image: crop_to_bucket(image.pixels, size),
            roots=self._roots,
            threads=threads,
            ahead=2 * count + threads,
            seconds=self._options.image_seconds,
        )
        with closing(crops):
            while batch := list(islice(crops, count)):
                yield batch

    def _encode(self, batch: list[tuple[StoredImage, _Crop | ImageError]], size: tuple[int, int]) -> None:
        """Encode a batch, padded to full size; a failed image keeps its slot."""
        pixels = np.zeros((self._options.batch_size, size[1], size[0], 3), np.uint8)
        for slot, (_, crop) in enumerate(batch):
            if not isinstance(crop, ImageError):
                pixels[slot] = crop[0]
        begun = time.monotonic()
        with np.errstate(over="ignore"):  # an infinite latent is a failure, below
            means = self._vae.encode(pixels)[0].astype(np.float16)
        self._open.encoded += time.monotonic() - begun
        for slot, (image, crop) in enumerate(batch):
            if isinstance(crop, ImageError):
                self._fail(image, crop)
            elif not np.isfinite(means[slot]).all():
                self._fail(image, ContentError("its latent is not finite in float16"))
            else:
                self._open.latents.append(means[slot])
                self._open.rows.append(_row(image, crop[1]))

    def _fail(self, image: StoredImage, problem: ImageError) -> None:
        kind, reason = problem.kind, str(problem)
        self._open.named.append((problem.file or str(image), kind, reason))
        if kind != AccessError.kind or (image.content_id, reason) not in self._known:  # else each run adds it
            self._open.failures.append({"content_id": image.content_id, "kind": kind, "reason": reason})

    def _due(self) -> bool:
        is_old = time.monotonic() - self._open.since >= self._options.shard_seconds
        return self._open.nbytes >= self._options.shard_bytes or is_old

    def _commit(self, size: tuple[int, int]) -> None:
        """Write what is open, if it is anything new, and count it."""
        shard, self._open = self._open, _OpenShard()
        if shard.rows or shard.failures:
            self._writer.commit(
                np.stack(shard.latents) if shard.latents else np.empty((0, 1, 1, 1), np.float16),
                bucket=size,
                rows=pa.Table.from_pylist(shard.rows, schema=LATENTS_SCHEMA),
                failures=pa.Table.from_pylist(shard.failures, schema=LATENT_FAILURES_SCHEMA),
                writer={**self._facts, "seconds": shard.seconds()},
            )
        if shard.rows:
            name = f"{size[0]}x{size[1]}"
            self._report.buckets[name] = self._report.buckets.get(name, 0) + len(shard.rows)
        self._report.encoded += len(shard.rows)
        self._report.failed += len(shard.named)
        self._report.failures += shard.named


def _access_failures(latent_set: LatentSet) -> set[tuple[bytes, str]]:
    """(content_id, reason) of the access failures on record."""
    table = latent_set.failures()
    table = table.filter(pc.equal(table["kind"], AccessError.kind))
    ids = content_ids_of(table["content_id"])
    return {(one.tobytes(), reason) for one, reason in zip(ids, table["reason"].to_pylist(), strict=True)}


def _facts(vae: Vae, options: LatentOptions) -> dict[str, Any]:
    """What wrote the shards of this run."""
    return {
        "what": "latents",
        "batch_size": options.batch_size,
        "device": vae.device,
        "compute_dtype": vae.compute_dtype,
        "versions": installed_versions(_PACKAGES),
    }


def _row(image: StoredImage, box: CropBox) -> dict[str, Any]:
    return {
        "content_id": image.content_id,
        "flip": False,
        "crop_top": box.top,
        "crop_left": box.left,
        "resized_width": box.resized_width,
        "resized_height": box.resized_height,
        "width": image.width,
        "height": image.height,
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
