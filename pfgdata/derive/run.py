"""The pass itself: read, prepare, encode in full batches, commit shard by shard.

A shard holds one group. A failed image keeps its slot, so its neighbours do not move.
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

from pfgdata.corpus import ReadImage, read_images
from pfgdata.derive.encoder import Encoder
from pfgdata.derive.options import DeriveOptions
from pfgdata.derive.plan import DerivePlan, plan_missing
from pfgdata.errors import AccessError, ContentError, ImageError
from pfgdata.records import Progress, Selection, StoredImage, during
from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    DerivedSet,
    DerivedSetWriter,
    Snapshot,
    content_ids_of,
)

__all__ = ["Derivation", "DeriveReport"]


@dataclass(slots=True, kw_only=True)
class DeriveReport:
    """What a pass did: distinct = encoded + present + failed + pending."""

    id: str  # of the set
    path: str
    selected: int  # rows
    distinct: int  # contents; rows with the same bytes fall together
    present: int  # were there before
    encoded: int = 0
    failed: int = 0  # now, and those known from before
    groups: dict[str, int] = field(default_factory=dict)  # name -> encoded now
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """One resumable pass: what a selection has and `derived` lacks, through `encoder` into it.

    `roots` says where the store's corpus roots are now.
    """

    derived: DerivedSet[Any, Any]
    encoder: Encoder
    roots: Mapping[str, str]
    options: DeriveOptions
    progress: Progress

    def run(self, snapshot: Snapshot, selection: Selection, *, stop: Callable[[], bool]) -> DeriveReport:
        """Encode what is missing of `selection`, made from `snapshot`.

        `stop` is asked after each batch; what is encoded by then is committed. Raises StoreError when the
        selection is of another snapshot, StoreLockedError when another process writes to the same set.
        """
        start = time.monotonic()
        with self.derived.writer() as writer:
            plan = plan_missing(snapshot, selection, groups=self.encoder.groups, derived=self.derived)
            report = DeriveReport(
                id=self.derived.id,
                path=str(self.derived.path),
                selected=plan.selected,
                distinct=plan.distinct,
                present=plan.done,
                failed=plan.failed_before,
            )
            work = _Work(self, writer, report)
            with during(self.progress, "encode", total=plan.to_do, brief=False):
                for group in plan.missing:
                    work.group(plan, group, stop)
                    if report.interrupted:
                        break
        report.seconds = time.monotonic() - start
        return report


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image ready to be encoded, its row, and the file it was read from."""

    array: npt.NDArray[Any]
    row: Mapping[str, Any]
    file: str


_Item = tuple[StoredImage, _Prepared | ImageError]


