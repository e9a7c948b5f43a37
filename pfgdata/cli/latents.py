"""`pfgdata latents`: selected images through a base's VAE, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfgdata.cli.cluster import ClusterOption, WorkersOption, cluster_named
from pfgdata.cli.deriving import make, plan_words, show_plan, show_report
from pfgdata.cli.options import DryRun, Json, StoreArgument
from pfgdata.flags import from_fields
from pfgdata.interrupts import stop_on_interrupt
from pfgdata.latents import LatentJob
from pfgdata.paths import user_path
from pfgdata.screen import ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.latents import LatentPass
    from pfgdata.records import Selection
    from pfgdata.store import Snapshot

__all__ = ["EXAMPLE", "latents"]

EXAMPLE = "Example: pfgdata latents feats/ --base demo --where \"rating = 'general'\""


_PANELS = {
    "": "base base_config resolution",
    "Which images": "where threshold character_threshold",
    "Speed": "batch_size threads",
}
_BOUNDS: dict[str, dict[str, Any]] = {
    "base_config": {"metavar": "DIR"},
    "resolution": {"min": 8},
    "where": {"metavar": "EXPR"},
    "batch_size": {"min": 1},
    "threads": {"min": 1},
}


@from_fields(LatentJob, _PANELS, more=_BOUNDS)
def latents(
    store: StoreArgument = Path("feats"),
    *,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Encode images with the VAE of a base, by aspect-ratio bucket, for pfgtrain fit.

    Latents that are there already are kept, so the same command goes on after Ctrl-C or new images.
    """
    from pfgdata.derive import require_work
    from pfgdata.images import BucketPolicy
    from pfgdata.latents import LatentPass
    from pfgdata.query import Thresholds, select
    from pfgdata.store import Store
    from pfgdata.vaes import Vae, base_geometry

    job, ray = LatentJob(**asked), cluster_named(cluster, workers)
    there = Store.open(store)
    chosen = Thresholds(general=job.threshold, character=job.character_threshold)
    snapshot = there.snapshot()
    selection = select(snapshot, job.where, chosen)
    require_work(there, selection)  # before a model is loaded, and for a dry run too
    configs = user_path(job.base_config) if job.base_config else None
    with ScreenProgress() as progress:
        vae = Vae.load(job.base, config=configs, progress=progress)  # fetches no more than this needs
    geometry = base_geometry(vae.folder)
    policy = BucketPolicy.derive(job.resolution or geometry.resolution, geometry.step)
    show_facts({"resolution": f"{policy.resolution} px", "bucket step": f"{policy.step} px"})
    with ScreenProgress() as progress:
        if vae.untrained:
            progress.say(f"base {job.base} is untrained: its latents mean nothing")
        work = LatentPass(store=there, vae=vae, policy=policy, options=job, progress=progress)
        if dry_run:
            _show_plan(work, snapshot, selection, json=json)
            return
        with stop_on_interrupt() as stop:
            by = (ray, lambda: work.source(configs)) if ray else None
            report, rates = make(work, snapshot, selection, by=by, stop=stop)
    facts = {"latents": report.path, **_bucket_facts(report.groups)}
    show_report(report, rates, facts, verb="encoded", json=json)


def _show_plan(work: LatentPass, snapshot: Snapshot, selection: Selection, *, json: bool) -> None:
    """What an encoding would do: how many images in which bucket, and how many bytes."""
    sizes, plan = work.buckets(), work.plan(snapshot, selection)
    buckets = {f"{sizes[index][0]}x{sizes[index][1]}": len(rows) for index, rows in plan.missing.items()}
    pixels = sum(sizes[index][0] * sizes[index][1] * len(rows) for index, rows in plan.missing.items())
    size = pixels // work.vae.factor**2 * work.vae.latent_channels * 2  # float16
    facts = {"to encode": f"{plan.to_do:,} images, {size / 1e6:,.1f} MB", **_bucket_facts(buckets)}
    show_plan(plan, facts, verb="encoded")
    if json:
        print_json({**plan_words(plan, size=size), "buckets": buckets})


def _bucket_facts(buckets: Mapping[str, int]) -> dict[str, str]:
    if not buckets:
        return {}
    return {"buckets": ", ".join(f"{size} {count:,}" for size, count in sorted(buckets.items()))}
