"""Parts into the store, under its lock: what each hides is decided here, by what stands under its keys now.

A row is taken where its key has what the plan saw, or nothing. What is there already is left out, so adopting
a part again adds nothing; where something else came meanwhile, that stays: it is newer than the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import (
    AccessError,
    ConfigError,
    CorruptShardError,
    IdentityError,
    StoreError,
    StoreFormatError,
)
from pfgdata.ingest.committer import finish
from pfgdata.ingest.report import FailedImage, IngestReport
from pfgdata.ingest.spans import Covered
from pfgdata.ingest.standing import Rows, Standing, rows_of, stats_of
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store import (
    KEY_COLUMNS,
    Part,
    Store,
    StoreWriter,
    adopted_spans,
    keys_of,
    list_parts,
    require_same_identity,
)

__all__ = ["AdoptReport", "Adopter", "adopt", "adopt_waiting", "plan_adoption"]

_Mask = npt.NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class AdoptReport(IngestReport):
    """As an ingest's of the whole plans that the parts are of; what other parts are to bring is pending."""

    parts: int = 0  # that were looked at
    again: int = 0  # of those, that brought no row: it was there, or something newer
    refused: list[tuple[str, str]] = field(default_factory=list)  # part, and why: it stays where it is


def adopt(
    store: Store,
    folders: Sequence[Path] = (),
    *,
    shard_rows: int = 8192,
    wait: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> AdoptReport:
    """Commit the parts that lie in the store and in `folders`, in the order of their images.

    Those of the store are removed once they are committed; those in `folders` stay. A part that is damaged,
    of another tagger or of a newer pfg is `refused` and stays too. Small shards are merged to `shard_rows` in
    the end. `stop` is asked after each part. Raises StoreLockedError when another process writes, ConfigError
    where there is no such folder.
    """
    progress, report, start = progress or NoProgress(), AdoptReport(), time.monotonic()
    with store.writer(wait=wait, progress=progress, stop=stop) as writer:
        parts = _readable(store, folders, report)
        adopter = Adopter(writer, report, covered=_tell_plans(store, parts, report))
        with during(progress, "adopt", total=sum(map(_images_in, parts)), brief=False):
            adopter.take_all(parts, progress=progress, stop=stop)
        finish(writer, adopter.committed, report, rows=shard_rows, progress=progress)
    report.seconds = time.monotonic() - start
    return report


def adopt_waiting(
    writer: StoreWriter, *, progress: Progress, stop: Callable[[], bool]
) -> tuple[AdoptReport, Adopter | None]:
    """Commit the parts that wait in the store, for the holder of its lock; nothing is merged.

    The report, and the adopter of them, which may go on; None where none waited.
    """
    report = AdoptReport()
    parts = _readable(writer.store, (), report)
    if not parts:
        return report, None
    adopter = Adopter(writer, report)
    with during(progress, "adopt", total=sum(map(_images_in, parts))):
        adopter.take_all(parts, progress=progress, stop=stop)
    return report, adopter


def plan_adoption(store: Store, folders: Sequence[Path] = ()) -> AdoptReport:
    """What parts there are; all that is not adopted is `pending`. Writes nothing."""
    report, start = AdoptReport(), time.monotonic()
    _tell_plans(store, _readable(store, folders, report), report)
    report.shards = len(store.snapshot().shards)
    report.seconds = time.monotonic() - start
    return report


def _readable(store: Store, folders: Sequence[Path], report: AdoptReport) -> list[Part]:
    """The parts that are of the store, in the order of their images; others are refused."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of parts; name the one that --parts named")
    parts = []
    places = dict.fromkeys([store.parts, *(folder.resolve() for folder in folders)])
    for path in (path for place in places for path in list_parts(store.disk, place)):
        try:
            part = Part.read(store.disk, path)
            require_same_identity(part.identity, store.identity, where=f"part {path}")
            parts.append(part)
        except FileNotFoundError:  # being made again
            continue
        except (CorruptShardError, StoreFormatError, IdentityError) as problem:
            report.refused.append((str(path), str(problem)))
    report.parts = len(parts)
    return sorted(parts, key=lambda part: part.span)


def _tell_plans(store: Store, parts: Sequence[Part], report: AdoptReport) -> Covered:
    """Put what the plans found into the report, and what was adopted of them before; that is returned."""
    plans = {part.span.plan: part.plan for part in parts}
    for found in plans.values():
        for name in ("found", "ignored", "links", "unchanged", "failed", "gone"):
            setattr(report, name, getattr(report, name) + found[name])
        report.unreadable += found["unreadable"]
    covered = Covered()
    for plan in plans:
        for span, failed in adopted_spans(store.disk, store.parts, plan=plan):
            count = covered.add(span)
            report.failed += min(failed, count)
            report.unchanged += count - min(failed, count)
    return covered


class Adopter:
    """Adopts parts one by one while the lock is held; `committed` are the shards that came of it."""

    def __init__(self, writer: StoreWriter, report: AdoptReport, *, covered: Covered | None = None) -> None:
        """`covered` are the images that parts brought before; `report` counts what further ones bring."""
        store = writer.store
        self.committed: list[str] = []
        self._writer = writer
        self._report = report
        self._covered = covered or Covered()
        self._roots = store.roots().keys()
        snapshot = store.snapshot()  # read once: of 10,000 shards it takes 20 s
        self._images = Standing(snapshot, "images")
        self._failures = Standing(snapshot, "failures")

    def go_on(self, report: AdoptReport) -> Adopter:
        """Itself, counting in another report; corpora may have been added since."""
        self._report, self._roots = report, self._writer.store.roots().keys()
        return self

    def take_all(self, parts: Sequence[Part], *, progress: Progress, stop: Callable[[], bool]) -> None:
        """Take them in turn, until `stop`."""
        for part in parts:
            if stop():
                self._report.interrupted = True
                break
            self.take(part)
            progress.advance(_images_in(part))

    def take(self, part: Part) -> None:
        """Commit what of a part is new, and count it; a damaged one is refused."""
        try:
            part.require_whole()
            self._require_roots(part)
            judged = _judge(part, self._images, self._failures)
            shard = self._commit(part, judged)
        except (FileNotFoundError, StoreError) as problem:
            self._report.parts -= 1
            if part.is_gone:  # being made again
                return
            if not isinstance(problem, CorruptShardError | IdentityError):
                raise
            self._report.refused.append((str(part.path), str(problem)))
            return
        self._writer.retire(part, shard=shard)
        self._count(part, judged)

    def _require_roots(self, part: Part) -> None:
        """Raise IdentityError unless the store knows whose images these are, or they may get a second key."""
        tables = (part.images(["root"]), part.failures())
        foreign = sorted(
            {root for table in tables for root in table["root"].unique().to_pylist()} - self._roots
        )
        if foreign:
            raise IdentityError(
                f"part {part.path} is of {foreign[0]}, which this store does not know; to take it still,"
                f" run: pfgdata ingest {foreign[0]} --store {self._writer.store.path} --plan-out NEW"
            )

    def _commit(self, part: Part, judged: _Judged) -> str | None:
        """Commit the rows that are to be taken, and note where they stand now."""
        if not judged.takes_any:
            return None
        shard = self._writer.adopt(
            part,
            shadows=[*self._images.shadows(judged.old_images), *self._failures.shadows(judged.old_failures)],
            without={"images": judged.images.left_out, "failures": judged.failures.left_out},
        ).id
        self.committed.append(shard)
        self._images.hide(judged.old_images)
        self._failures.hide(judged.old_failures)
        self._images.put(judged.images.taken, shard)
        self._failures.put(judged.failures.taken, shard)
        return shard

    def _count(self, part: Part, judged: _Judged) -> None:
        report = self._report
        fresh = self._covered.add(part.span)  # images that no part before has brought
        whole = fresh == part.span.stop - part.span.start
        failed = part.failed if whole else min(len(judged.failures.taken), fresh)
        report.copied += judged.copied
        report.tagged += len(judged.images.taken) - judged.copied
        report.failed += failed
        report.unchanged += fresh - len(judged.images.taken) - failed
        if (
            report.unchanged < 0
        ):  # taken again, as its row was pruned since: it counts once, as what it is now
            report.failed += report.unchanged
            report.unchanged = 0
        report.failures += judged.failed
        report.again += not judged.takes_any


@dataclass(frozen=True, slots=True)
class _Taking:
    """Which rows of one table of a part are taken."""

    rows: Rows
    take: _Mask

    @property
    def taken(self) -> Rows:
        return self.rows[self.take]

    @property
    def left_out(self) -> Iterable[int]:
        return np.flatnonzero(~self.take).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What becomes of the rows of a part."""

    images: _Taking
    failures: _Taking
    old_images: Rows  # that are hidden
    old_failures: Rows
    copied: int  # of the images taken
    failed: list[FailedImage]  # of the failures taken

    @property
    def takes_any(self) -> bool:
        return bool(self.images.take.any() or self.failures.take.any())


def _judge(part: Part, images: Standing, failures: Standing) -> _Judged:
    """Decide for each row of a part whether it is taken, and what it hides."""
    planned, broken = part.planned(), part.failures()
    own = part.images([*KEY_COLUMNS, "size", "mtime_ns", "content_id"])
    mine, theirs = rows_of(own, "images"), rows_of(broken, "failures")
    at_image = _Under(mine, images, failures, planned[: len(own)])
    at_failure = _Under(theirs, images, failures, planned[len(own) :])
    access = _is_access(broken)
    take = ~(at_image.is_image & (at_image.failure["shard"] < 0)) & at_image.is_as_planned
    fails = ~(at_failure.is_failure & (access | (at_failure.image["shard"] < 0))) & at_failure.is_as_planned
    keeps_row = fails & ~access  # what could not be read may still be what it was: its row stays
    copied = np.asarray(planned["copied"])[: len(own)].astype(np.bool_)
    return _Judged(
        images=_Taking(mine, take),
        failures=_Taking(theirs, fails),
        old_images=np.concatenate([at_image.image[take], at_failure.image[keeps_row]]),
        old_failures=np.concatenate([at_image.failure[take], at_failure.failure[fails]]),
        copied=int((take & copied).sum()),
        failed=_named(broken.filter(pa.array(fails))),
    )


class _Under:
    """What stands now under the keys of some rows, and whether it is what the plan saw."""

    def __init__(self, rows: Rows, images: Standing, failures: Standing, planned: pa.Table) -> None:
        self.image = images.find(rows)
        self.failure = failures.find(rows)
        self.is_image = _is_same(self.image, rows)
        self.is_failure = _is_same(self.failure, rows)
        nothing = (self.image["shard"] < 0) & (self.failure["shard"] < 0)
        as_planned = _is_planned(self.image, planned, "image") & _is_planned(self.failure, planned, "failure")
        self.is_as_planned: _Mask = nothing | as_planned


def _is_same(found: Rows, rows: Rows) -> _Mask:
    same: _Mask = found["shard"] >= 0
    for name in ("stat", "mark"):
        same &= found[name] == rows[name]
    return same


def _is_planned(found: Rows, planned: pa.Table, what: str) -> _Mask:
    """Whether what was `found` has the stat that the plan saw; nothing where it saw nothing."""
    size, mtime_ns = planned[f"{what}_size"], planned[f"{what}_mtime_ns"]
    saw: _Mask = np.asarray(size.is_valid()).astype(np.bool_)
    stats = stats_of(np.asarray(pc.fill_null(size, 0)), np.asarray(pc.fill_null(mtime_ns, 0)))
    return np.where(saw, (found["shard"] >= 0) & (stats == found["stat"]), found["shard"] < 0)


def _is_access(failures: pa.Table) -> _Mask:
    kinds = pc.cast(failures["kind"], pa.string())
    return np.asarray(pc.equal(kinds, AccessError.kind)).astype(np.bool_)


def _named(failures: pa.Table) -> list[FailedImage]:
    kinds, reasons = failures["kind"].to_pylist(), failures["reason"].to_pylist()
    keys = keys_of(failures)
    return [FailedImage(str(key), kind, why) for key, kind, why in zip(keys, kinds, reasons, strict=True)]


def _images_in(part: Part) -> int:
    return part.span.stop - part.span.start
