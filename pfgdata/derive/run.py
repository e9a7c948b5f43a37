"""A pass into a derived set: plan, encoding and the keeper of what it makes, under the set's lock.

A shard holds one group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.derive.encoder import Encoder
from pfgdata.derive.encoding import Encoded, Encoding
from pfgdata.derive.options import DeriveOptions
from pfgdata.derive.plan import DerivePlan, plan_missing
from pfgdata.errors import AccessError
from pfgdata.records import Progress, Selection, during
from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    DerivedSet,
    DerivedSetWriter,
    Snapshot,
    content_ids_of,
)

__all__ = ["Derivation", "DeriveReport", "Keeper"]


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
            plan = self.plan(snapshot, selection)
            keeper = Keeper(self, writer, plan)
            encoding = Encoding(
                self.encoder,
                keeper.keep,
                what=self.derived.name,
                roots=self.roots,
                options=self.options,
                progress=self.progress,
            )
            with during(self.progress, "encode", total=plan.to_do, brief=False):
                keeper.report.interrupted = any(encoding.group(plan, group, stop) for group in plan.missing)
        keeper.report.seconds = time.monotonic() - start
        return keeper.report

    def plan(self, snapshot: Snapshot, selection: Selection) -> DerivePlan:
        """What of a selection the set lacks."""
        return plan_missing(snapshot, selection, groups=self.encoder.groups, derived=self.derived)


class Keeper:
    """Commits what is encoded, for the holder of the set's lock, and counts it in `report`."""

    def __init__(self, derivation: Derivation, writer: DerivedSetWriter, plan: DerivePlan) -> None:
        self._set, self._encoder = derivation.derived, derivation.encoder
        self._batch_size = derivation.options.batch_size
        self._writer = writer
        self._known = _access_failures(self._set)
        self._writer_facts = self._encoder.writer
        self.report = DeriveReport(
            id=self._set.id,
            path=str(self._set.path),
            selected=plan.selected,
            distinct=plan.distinct,
            present=plan.done,
            failed=plan.failed_before,
        )

    def keep(self, group: int, made: Encoded) -> None:
        """Write a shard of what was made of a group, if it is anything new, and count it."""
        failures = [one for one in made.failures if self._is_news(one)]
        if made.rows or failures:
            self._writer.commit(
                made.stacked(),
                rows=pa.Table.from_pylist(made.rows, schema=self._set.schema),
                failures=pa.Table.from_pylist(failures, schema=DERIVED_FAILURES_SCHEMA),
                facts=self._encoder.facts(group),
                writer={
                    "what": f"{self._set.name}s",
                    "batch_size": self._batch_size,
                    **self._writer_facts,
                    "seconds": made.seconds(),
                },
            )
        report = self.report
        if made.rows:
            name = self._encoder.name(group)
            report.groups[name] = report.groups.get(name, 0) + len(made.rows)
        report.encoded += len(made.rows)
        report.failed += len(made.failures)
        report.failures += [
            (file, one["kind"], one["reason"]) for file, one in zip(made.files, made.failures, strict=True)
        ]

    def _is_news(self, failure: Mapping[str, Any]) -> bool:
        """Whether a failure is not on record yet: what can never be read would add a row each run."""
        return (
            failure["kind"] != AccessError.kind
            or (failure["content_id"], failure["reason"]) not in self._known
        )


def _access_failures(derived: DerivedSet[Any, Any]) -> set[tuple[bytes, str]]:
    """(content_id, reason) of the access failures on record."""
    table = derived.failures()
    table = table.filter(pc.equal(table["kind"], AccessError.kind))
    ids = content_ids_of(table["content_id"])
    return {(one.tobytes(), reason) for one, reason in zip(ids, table["reason"].to_pylist(), strict=True)}
