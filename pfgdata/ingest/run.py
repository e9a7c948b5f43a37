"""Corpus to store: plan, stages and writer put together under the store's lock.

A stop, a crash or a kill costs at most the open shard; the same call goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pfgdata.corpus import Segment
from pfgdata.errors import IdentityError, StoreError
from pfgdata.images import one_opencv_thread
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import KnownContents
from pfgdata.ingest.plan import Plan, make_plan
from pfgdata.ingest.prepare import PixelWork, Preparer
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.stages import Stages
from pfgdata.ingest.timing import bottleneck, estimated_seconds, stage_times
from pfgdata.ingest.writer import ShardFiller
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
    options, progress = options or IngestOptions(), progress or NoProgress()
    _require_same(store, tagger)
    options = replace(options, batch_size=options.batch_size or choose_batch_size(tagger))
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
        filler = _filler(writer, tagger, options, report)
        if not report.interrupted:
            known, pixels = filler.known, options.pixels or PixelWork.of(tagger, options)
            preparer = Preparer(segments, known, pixels, options)
            _work(plan, preparer, filler, tagger, options=options, progress=progress, stop=stop)
        merge_shards(writer, filler.committed, rows=options.shard_rows)
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


def _filler(writer: StoreWriter, tagger: Tagger, options: IngestOptions, report: IngestReport) -> ShardFiller:
    return ShardFiller(
        writer,
        KnownContents(writer.store.snapshot()),
        report,
        rows=options.shard_rows,
        seconds=options.shard_seconds,
        facts={
            "what": "ingest",
            "tagger": tagger.identity.name,
            "provider": tagger.provider,
            "precision": tagger.precision,
            "decode": options.decode,
            "batch_size": options.batch_size,
            "versions": installed_versions(_PACKAGES),
        },
    )


def _work(
    plan: Plan,
    preparer: Preparer,
    filler: ShardFiller,
    tagger: Tagger,
    *,
    options: IngestOptions,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Read, score and commit what is planned, batch by batch."""
    assert options.batch_size is not None
    progress.start("tag", total=len(plan))
    report, start, threads = filler.report, time.monotonic(), options.threads or os.cpu_count() or 1
    stages = Stages(plan, preparer, tagger, filler.known, batch_size=options.batch_size, threads=threads)
    with closing(filler), closing(stages):
        for batch in stages:
            filler.add(batch)
            progress.advance(len(batch.outcomes))
            if not report.interrupted and stop():
                report.interrupted = True
                stages.stop()
        filler.finish()
    progress.finish()
    wall = time.monotonic() - start
    report.stages = stage_times(filler.busy, wall=wall, threads=threads, parallel=tagger.parallel)
    report.bottleneck, report.abandoned = bottleneck(report.stages), stages.abandoned
    if stages.error is not None:
        raise stages.error