@dataclass(slots=True)
class _OpenShard:
    """What is gathered for the next shard, and the seconds it took."""

    arrays: list[npt.NDArray[np.float16]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)  # to write
    named: list[tuple[str, str, str]] = field(default_factory=list)  # all failures: file, kind, reason
    since: float = field(default_factory=time.monotonic)
    waited: float = 0.0  # for images to be read, decoded and prepared
    encoded: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of arrays; all of a shard have one shape."""
        return self.arrays[0].nbytes * len(self.arrays) if self.arrays else 0

    def seconds(self) -> dict[str, float]:
        """For shard.json."""
        total = time.monotonic() - self.since
        return {"read": round(self.waited, 3), "encode": round(self.encoded, 3), "total": round(total, 3)}


class _Work:
    """A pass under way: fills shards of one group after another."""

    def __init__(self, derivation: Derivation, writer: DerivedSetWriter, report: DeriveReport) -> None:
        self._set = derivation.derived
        self._encoder = derivation.encoder
        self._roots = derivation.roots
        self._options = derivation.options
        self._progress = derivation.progress
        self._writer = writer
        self._report = report
        self._known = _access_failures(self._set)
        self._writer_facts = self._encoder.writer
        self._open = _OpenShard()

    def group(self, plan: DerivePlan, group: int, stop: Callable[[], bool]) -> None:
        """Encode what is missing of `group` and commit it."""
        with closing(self._batches(plan, group)) as batches:
            asked = time.monotonic()
            for batch in batches:
                self._open.waited += time.monotonic() - asked
                self._encode(batch)
                self._progress.advance(len(batch))
                if self._due():
                    self._commit(group)
                if stop():
                    self._report.interrupted = True
                    break
                asked = time.monotonic()
        self._commit(group)

    def _batches(self, plan: DerivePlan, group: int) -> Generator[list[_Item]]:
        def prepare(image: ReadImage) -> _Prepared:
            return _Prepared(*self._encoder.prepare(image.pixels, group), image.file)

        count = self._options.batch_size
        threads = self._options.threads or os.cpu_count() or 1
        images = read_images(
            plan.items(group),
            prepare,
            roots=self._roots,
            threads=threads,
            ahead=2 * count + threads,
            seconds=self._options.image_seconds,
        )
        with closing(images):
            while batch := list(islice(images, count)):
                yield batch

    def _encode(self, batch: list[_Item]) -> None:
        """Encode a batch, padded to full size; a failed image keeps its slot."""
        ready = {slot: item for slot, (_, item) in enumerate(batch) if isinstance(item, _Prepared)}
        encoded = self._encoded({slot: item.array for slot, item in ready.items()})
        for slot, (image, item) in enumerate(batch):
            if isinstance(item, ImageError):
                self._fail(image, item, file=item.file)
            elif not np.isfinite(encoded[slot]).all():
                problem = ContentError(f"its {self._set.name} is not finite in float16")
                self._fail(image, problem, file=item.file)
            else:
                self._open.arrays.append(encoded[slot])
                self._open.rows.append({"content_id": image.content_id, **item.row})

    def _encoded(self, arrays: Mapping[int, npt.NDArray[Any]]) -> npt.NDArray[np.float16]:
        """What the encoder makes of the arrays in their slots, [B, ...]; of none, nothing."""
        if not arrays:
            return np.empty(0, np.float16)
        first = next(iter(arrays.values()))
        full = np.zeros((self._options.batch_size, *first.shape), first.dtype)
        for slot, array in arrays.items():
            full[slot] = array
        begun = time.monotonic()
        with np.errstate(over="ignore"):  # an infinite value is a failure
            encoded = self._encoder.encode(full).astype(np.float16)
        self._open.encoded += time.monotonic() - begun
        return encoded

    def _fail(self, image: StoredImage, problem: ImageError, *, file: str | None) -> None:
        content, kind, reason = image.content_id, problem.kind, str(problem)
        self._open.named.append((file or str(image), kind, reason))
        if kind != AccessError.kind or (content, reason) not in self._known:  # else each run adds a row
            self._open.failures.append({"content_id": content, "kind": kind, "reason": reason})

    def _due(self) -> bool:
        is_old = time.monotonic() - self._open.since >= self._options.shard_seconds
        return self._open.nbytes >= self._options.shard_bytes or is_old

    def _commit(self, group: int) -> None:
        """Write what is open, if it is anything new, and count it."""
        shard = self._open
        self._open = _OpenShard()
        if shard.rows or shard.failures:
            self._writer.commit(
                np.stack(shard.arrays) if shard.arrays else np.empty((0, 1), np.float16),
                rows=pa.Table.from_pylist(shard.rows, schema=self._set.schema),
                failures=pa.Table.from_pylist(shard.failures, schema=DERIVED_FAILURES_SCHEMA),
                facts=self._encoder.facts(group),
                writer={
                    "what": f"{self._set.name}s",
                    "batch_size": self._options.batch_size,
                    **self._writer_facts,
                    "seconds": shard.seconds(),
                },
            )
        if shard.rows:
            name = self._encoder.name(group)
            self._report.groups[name] = self._report.groups.get(name, 0) + len(shard.rows)
        self._report.encoded += len(shard.rows)
        self._report.failed += len(shard.named)
        self._report.failures += shard.named


def _access_failures(derived: DerivedSet[Any, Any]) -> set[tuple[bytes, str]]:
    """(content_id, reason) of the access failures on record."""
    table = derived.failures()
    table = table.filter(pc.equal(table["kind"], AccessError.kind))
    ids = content_ids_of(table["content_id"])
    return {(one.tobytes(), reason) for one, reason in zip(ids, table["reason"].to_pylist(), strict=True)}
