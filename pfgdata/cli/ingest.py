"""`pfgdata ingest`: folders, archives and lists of images into a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.cluster import ClusterOption, WorkersOption, cluster_named, require_taken, worker_facts
from pfgdata.cli.moves import moves_of
from pfgdata.cli.options import DryRun, Json, StoreOption, counted, show_failures
from pfgdata.cli.parts import (
    AtWork,
    PartOption,
    PartsOption,
    PlanOption,
    PlanOutOption,
    RangeRowsOption,
    do_part,
    is_given,
    load_tagger,
    require_fitting,
    show_plan,
)
from pfgdata.flags import from_fields
from pfgdata.ingest import IngestJob
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import Place, user_place
from pfgdata.screen import ScreenProgress, duration, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.cluster import Cluster
    from pfgdata.ingest import CaptionsReport, IngestReport

__all__ = ["EXAMPLE", "ingest"]

EXAMPLE = (
    "Examples: pfgdata ingest ./images --tagger demo; "
    "pfgdata ingest a/ b/ shards/*.tar --exclude 'drafts/**'; "
    "pfgdata ingest ./images --device cuda --precision float16 --decode fast"
)
_IMAGES, _LIMITS, _TAGGER = "Which images", "What is no usable image", "Tagger (of a new store)"
_SPEED, _AGAIN = "Speed", "Running again"
_IGNORED = "no images by name, hidden, or excluded"
_CLOSED = "; archives in a folder too, which --archives opens"
_NOT_FOLLOWED = "to folders or out of the corpus, not followed; --follow-links does"
_LOOPS = "to folders they lie in, not followed"


_PANELS = {
    _IMAGES: "include exclude archives follow_links sidecars",
    _LIMITS: "max_megapixels max_megabytes min_side max_aspect image_seconds",
    _TAGGER: "tagger convention preprocess",
    _SPEED: "device precision decode batch_size threads",
    _AGAIN: "retry_failed rehash wait",
    "": "shard_rows",
}
_PATTERN = {"metavar": "PATTERN"}
_BOUNDS: dict[str, dict[str, Any]] = {  # of the command; a recipe's are the job's own
    "include": _PATTERN,
    "exclude": _PATTERN,
    "max_megapixels": {"min": 0.001},
    "max_megabytes": {"min": 0.001},
    "min_side": {"min": 1},
    "max_aspect": {"min": 1.0},
    "image_seconds": {"min": 0.1},
    "batch_size": {"min": 1},
    "threads": {"min": 1},
    "shard_rows": {"min": 1, "hidden": True},
}


@from_fields(IngestJob, _PANELS, more=_BOUNDS)
def ingest(
    images: Annotated[
        list[Any] | None,  # of Path or Url
        typer.Argument(
            metavar="IMAGES...",
            parser=user_place,
            help="Folders searched to their depth, archives (.tar, .zip, .cbz), list files (.txt, .csv, "
            ".parquet with a column path), single images; all but lists also at s3://, gs://, az:// and "
            "hf://datasets/ORG/NAME@REVISION. Not with --plan, which knows them.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = Path("feats"),
    *,
    context: typer.Context,
    root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="The corpus that was at OLD is now at NEW; each a folder or a URL.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(hidden=True)
    ] = None,  # what --preprocess was called, for one release more
    plan_out: PlanOutOption = None,
    range_rows: RangeRowsOption = 2048,
    plan: PlanOption = None,
    part: PartOption = "1/1",
    parts: PartsOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    dry_run: DryRun = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Tag every image and keep scores and features in the store.

    Done work is skipped, so the same command goes on after Ctrl-C, a crash, or new files. A file that is no
    usable image is named and does not stop the rest. Hidden files, thumbnail folders and unfinished downloads
    are passed over. On many machines: --cluster, or --plan-out, --plan with --part, then pfgdata adopt.
    """
    require_fitting(context, {"images": images, "plan": plan, "plan_out": plan_out, **asked})
    ray = cluster_named(cluster, workers)
    job = IngestJob(**{**asked, "preprocess": asked["preprocess"] or recipe})
    if plan:
        named = store if is_given(context, "store") else None
        work = AtWork(plan=plan, part=part, parts=parts, store=named, moves=root or [])
        do_part(context, work, job, dry_run=dry_run, json=json)
        return
    way = _Way(dry_run=dry_run, json=json, plan_out=plan_out, rows=range_rows, cluster=ray)
    _tag(images or [], store, job, root or [], way)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How an ingest of images is to go, beside its job."""

    dry_run: bool
    json: bool
    plan_out: Path | None
    rows: int  # of a range of that plan
    cluster: Cluster | None  # that does it


def _tag(images: list[Place], store: Path, job: IngestJob, moved: list[str], way: _Way) -> None:
    """Tag the images, or say or plan what there is to do."""
    from pfgdata.corpus import plan_segments
    from pfgdata.ingest import (
        PlanOut,
        open_or_create,
        open_or_none,
        plan_ingest,
        require_fit,
        write_captions,
        write_plan,
    )
    from pfgdata.ingest import ingest as run_ingest
    from pfgdata.store import moved_roots

    there, written = open_or_none(store), None
    roots = there.roots() if there else {}
    moves = moves_of(moved, roots)
    for old, new in moves:
        roots = moved_roots(roots, old, new)
    segments = plan_segments(images, roots, options=job.walk)
    with ScreenProgress() as progress:
        if way.dry_run:
            report = plan_ingest(segments, there, options=job, progress=progress)
        else:
            own = replace(job, device="cpu") if way.cluster else job  # it only says what others are to load
            model = load_tagger(there, own, progress)
            there = open_or_create(store, model, wait=job.wait)
            for old, new in moves:
                there.move_root(old, new, wait=job.wait, progress=progress)
            with stop_on_interrupt() as stop:
                if way.plan_out:
                    require_fit(there, model)
                    out = PlanOut(folder=way.plan_out, rows=way.rows)
                    written, report = write_plan(segments, there, job, out=out, progress=progress, stop=stop)
                elif way.cluster:
                    from pfgdata.cluster import ClusterIngest

                    work = ClusterIngest(way.cluster, job)
                    report = work.run(segments, there, model, progress=progress, stop=stop)
                else:
                    report = run_ingest(segments, there, model, options=job, progress=progress, stop=stop)
    captions = None
    try:
        if job.sidecars and there and not (way.dry_run or report.interrupted):
            with ScreenProgress() as progress:
                captions = write_captions(there, segments, wait=job.wait, progress=progress)
    finally:  # captions that fail leave the images done
        _show(report, captions, job=job, way=way, store=store)
    if written:
        show_plan(written)
    if way.json:
        print_json({**report.as_dict(), **({"captions": captions.as_dict()} if captions else {})})
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    require_taken(getattr(report, "refused", ()))


def _show(
    report: IngestReport,
    captions: CaptionsReport | None,
    *,
    job: IngestJob,
    way: _Way,
    store: Path,
) -> None:
    show_failures([(one.file, one.kind, one.reason) for one in report.failures])
    facts = {"found": counted(report), **_beside(report, job)}
    if captions:
        facts |= _captions(captions)
    if way.dry_run:
        facts |= _estimate(report)
    elif not way.plan_out:
        facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
        if report.bottleneck:
            facts["busy"] = ", ".join(f"{stage} {share:.0%}" for stage, share in report.shares.items())
            facts["bottleneck"] = report.bottleneck
        facts |= worker_facts(getattr(report, "workers", {}))
        facts["store"] = f"{store}, {report.shards} shard{'s' if report.shards != 1 else ''}"
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)


def _beside(report: IngestReport, job: IngestJob) -> dict[str, str]:
    """What was seen beside the images of the sum."""
    facts = {}
    if report.ignored:
        facts["ignored"] = f"{report.ignored:,} files: {_IGNORED}{_CLOSED if not job.archives else ''}"
    if report.links:
        facts["links"] = f"{report.links:,} {_LOOPS if job.follow_links else _NOT_FOLLOWED}"
    if report.unreadable:
        facts["not listed"] = f"{', '.join(report.unreadable)}: give this user permission to read"
    if not report.found:
        facts["nothing"] = "no image was found; is this the right folder?"
    if report.gone:
        facts["gone"] = (
            f"{report.gone:,} images of the store whose file is not there; pfgdata prune drops them"
        )
    if report.abandoned:
        were = "thread was" if report.abandoned == 1 else "threads were"
        facts["stuck"] = f"{report.abandoned} {were} left behind in decoders that did not return"
    return facts


def _captions(captions: CaptionsReport) -> dict[str, str]:
    show_failures([(file, "caption", reason) for file, reason in captions.warnings])
    orphans = f", {len(captions.orphans):,} beside no image" if captions.orphans else ""
    return {"captions": f"{captions.captions:,} images with one, {captions.without:,} without{orphans}"}


def _estimate(report: IngestReport) -> dict[str, str]:
    facts = {"dry run": "nothing was written"}
    if report.estimated_seconds is not None:
        facts["would take"] = f"{duration(report.estimated_seconds)}, at the rate of this store's last shards"
    elif report.pending:
        facts["would take"] = "not known: this store has no shards yet to take a rate from"
    return facts
