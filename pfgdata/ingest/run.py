"""Corpus to store: plan, stages and writer put together under the store's lock.

A stop, a crash or a kill costs at most the open shard; the same call goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from pfgdata.corpus import Segment
from pfgdata.ingest.plan import IngestOptions, Plan, make_plan
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.stages import KnownContents, run_stages
from pfgdata.ingest.writer import ShardFiller
from pfgdata.records import NoProgress, Progress
from pfgdata.store import Store, StoreWriter, merge_shards, require_same_tagger
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

    `stop` is asked after each batch: once true, what is scored is committed and the report says so.
    Raises IdentityError when the store is of another tagger or recipe, StoreLockedError when another
    process writes.
    """
    options, progress = options or IngestOptions(), progress or NoProgress()
    require_same_tagger(store.identity.tagger, tagger.identity, where=str(store.path))
    report, start = IngestReport(), time.monotonic()
    with store.writer() as writer:
        _add_roots(writer, segments)
        plan = make_plan(segments, store.snapshot(), options=options, report=report, progress=progress)
        filler = _filler(writer, tagger, options, report)
        _work(plan, segments, filler, tagger, options=options, progress=progress, stop=stop)
        if not report.interrupted:
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
    make_plan(
        segments,
        store.snapshot() if store else None,
        options=options or IngestOptions(),
        report=report,
        progress=progress or NoProgress(),
    )
    report.seconds = time.monotonic() - start
    return report


def _add_roots(writer: StoreWriter, segments: Sequence[Segment]) -> None:
    """Put roots seen for the first time on record, before any row names them."""
    known = writer.store.roots()
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
        facts={"what": "ingest", "tagger": tagger.identity.name, "batch_size": options.batch_size},
    )


def _work(
    plan: Plan,
    segments: Sequence[Segment],
    filler: ShardFiller,
    tagger: Tagger,
    *,
    options: IngestOptions,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Read, score and commit what is planned, batch by batch."""
    progress.start("tag", total=len(plan))
    threads = options.threads or os.cpu_count() or 1
    batches = run_stages(plan, segments, tagger, filler.known, batch_size=options.batch_size, threads=threads)
    with closing(batches):
        for outcomes in batches:
            for outcome in outcomes:
                filler.add(outcome)
            progress.advance(len(outcomes))
            if filler.due:
                filler.commit()
            if stop():
                filler.report.interrupted = True
                break
    filler.commit()
    progress.finish()
