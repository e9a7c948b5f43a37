"""Ranges of a plan to parts, without the store's lock: by one of many processes on any machine.

A range is done by itself, from its images alone, so it does not matter who does it or what else they did. A
stop or a kill costs at most the open part; the same call goes on from there.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.corpus import require_reachable
from pfgdata.errors import ConfigError, ContentError
from pfgdata.files import Disk, disk_at
from pfgdata.images import one_opencv_thread
from pfgdata.inference import choose_batch_size
from pfgdata.ingest.builder import Built, ShardBuilder, filled, made_by
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import Failed, KnownContents, Outcome, Scored
from pfgdata.ingest.prepare import PixelWork, Preparer
from pfgdata.ingest.ranges import RangePlan, this_version
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.spans import Covered
from pfgdata.ingest.stages import Stages
from pfgdata.ingest.tasks import Plan
from pfgdata.ingest.timing import bottleneck, estimated_seconds, stage_times
from pfgdata.paths import Url
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store import (
    PartWriter,
    Snapshot,
    Span,
    Store,
    StoreIdentity,
    adopted_spans,
    require_same_identity,
    whole_spans,
)
from pfgdata.taggers import Tagger
from pfgdata.vocabulary import Vocabulary

__all__ = [
    "PartMaker",
    "PartWork",
    "Share",
    "make_parts",
    "plan_parts",
    "require_planned",
    "write_failed",
]


@dataclass(frozen=True, slots=True)
class Share:
    """Every `count`-th range of a plan, from the `index`-th (1 is the first) on; else ConfigError."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(f"part {self.index}/{self.count}: write I/N, from 1/N to N/N")

    def numbers(self, plan: RangePlan) -> range:
        """The numbers of its ranges."""
        return range(self.index - 1, len(plan.rows), self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWork:
    """Which ranges of a plan are to be done, and the folder where parts of them go.

    What `store` has, where it can be read here, is copied; what it has adopted is done.
    """

    plan: RangePlan
    share: Share
    folder: Path
    store: Store | None = None


def make_parts(
    work: PartWork,
    tagger: Tagger,
    *,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> IngestReport:
    """Do the work; what is done already is skipped.

    The report is of the share's images; those done before are unchanged. `stop` is asked after each batch.
    Raises IdentityError for another tagger than the plan's, ConfigError for another precision or pfg.
    """
    options, progress, start = options or IngestOptions(), progress or NoProgress(), time.monotonic()
    require_planned(work.plan, tagger, work.store)
    report = IngestReport()
    todo = _todo(work, report=report, progress=progress)
    maker = PartMaker(work.plan, tagger, folder=work.folder, store=work.store, options=options)
    if todo:
        maker.require_corpus()
    maker.report = report
    total = sum(span.stop - span.start for span in todo)
    with during(progress, "tag", total=total, brief=False):
        for span in todo:
            tasks = work.plan.read(span.number)[span.start : span.stop]
            maker.make(span, tasks, progress=progress, stop=stop)
            if report.interrupted or stop():
                report.interrupted = True
                break
    report.seconds = time.monotonic() - start
    busy, workers = maker.busy, maker.workers
    report.stages = stage_times(busy, wall=report.seconds, threads=workers[0], parallel=workers[1])
    report.bottleneck = bottleneck(report.stages)
    return report


def plan_parts(work: PartWork, *, progress: Progress | None = None) -> IngestReport:
    """What `make_parts` would do: the images of the share that are not done yet are `pending`."""
    report, start = IngestReport(), time.monotonic()
    _todo(work, report=report, progress=progress or NoProgress())
    report.estimated_seconds = estimated_seconds(
        work.store.snapshot() if work.store else None, report.pending
    )
    report.seconds = time.monotonic() - start
    return report


def require_planned(plan: RangePlan, tagger: Tagger, store: Store | None) -> None:
    """Raise unless what `tagger` makes here is what the plan, and the store where it is in sight, are for."""
    ours = StoreIdentity(
        tagger=tagger.identity,
        vocabulary_digest=tagger.vocabulary.digest,
        feature_dim=tagger.feature_dim,
        score_floor=plan.identity.score_floor,
    )
    require_same_identity(plan.identity, ours, where=f"plan {plan.path}")
    if store:
        require_same_identity(store.identity, plan.identity, where=str(store.path))
    same = {"precision": (plan.precision, tagger.precision), "pfg": (plan.version, this_version())}
    for what, (theirs, here) in same.items():
        if theirs != here:
            raise ConfigError(
                f"plan {plan.path} is for {what} {theirs}, this is {here}; use the same on every machine"
            )


def _todo(work: PartWork, *, report: IngestReport, progress: Progress) -> list[Span]:
    """What no part brings yet, and no part has brought; a damaged one is named, and done again."""
    plan, store, numbers = work.plan, work.store, work.share.numbers(work.plan)
    covered, disk = Covered(), _disk_of(work.folder, store)
    for place in dict.fromkeys([work.folder, *([store.parts] if store else [])]):
        spans, damaged = whole_spans(disk, place, plan=plan.id, numbers=numbers)
        for one in spans:
            covered.add(one)
        for said in damaged:
            progress.say(f"done again: {said}")
    for one, _ in adopted_spans(store.disk, store.parts, plan=plan.id) if store else []:
        covered.add(one)
    whole = [Span(plan.id, number, 0, plan.rows[number]) for number in numbers]
    todo = [gap for span in whole for gap in covered.gaps(span)]
    report.found = sum(span.stop for span in whole)
    report.unchanged = report.found - sum(gap.stop - gap.start for gap in todo)
    return todo


class PartMaker:
    """Makes the parts of spans of a plan, one span after another.

    `report` counts what became of their images, `busy` the seconds of each stage; `workers` are the threads
    that decode and those that call the model.
    """

    def __init__(
        self,
        plan: RangePlan,
        tagger: Tagger,
        *,
        folder: Path,
        store: Store | None = None,
        options: IngestOptions | None = None,
    ) -> None:
        """As PartWork says; the tagger is `require_planned`."""
        options = options or IngestOptions()
        batch_size = options.batch_size or choose_batch_size(tagger)
        self._plan, self._tagger = plan, tagger
        self._options = plan.options_for(replace(options, batch_size=batch_size))
        self._snapshot = store.snapshot() if store else None
        self._known = KnownContents(self._snapshot)
        self._writer = PartWriter(folder, plan.identity, disk=_disk_of(folder, store))
        self._pixels = options.pixels or PixelWork.of(tagger, self._options)
        self.workers = (options.threads or os.cpu_count() or 1, tagger.parallel)
        self.report = IngestReport()
        self.busy: defaultdict[str, float] = defaultdict(float)

    def require_corpus(self) -> None:
        """Raise ConfigError where a folder of the corpus is not on this machine: all of it would fail."""
        for one in self._plan.segments:
            if isinstance(one.location, Url):
                require_reachable(one.location)
            elif not one.location.is_dir() or next(one.location.iterdir(), None) is None:
                raise ConfigError(
                    f"{one.location}: nothing is there; mount it, or say where its images are on this machine"
                    f" by --root {one.root}=FOLDER"
                )

    def make(
        self,
        span: Span,
        tasks: Plan,
        *,
        progress: Progress,
        stop: Callable[[], bool],
        made: Callable[[Span], None] = lambda span: None,
    ) -> None:
        """Do a span, the images of `tasks`; a part of each 8,192 rows or five minutes of it is `made`."""
        known = self._known.branch()  # what other ranges brought is not this one's to know
        preparer = Preparer(self._plan.segments, known, self._pixels, self._options)
        size = self._options.batch_size
        assert size is not None
        held = _Held(self._snapshot)
        stages = Stages(tasks, preparer, self._tagger, known, batch_size=size, threads=self.workers[0])
        begin = partial(
            ShardBuilder,
            self._plan.identity,
            self._tagger.vocabulary,
            rows_of=lambda contents: known.rows_of(contents, held),
            facts=made_by(self._tagger, self._options),
        )
        rows, seconds = self._options.shard_rows, self._options.shard_seconds
        with one_opencv_thread(), closing(stages):
            batches = self._watched(stages, progress=progress, stop=stop)
            for builder in filled(batches, begin, rows=rows, seconds=seconds):
                built = builder.build()
                left = self._write(span, built)
                if left.start > span.start:
                    made(span._replace(stop=left.start))
                span = left
                held.add(f"{span.start}", built)
                known.commit(f"{span.start}", built.fresh)
            self.report.abandoned += stages.abandoned
        if stages.error is not None:
            raise stages.error

    def _write(self, span: Span, built: Built) -> Span:
        """Write the part of what is built, and count it; what is left of the span."""
        counts, begun = built.counts, time.perf_counter()
        done = span.start + counts.tagged + counts.copied + counts.unchanged + counts.failed
        if done > span.start:
            facts = {"unchanged": counts.unchanged, "failed": counts.failed, "plan": dict(self._plan.found)}
            self._writer.write(span._replace(stop=done), built.contents, planned=built.planned, facts=facts)
        self.report.add(counts)
        for stage, seconds in built.seconds.items():
            self.busy[stage] += seconds
        self.busy["write"] += time.perf_counter() - begun
        return span._replace(start=done)

    def _watched(self, stages: Stages, *, progress: Progress, stop: Callable[[], bool]) -> Iterator[Scored]:
        for batch in stages:
            yield batch
            progress.advance(len(batch.outcomes))
            if not self.report.interrupted and stop():
                self.report.interrupted = True
                stages.stop()


def write_failed(
    plan: RangePlan, span: Span, tasks: Plan, *, into: PartWriter, vocabulary: Vocabulary, reason: str
) -> None:
    """Write the part that names the images of `tasks`, a span, as failures: no run tries them again."""
    builder = ShardBuilder(plan.identity, vocabulary, rows_of=_no_rows, facts={"what": "ingest"})
    failed: list[Outcome] = [Failed(task, ContentError.kind, reason) for task in tasks]
    none = np.zeros((0, len(vocabulary)), np.float32), np.zeros((0, plan.identity.feature_dim), np.float32)
    builder.add(Scored(failed, *none))
    built = builder.build()
    facts = {"unchanged": 0, "failed": built.counts.failed, "plan": dict(plan.found)}
    into.write(span, built.contents, planned=built.planned, facts=facts)


def _disk_of(folder: Path, store: Store | None) -> Disk:
    """The disk of a folder of parts: that of a store knows local folders too."""
    return store.disk if store else disk_at(folder)


def _no_rows(contents: Sequence[bytes]) -> NoReturn:
    raise AssertionError("a failure copies nothing")


class _Held:
    """Rows to copy from: those of a snapshot, and of the parts that a span has brought so far."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot
        self._parts: dict[str, Built] = {}

    def add(self, name: str, built: Built) -> None:
        """Hold on to a part."""
        self._parts[name] = built

    def require_undamaged(self, shard_id: str) -> None:
        """As Snapshot's."""
        if shard_id not in self._parts:
            self._there.require_undamaged(shard_id)

    def rows(self, shard_id: str, rows: npt.NDArray[np.int64]) -> pa.Table:
        """As Snapshot's."""
        part = self._parts.get(shard_id)
        return part.contents.images.take(pa.array(rows)) if part else self._there.rows(shard_id, rows)

    def feature_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """As Snapshot's."""
        part = self._parts.get(shard_id)
        return part.contents.features if part else self._there.feature_map(shard_id)

    @property
    def _there(self) -> Snapshot:
        assert self._snapshot is not None
        return self._snapshot
