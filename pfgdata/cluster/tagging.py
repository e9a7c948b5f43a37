"""An ingest by many workers: they make parts of a plan; the driver holds the store's lock and adopts them.

A worker that sees the store writes its parts there, and copies what contents the store has; from another one
they come as bytes.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pfgdata.cluster.driving import Driver, Engine, WorkerRate
from pfgdata.cluster.host import Data, Desk, Seat
from pfgdata.cluster.queue import Queue
from pfgdata.corpus import Segment
from pfgdata.errors import ClusterError, ConfigError, PlaceError
from pfgdata.ingest import (
    Adopter,
    AdoptReport,
    IngestJob,
    IngestReport,
    PartMaker,
    Plan,
    PlanOut,
    RangePlan,
    adopt_waiting,
    bottleneck,
    cut,
    finish,
    open_or_none,
    plan_bytes,
    plan_from,
    plan_ranges,
    require_fit,
    require_planned,
    stage_times,
    tagger_for,
    write_failed,
)
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store import (
    Part,
    PartWriter,
    Span,
    Store,
    StoreWriter,
    announce_plan,
    is_announced,
    withdraw_plan,
)
from pfgdata.taggers import Tagger

__all__ = ["ClusterIngest", "ClusterReport", "TaggingSpec", "wants_gpu"]

_SHARES = 8  # spans for each worker at least: the last to end keeps the others waiting for one
_SHORTEST = 16  # images of a span, where no batch size is asked for: the last batch of each is padded
_KILLS = "each worker that was given it died"


@dataclass(slots=True, kw_only=True)
class ClusterReport(AdoptReport):
    """As an ingest's, and what each worker did."""

    workers: dict[str, WorkerRate] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        rates = {name: rate.as_dict() for name, rate in self.workers.items()}
        return {**IngestReport.as_dict(self), "workers": rates}


