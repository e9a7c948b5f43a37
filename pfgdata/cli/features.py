"""`pfgdata features`: selected images through a further extractor, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pfgdata.cli.cluster import ClusterOption, WorkersOption, cluster_named, worker_facts
from pfgdata.cli.options import DryRun, Json, StoreArgument, show_failures
from pfgdata.features import FeatureJob
from pfgdata.flags import from_fields
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.screen import ScreenProgress, duration, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.cluster import Cluster, WorkerRate
    from pfgdata.extractors import Extractor
    from pfgdata.features import FeaturePass, FeatureReport
    from pfgdata.records import Selection
    from pfgdata.store import Snapshot

__all__ = ["EXAMPLE", "features"]

EXAMPLE = "Example: pfgdata features feats/ --extractor dinov2-b --where \"rating = 'general'\""


_PANELS = {
    "": "extractor node convention label",
    "Which images": "where threshold character_threshold",
    "Speed": "batch_size device precision threads",
}
_BOUNDS: dict[str, dict[str, Any]] = {
    "node": {"metavar": "NAME"},
    "convention": {"metavar": "FILE|NAME"},
    "label": {"metavar": "NAME"},
    "where": {"metavar": "EXPR"},
    "batch_size": {"min": 1},
    "threads": {"min": 1},
}


@from_fields(FeatureJob, _PANELS, more=_BOUNDS)
def features(
    store: StoreArgument = Path("feats"),
    *,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Make another model's vector of each image: a feature set, kept beside the tagger's own feature.

    similar and duplicates look at it by --features LABEL. What is there already is kept, so the same
    command goes on after Ctrl-C or new images. Extractors are models of CLIP, SigLIP or DINO as transformers
    has them, and any ONNX graph that takes images (docs/features.md).
    """
    from pfgdata.features import FeaturePass, extractor_for
    from pfgdata.query import Thresholds, select
    from pfgdata.store import Store

    job, ray = FeatureJob(**asked), cluster_named(cluster, workers)
    there = Store.open(store)
    snapshot = there.snapshot()
    chosen = Thresholds(general=job.threshold, character=job.character_threshold)
    selection = select(snapshot, job.where, chosen)
    extractor, label = extractor_for(there, job)
    show_facts(_facts(extractor, label))
    with ScreenProgress() as progress:
        work = FeaturePass(store=there, extractor=extractor, label=label, options=job, progress=progress)
        if dry_run:
            _show_plan(work, snapshot, selection, json=json)
            return
        with stop_on_interrupt() as stop:
            if ray:
                report, rates = _on_cluster(ray, work, snapshot, selection, stop=stop)
            else:
                report, rates = work.run(snapshot, selection, stop=stop), {}
    _show(report, rates, json=json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _facts(extractor: Extractor, label: str) -> dict[str, str]:
    size = extractor.image_size
    return {
        "features": f"{label}: {extractor.identity.node} of {extractor.name}, {extractor.feature_dim} wide",
        "pictures": f"{size} x {size}, from {extractor.source}",
    }


def _show_plan(work: FeaturePass, snapshot: Snapshot, selection: Selection, *, json: bool) -> None:
    """What a making would do: how many images, and how many bytes."""
    plan = work.plan(snapshot, selection)
    size = plan.to_do * work.bytes_each
    counts = _counts(plan.distinct, made=0, present=plan.done, failed=plan.failed_before)
    show_facts(
        {
            "selected": f"{plan.selected:,} images, of distinct content {counts}",
            "to make": f"{plan.to_do:,} vectors, {size / 1e6:,.1f} MB",
            "dry run": "nothing was written",
        }
    )
    if json:
        print_json(
            {
                "label": work.label,
                "selected": plan.selected,
                "distinct": plan.distinct,
                "present": plan.done,
                "failed": plan.failed_before,
                "pending": plan.to_do,
                "bytes": size,
            }
        )


def _on_cluster(
    cluster: Cluster,
    work: FeaturePass,
    snapshot: Snapshot,
    selection: Selection,
    *,
    stop: Callable[[], bool],
) -> tuple[FeatureReport, dict[str, WorkerRate]]:
    """Have the workers of a cluster make them."""
    from pfgdata.cluster import derive_on
    from pfgdata.derive import require_work

    require_work(work.store, selection)
    report, rates = derive_on(cluster, work.source(), work.derivation(), snapshot, selection, stop=stop)
    return work.report(report), rates


def _show(report: FeatureReport, rates: Mapping[str, WorkerRate], *, json: bool) -> None:
    show_failures(report.failures)
    counts = _counts(report.distinct, made=report.encoded, present=report.present, failed=report.failed)
    facts = {
        "selected": f"{report.selected:,} images, of distinct content {counts}",
        "took": duration(report.seconds),
        "set": f"{report.label}, {report.path}",
        **worker_facts(rates),
    }
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)
    if json:
        workers = {name: rate.as_dict() for name, rate in rates.items()}
        print_json({**report.as_dict(), **({"workers": workers} if workers else {})})


def _counts(distinct: int, *, made: int, present: int, failed: int) -> str:
    pending = distinct - made - present - failed
    return f"{distinct:,} = {made:,} made + {present:,} present + {failed:,} failed + {pending:,} pending"
