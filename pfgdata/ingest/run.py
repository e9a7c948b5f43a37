"""Corpus to store: plan, stages, builders and committer put together under the store's lock.

A stop, a crash or a kill costs at most the open shard; the same call goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.corpus import Segment
from pfgdata.errors import IdentityError, StoreError
from pfgdata.images import one_opencv_thread
from pfgdata.ingest.builder import ShardBuilder, filled
from pfgdata.ingest.committer import Committer
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import KnownContents, Scored
from pfgdata.ingest.plan import make_plan
from pfgdata.ingest.prepare import PixelWork, Preparer
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.stages import Stages
from pfgdata.ingest.timing import bottleneck, estimated_seconds, stage_times
from pfgdata.records import NoProgress, Progress
from pfgdata.store import (
    ShardContents,
    Store,
    StoreWriter,
    installed_versions,
    merge_shards,
    require_same_tagger,
)
from pfgdata.taggers import Tagger, choose_batch_size

__all__ = ["ingest", "plan_ingest"]

_PACKAGES = (  # what decides pixels and scores
    "pfg",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "h5py",
)


def ingest(
    segments: Sequence[Segment],
    store: Store,
    tagger: Tagger,
    *,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> IngestReport:
    """Bring every image of `segments` into `store`; done work is skipped, so a rerun goes on.

    `stop` is asked after each batch: once true, no other is begun, what is scored is committed and the
    report says so. Raises IdentityError when the store is of another tagger or preprocessing,
    StoreLockedError when another process writes (where it waits for that one, KeyboardInterrupt on a stop);
    PfgError, with what was done before committed, when the machine has run out of open files or memory.
    """
    options = options or IngestOptions()
    progress = progress or NoProgress()
    _require_same(store, tagger)
    batch_size = options.batch_size or choose_batch_size(tagger)
    options = replace(options, batch_size=batch_size)
    segments = [_without_store(segment, store.path) for segment in segments]
    report, start = IngestReport(), time.monotonic()
    with store.writer(wait=options.wait, progress=progress, stop=stop) as writer, one_opencv_thread():
        _add_roots(writer, segments)
        plan = make_plan(
            segments, store.snapshot(), options=options, report=report, progress=progress, stop=stop
        )
        if plan.stale:
            width = store.identity.feature_dim
            writer.commit(ShardContents.hiding(plan.stale, feature_dim=width, what="archives listed again"))
        committer = Committer(writer, KnownContents(store.snapshot()), report)
        if not report.interrupted:
            known, pixels = committer.known, options.pixels or PixelWork.of(tagger, options)
            begin = builders(store, tagger, known, options=options)
            progress.start("tag", total=len(plan))
            preparer = Preparer(segments, known, pixels, options)
            threads = options.threads or os.cpu_count() or 1
            stages = Stages(plan, preparer, tagger, known, batch_size=batch_size, threads=threads)
            _work(stages, committer, begin, options=options, progress=progress, stop=stop)
        merge_shards(writer, committer.committed, rows=options.shard_rows)
        report.shards = len(store.snapshot().shards)
    report.seconds = time.monotonic() - start
    return report


def plan_ingest(
    segments: Sequence[Segment],
    store: Store | None,
    *,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """What `ingest` would find: the images it would read are `pending`. Writes and locks nothing."""
    report, start = IngestReport(), time.monotonic()
    snapshot = store.snapshot() if store else None
    if store and snapshot:
        segments = [_without_store(segment, store.path) for segment in segments]
        report.shards = len(snapshot.shards)
    make_plan(
        segments,
        snapshot,
        options=options or IngestOptions(),
        report=report,
        progress=progress or NoProgress(),
    )
    report.estimated_seconds = estimated_seconds(snapshot, report.pending)
    report.seconds = time.monotonic() - start
    return report


def _require_same(store: Store, tagger: Tagger) -> None:
    """Raise IdentityError unless the tagger's scores and features mean what the store's do."""
    require_same_tagger(store.identity.tagger, tagger.identity, where=str(store.path))
    ours = (tagger.vocabulary.digest, tagger.feature_dim)
    if ours != (store.identity.vocabulary_digest, store.identity.feature_dim):
        raise IdentityError(
            f"{store.path} is of another vocabulary or feature width than tagger {tagger.identity.name} has; "
            "restore the selected_tags.csv it was made with, or use another store"
        )


def _without_store(segment: Segment, store: Path) -> Segment:
    """The segment without the store itself, which may lie inside the corpus."""
    place, root = os.path.realpath(store), os.path.realpath(segment.location)
    if not place.startswith(f"{root.rstrip('/')}/"):
        return segment
    return replace(segment, exclude=segment.exclude | {os.fsencode(os.path.relpath(place, root))})


def _add_roots(writer: StoreWriter, segments: Sequence[Segment]) -> None:
    """Put roots seen for the first time on record, before any row names them.

    Raises StoreError where another ingest has added roots since the segments were planned: the longest known
    root names a row, so these segments would give images a second key.
    """
    known, ours = writer.store.roots(), {segment.root for segment in segments}
    for root, place in known.items():
        for segment in segments:
            base = f"{str(segment.location).rstrip('/')}/"
            inside = root not in ours and place.startswith(base)
            outside = segment.root not in known and base.startswith(f"{place.rstrip('/')}/")
            if outside or (inside and os.fsencode(place[len(base) :]) not in segment.exclude):
                raise StoreError(f"{writer.store.path}: root {root} was added meanwhile; run the same again")
    fresh = {segment.root: str(segment.location) for segment in segments if segment.root not in known}
    if fresh:
        writer.set_roots({**known, **fresh})


def builders(
    store: Store, tagger: Tagger, known: KnownContents, *, options: IngestOptions
) -> Callable[[], ShardBuilder]:
    """What begins a shard of `tagger` for `store`; what it copies are rows that `known` has committed."""
    facts = {
        "what": "ingest",
        "tagger": tagger.identity.name,
        "provider": tagger.provider,
        "precision": tagger.precision,
        "decode": options.decode,
        "batch_size": options.batch_size,
        "versions": installed_versions(_PACKAGES),
    }

    def rows_of(contents: Sequence[bytes]) -> tuple[pa.Table, npt.NDArray[np.float16]]:
        return known.rows_of(contents, store.snapshot())

    return partial(ShardBuilder, store.identity, store.vocabulary, rows_of=rows_of, facts=facts)


def _work(
    stages: Stages,
    committer: Committer,
    begin: Callable[[], ShardBuilder],
    *,
    options: IngestOptions,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Read, score and commit what is planned, batch by batch."""
    report, start = committer.report, time.monotonic()
    with closing(committer), closing(stages):
        batches = _watched(stages, committer, progress=progress, stop=stop)
        for builder in filled(batches, begin, rows=options.shard_rows, seconds=options.shard_seconds):
            committer.commit(builder.build)
        committer.settle()
    progress.finish()
    wall = time.monotonic() - start
    report.stages = stage_times(committer.busy, wall=wall, threads=stages.threads, parallel=stages.parallel)
    report.bottleneck = bottleneck(report.stages)
    report.abandoned = stages.abandoned
    if stages.error is not None:
        raise stages.error


def _watched(
    stages: Stages, committer: Committer, *, progress: Progress, stop: Callable[[], bool]
) -> Iterator[Scored]:
    """The batches of `stages`; once one is dealt with, it counts as progress and `stop` is asked."""
    report = committer.report
    for batch in stages:
        yield batch
        committer.check()
        progress.advance(len(batch.outcomes))
        if not report.interrupted and stop():
            report.interrupted = True
            stages.stop()