@dataclass(frozen=True, slots=True)
class ClusterIngest:
    """An ingest of `job` by the workers of an engine."""

    engine: Engine
    job: IngestJob

    def run(
        self,
        segments: Sequence[Segment],
        store: Store,
        tagger: Tagger,
        *,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> ClusterReport:
        """As `ingest`; `tagger` only says what the workers are to load.

        The store's lock is held throughout, as by an ingest; parts that an earlier run left are taken first.
        What is adopted stays, whatever ends the run. Raises ClusterError where there is no cluster, or no
        worker.
        """
        progress, start = progress or NoProgress(), time.monotonic()
        require_fit(store, tagger)
        report = ClusterReport()
        with (
            store.writer(wait=self.job.wait, progress=progress, stop=stop) as writer,
            tempfile.TemporaryDirectory(prefix="pfg-plan-") as folder,
        ):
            before, waiting = adopt_waiting(writer, progress=progress, stop=stop)
            report.refused += before.refused
            plan, found = plan_ranges(
                writer,
                segments,
                self.job,
                out=PlanOut(folder=Path(folder) / "plan"),
                progress=progress,
                stop=stop,
            )
            for name in (
                "found",
                "ignored",
                "links",
                "unchanged",
                "failed",
                "gone",
                "unreadable",
                "interrupted",
            ):
                setattr(report, name, getattr(found, name))
            adopter = waiting.go_on(report) if waiting else Adopter(writer, report)
            if plan is not None and plan.rows:
                tagging = _Tagging(plan, writer, adopter, tagger=tagger, report=report)
                tagging.run(self.engine, self.job, progress=progress, stop=stop)
            finish(writer, adopter.committed, report, rows=self.job.shard_rows, progress=progress)
        report.seconds = time.monotonic() - start
        return report


class _Tagging:
    """The driver's side: a plan, and the adopter of its parts."""

    def __init__(
        self, plan: RangePlan, writer: StoreWriter, adopter: Adopter, *, tagger: Tagger, report: ClusterReport
    ) -> None:
        self._plan, self._adopter, self._report = plan, adopter, report
        self._vocabulary, self._identity = tagger.vocabulary, tagger.identity
        self._disk, self._folder = writer.store.disk, writer.store.parts
        self._parts = PartWriter(self._folder, plan.identity, disk=self._disk)
        self._range: tuple[int, Plan] | None = None  # the one read last
        self._busy: Counter[str] = Counter()
        self._threads: dict[str, tuple[int, int]] = {}

    def run(self, engine: Engine, job: IngestJob, *, progress: Progress, stop: Callable[[], bool]) -> None:
        """Have the plan done."""
        start, spec = time.monotonic(), self._spec(job)
        gpu = wants_gpu(job.device)
        with self._announced(), engine.crew(spec, gpu=gpu, progress=progress) as crew:
            spans = self._spans(crew.places, job.batch_size)
            driver = Driver(crew, self, Queue(spans, now=time.monotonic()), progress)
            with during(progress, "tag", total=sum(self._plan.rows), brief=False):
                driver.run(stop)
        report, wall = self._report, time.monotonic() - start
        report.interrupted |= driver.interrupted
        report.workers = dict(sorted(driver.rates.items()))
        threads = [sum(each) for each in zip(*self._threads.values(), strict=True)] or [1, 1]
        report.stages = stage_times(self._busy, wall=wall, threads=threads[0], parallel=threads[1])
        report.bottleneck = bottleneck(report.stages)

    def payload(self, span: Span) -> bytes:
        """The tasks of a span, as an Arrow IPC file: a pickled slice would send the whole table's buffers."""
        if self._range is None or self._range[0] != span.number:
            self._range = span.number, self._plan.read(span.number)
        return plan_bytes(self._range[1][span.start : span.stop])

    def check(self, span: Span, data: Data | None) -> Span | None:
        """The span of the part that lies in the store now."""
        path = self._folder / span.name if data is None else self._parts.receive(span.name, data)
        try:
            part = Part.read(self._disk, path)
            part.require_whole()
        except FileNotFoundError:
            return None
        return part.span

    def take(self, span: Span, fresh: Sequence[Span], data: Data | None) -> None:
        """Adopt the part; what of it is there already it leaves out."""
        self._adopt(span)

    def fail(self, span: Span) -> None:
        """Commit a failure for the image."""
        tasks = self._plan.read(span.number)[span.start : span.stop]
        write_failed(self._plan, span, tasks, into=self._parts, vocabulary=self._vocabulary, reason=_KILLS)
        self._adopt(span)

    def told(self, worker: str, facts: Mapping[str, Any]) -> None:
        """Add up how busy its stages were."""
        self._busy.update(facts.get("busy", {}))
        self._report.abandoned += facts.get("abandoned", 0)
        if "threads" in facts:
            self._threads[worker] = facts["threads"]

    def _adopt(self, span: Span) -> None:
        try:
            part = Part.read(self._disk, self._folder / span.name)
        except FileNotFoundError:  # being made again: it comes again
            return
        self._report.parts += 1
        self._adopter.take(part)

    def _spec(self, job: IngestJob) -> TaggingSpec:
        own = self._identity.name
        named = None if own == self._plan.identity.tagger.name else own
        job = replace(job, tagger=named, convention=None, preprocess=None, wait=False)
        return TaggingSpec(plan=replace(self._plan, rows=(), digests=()), job=job)

    def _spans(self, workers: int, batch_size: int | None) -> list[Span]:
        """The ranges of the plan; pieces of them where there are few for so many workers."""
        plan, total, whole = self._plan, sum(self._plan.rows), batch_size or _SHORTEST
        rows = math.ceil(total / max(1, workers * _SHARES) / whole) * whole
        spans = []
        for number, count in enumerate(plan.rows):
            at = 0
            pieces = [count] if rows >= count else map(len, cut(plan.read(number), rows=rows))
            for piece in pieces:
                spans.append(Span(plan.id, number, at, at + piece))
                at += piece
        return spans

    @contextmanager
    def _announced(self) -> Iterator[None]:
        """Let workers see whether they see this store."""
        announce_plan(self._disk, self._folder, self._plan.id)
        try:
            yield
        finally:
            withdraw_plan(self._disk, self._folder, self._plan.id)


def wants_gpu(device: str) -> bool | None:
    """Whether workers are for GPUs; None where that is the cluster's to say."""
    known = {"auto": None, "cpu": False, "cuda": True, "tensorrt": True}
    if device not in known:
        raise ClusterError(f"--device {device}: each worker of a cluster has one GPU; write cuda or tensorrt")
    return known[device]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggingSpec:
    """What a worker loads: the tagger of a plan."""

    plan: RangePlan  # without its ranges
    job: IngestJob

    def load(self, seat: Seat) -> _PartDoer:
        """Raises PfgError for another tagger, version or device than the plan's, or images out of sight."""
        return _PartDoer(self, seat)


def _in_sight(plan: RangePlan) -> Store | None:
    """The store of the plan, where this machine sees it; not another one at the same path."""
    with suppress(ConfigError, PlaceError):  # a bucket that only the driver may write to
        store = open_or_none(plan.store)
        if store and is_announced(store.disk, store.parts, plan.id):
            return store
    return None


class _PartDoer:
    """The worker's side: makes parts, in the store where that is in sight."""

    def __init__(self, spec: TaggingSpec, seat: Seat) -> None:
        plan, job = spec.plan, spec.job
        if seat.gpu:
            job = replace(job, device=f"{'cuda' if job.device == 'auto' else job.device}:0")
        else:
            job = replace(job, device="cpu", threads=job.threads or seat.threads)
        store = _in_sight(plan)
        tagger = tagger_for(plan, job, threads=None if seat.gpu else seat.threads)
        require_planned(plan, tagger, store)
        self._own = tempfile.TemporaryDirectory(prefix="pfg-parts-")
        folder = store.parts if store else Path(self._own.name)
        self._maker = PartMaker(plan, tagger, folder=folder, store=store, options=job)
        self._maker.require_corpus()
        self._sender = None if store else PartWriter(folder, plan.identity)
        self.facts = {"provider": tagger.provider}

    def do(self, span: Span, payload: bytes, desk: Desk) -> Mapping[str, Any]:
        """Make the parts of a span."""
        maker = self._maker
        before, abandoned = Counter(maker.busy), maker.report.abandoned

        def made(part: Span) -> None:
            desk.hand(part, self._sender.hand_over(part.name) if self._sender else None)

        maker.make(span, plan_from(payload), progress=desk, stop=desk.stop, made=made)
        maker.report.failures.clear()  # they travel in the parts
        busy = {stage: seconds - before[stage] for stage, seconds in maker.busy.items()}
        return {
            "busy": busy,
            "abandoned": maker.report.abandoned - abandoned,
            "threads": maker.workers,
        }
