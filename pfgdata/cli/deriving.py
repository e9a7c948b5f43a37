"""What the commands that make a derived set share: whose workers do it, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import typer

from pfgdata.cli.cluster import worker_facts
from pfgdata.cli.options import show_failures
from pfgdata.interrupts import INTERRUPTED
from pfgdata.screen import duration, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.cluster import Cluster, WorkerRate
    from pfgdata.derive import Derivation, DerivePlan, DeriveReport, EncoderSource
    from pfgdata.records import Selection
    from pfgdata.store import Snapshot

__all__ = ["make", "plan_words", "show_plan", "show_report"]

R_co = TypeVar("R_co", bound="DeriveReport", covariant=True)


class DerivePass(Protocol[R_co]):
    """A pass of one kind: of latents, of features."""

    def run(self, snapshot: Snapshot, selection: Selection, *, stop: Callable[[], bool] = ...) -> R_co:
        """Make what is missing, in this process."""

    def derivation(self) -> Derivation:
        """The pass into its set, which is made if it is not there."""

    def report(self, report: DeriveReport) -> R_co:
        """`report` as one of the kind."""


def make(
    work: DerivePass[R_co],
    snapshot: Snapshot,
    selection: Selection,
    *,
    by: tuple[Cluster, Callable[[], EncoderSource]] | None,
    stop: Callable[[], bool],
) -> tuple[R_co, Mapping[str, WorkerRate]]:
    """Make what is missing of `selection`, here or by the workers of a cluster, and what each of them did."""
    if by is None:
        return work.run(snapshot, selection, stop=stop), {}
    from pfgdata.cluster import derive_on

    cluster, source = by
    report, rates = derive_on(cluster, source(), work.derivation(), snapshot, selection, stop=stop)
    return work.report(report), rates


def show_plan(plan: DerivePlan, facts: Mapping[str, str], *, verb: str) -> None:
    """Say what a dry run found; `verb` is what would be done with an image."""
    counts = _counts(plan.distinct, verb=verb, made=0, present=plan.done, failed=plan.failed_before)
    show_facts(
        {
            "selected": f"{plan.selected:,} images, of distinct content {counts}",
            **facts,
            "dry run": "nothing was written",
        }
    )


def plan_words(plan: DerivePlan, *, size: int) -> dict[str, int]:
    """The same for `--json`; `size` is what there is to make, in bytes."""
    return {
        "selected": plan.selected,
        "distinct": plan.distinct,
        "present": plan.done,
        "failed": plan.failed_before,
        "pending": plan.to_do,
        "bytes": size,
    }


def show_report(
    report: DeriveReport,
    rates: Mapping[str, WorkerRate],
    facts: Mapping[str, str],
    *,
    verb: str,
    json: bool,
) -> None:
    """Say what was done, and end with 130 where it was interrupted; `verb` is what was done with an image."""
    show_failures(report.failures)
    counts = _counts(
        report.distinct, verb=verb, made=report.encoded, present=report.present, failed=report.failed
    )
    stopped = {"stopped": "the same command goes on from here"} if report.interrupted else {}
    show_facts(
        {
            "selected": f"{report.selected:,} images, of distinct content {counts}",
            "took": duration(report.seconds),
            **facts,
            **worker_facts(rates),
            **stopped,
        }
    )
    if json:
        workers = {name: rate.as_dict() for name, rate in rates.items()}
        print_json({**report.as_dict(), **({"workers": workers} if workers else {})})
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _counts(distinct: int, *, verb: str, made: int, present: int, failed: int) -> str:
    pending = distinct - made - present - failed
    return f"{distinct:,} = {made:,} {verb} + {present:,} present + {failed:,} failed + {pending:,} pending"
