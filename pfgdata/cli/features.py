"""`pfgdata features`: selected images through a further extractor, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfgdata.cli.cluster import ClusterOption, WorkersOption, cluster_named
from pfgdata.cli.deriving import make, plan_words, show_plan, show_report
from pfgdata.cli.options import DryRun, Json, StoreArgument
from pfgdata.features import FeatureJob
from pfgdata.flags import from_fields
from pfgdata.interrupts import stop_on_interrupt
from pfgdata.screen import ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.extractors import Extractor
    from pfgdata.features import FeaturePass
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
    from pfgdata.derive import require_work
    from pfgdata.features import FeaturePass, extractor_for
    from pfgdata.query import Thresholds, select
    from pfgdata.store import Store

    job, ray = FeatureJob(**asked), cluster_named(cluster, workers)
    there = Store.open(store)
    snapshot = there.snapshot()
    chosen = Thresholds(general=job.threshold, character=job.character_threshold)
    selection = select(snapshot, job.where, chosen)
    require_work(there, selection)  # before a model is loaded, and for a dry run too
    extractor, label = extractor_for(there, job)
    show_facts(_facts(extractor, label))
    with ScreenProgress() as progress:
        work = FeaturePass(store=there, extractor=extractor, label=label, options=job, progress=progress)
        if dry_run:
            _show_plan(work, snapshot, selection, json=json)
            return
        with stop_on_interrupt() as stop:
            by = (ray, work.source) if ray else None
            report, rates = make(work, snapshot, selection, by=by, stop=stop)
    show_report(report, rates, {"set": f"{report.label}, {report.path}"}, verb="made", json=json)


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
    show_plan(plan, {"to make": f"{plan.to_do:,} vectors, {size / 1e6:,.1f} MB"}, verb="made")
    if json:
        print_json({"label": work.label, **plan_words(plan, size=size)})
