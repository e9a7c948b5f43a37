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

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.corpus import Segment
from pfgdata.images import one_opencv_thread
from pfgdata.inference import choose_batch_size
from pfgdata.ingest.begin import plan_for, require_fit, without_store
from pfgdata.ingest.builder import ShardBuilder, filled, made_by
from pfgdata.ingest.committer import Committer, finish
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import KnownContents, Scored
from pfgdata.ingest.plan import Planning, plan_batches
from pfgdata.ingest.prepare import PixelWork, Preparer
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.stages import Stages
from pfgdata.ingest.timing import bottleneck, estimated_seconds, stage_times
from pfgdata.ingest.waiting import Waiting
from pfgdata.records import NoProgress, Progress
from pfgdata.store import Store
from pfgdata.taggers import Tagger

__all__ = ["ingest", "plan_ingest"]


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
    require_fit(store, tagger)
    batch_size = options.batch_size or choose_batch_size(tagger)
    options = replace(options, batch_size=batch_size)
    segments = [without_store(segment, store.path) for segment in segments]
    report, start = IngestReport(), time.monotonic()
    with (
        store.writer(wait=options.wait, progress=progress, stop=stop) as writer,
        one_opencv_thread(),
        closing(Waiting(store.disk, store.path)) as tasks,
    ):
        for batch in plan_for(writer, segments, options=options, report=report, progress=progress, stop=stop):
            tasks.add(batch)
        committer = Committer(writer, KnownContents(store.snapshot()), report)
        if not report.interrupted:
            known, pixels = committer.known, options.pixels or PixelWork.of(tagger, options)
            begin = builders(store, tagger, known, options=options)
            progress.start("tag", total=len(tasks))
            preparer = Preparer(segments, known, pixels, options)
            threads = options.threads or os.cpu_count() or 1
            stages = Stages(tasks, preparer, tagger, known, batch_size=batch_size, threads=threads)
            _work(stages, committer, begin, options=options, progress=progress, stop=stop)
        finish(writer, committer.committed, report, rows=options.shard_rows, progress=progress)
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
        segments = [without_store(segment, store.path) for segment in segments]
        report.shards = len(snapshot.shards)
    planning = Planning(options or IngestOptions(), report, [])
    for _ in plan_batches(segments, snapshot, planning, progress=progress or NoProgress()):
        pass  # only the counts are wanted
    report.estimated_seconds = estimated_seconds(snapshot, report.pending)
    report.seconds = time.monotonic() - start
    return report


def builders(
    store: Store, tagger: Tagger, known: KnownContents, *, options: IngestOptions
) -> Callable[[], ShardBuilder]:
    """What begins a shard of `tagger` for `store`; what it copies are rows that `known` has committed."""

    def rows_of(contents: Sequence[bytes]) -> tuple[pa.Table, npt.NDArray[np.float16]]:
        return known.rows_of(contents, store.snapshot())

    facts = made_by(tagger, options)
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
