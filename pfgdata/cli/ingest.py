"""`pfgdata ingest`: folders, archives and lists of images into a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pfgdata.cli.options import DryRun, Json, StoreOption, Threads, show_failures
from pfgdata.errors import ConfigError
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_path
from pfgdata.screen import ScreenProgress, duration, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.corpus import WalkOptions
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


def _option(panel: str, *flags: str, help: str, **more: Any) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


def ingest(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            parser=user_path,
            help="Folders searched to their depth, archives (.tar, .zip, .cbz), list files (.txt, .csv, "
            ".parquet with a column path), single images.",
        ),
    ],
    store: StoreOption = Path("feats"),
    include: Annotated[
        list[str] | None,
        _option(_IMAGES, "--include", metavar="PATTERN", help="Only paths that match, as in .gitignore."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        _option(_IMAGES, "--exclude", metavar="PATTERN", help="No paths that match, as in .gitignore."),
    ] = None,
    archives: Annotated[
        bool, _option(_IMAGES, "--archives", help="Look into the archives that a folder holds.")
    ] = False,
    follow_links: Annotated[
        bool, _option(_IMAGES, "--follow-links", help="Follow links to folders and out of the corpus.")
    ] = False,
    sidecars: Annotated[
        bool,
        _option(_IMAGES, "--sidecars", help="Keep captions beside the images as the column captions."),
    ] = False,
    max_megapixels: Annotated[float, _option(_LIMITS, min=0.001, help="Judged from the header.")] = 200.0,
    max_megabytes: Annotated[float, _option(_LIMITS, min=0.001, help="Of the file.")] = 2048.0,
    min_side: Annotated[int, _option(_LIMITS, min=1, help="Pixels.")] = 16,
    max_aspect: Annotated[float, _option(_LIMITS, min=1.0, help="Longer to shorter side.")] = 20.0,
    image_seconds: Annotated[
        float, _option(_LIMITS, min=0.1, help="A decoder that takes longer is given up.")
    ] = 60.0,
    tagger: Annotated[
        str | None,
        _option(
            _TAGGER,
            help="Catalog name, hub id, folder, or demo.",
            show_default="the store's own, else wd-v1-4-vit-tagger-v2",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        _option(
            _TAGGER,
            help="How a picture becomes the tagger's square: kohya, webui, pfg-train or smilingwolf.",
            show_default="the store's own, else kohya",
        ),
    ] = None,
    device: Annotated[
        str, _option(_SPEED, help="auto, cpu, cuda (every GPU), cuda:1, cuda:0,2 or tensorrt.")
    ] = "auto",
    precision: Annotated[
        str, _option(_SPEED, help="float32, or float16 of the graph: faster on a GPU, nearly the same.")
    ] = "float32",
    decode: Annotated[
        str, _option(_SPEED, help="exact, or fast: large JPEGs at no less than the tagger's size.")
    ] = "exact",
    batch_size: Annotated[
        int | None,
        _option(_SPEED, min=1, help="Images a model call.", show_default="what a short probe finds fastest"),
    ] = None,
    threads: Threads = None,
    retry_failed: Annotated[
        bool, _option(_AGAIN, "--retry-failed", help="Read unusable images again.")
    ] = False,
    rehash: Annotated[
        bool, _option(_AGAIN, "--rehash", help="Read also images whose size and time are unchanged.")
    ] = False,
    root: Annotated[
        list[str] | None, _option(_AGAIN, metavar="OLD=NEW", help="The corpus that was at OLD is now at NEW.")
    ] = None,
    wait: Annotated[
        bool, _option(_AGAIN, "--wait", help="Wait while another process writes to the store.")
    ] = False,
    shard_rows: Annotated[int, typer.Option(min=1, hidden=True)] = 8192,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Tag every image and keep scores and features in the store.

    Done work is skipped, so the same command goes on after Ctrl-C, a crash, or new files. A file that is no
    usable image is named and does not stop the rest. Hidden files, thumbnail folders and unfinished downloads
    are passed over.
    """
    from pfgdata.corpus import WalkOptions, plan_segments
    from pfgdata.images import Limits
    from pfgdata.ingest import (
        IngestOptions,
        open_or_create,
        open_or_none,
        plan_ingest,
        tagger_for,
        write_captions,
    )
    from pfgdata.ingest import ingest as run_ingest
    from pfgdata.records import during
    from pfgdata.store import moved_roots
    from pfgdata.taggers import Precision, choose_batch_size

    options = IngestOptions(
        threads=threads,
        shard_rows=shard_rows,
        retry_failed=retry_failed,
        rehash=rehash,
        limits=Limits(max_pixels=_millions(max_megapixels), min_side=min_side, max_aspect=max_aspect),
        max_bytes=_millions(max_megabytes),
        decode=_one_of("--decode", decode, ("exact", "fast")),
        image_seconds=image_seconds,
        wait=wait,
    )
    walk = WalkOptions(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        follow_links=follow_links,
        archives=archives,
    )
    half = _one_of("--precision", precision, get_args(Precision))
    there = open_or_none(store)
    moves = [_move(pair) for pair in root or []]
    roots = there.roots() if there else {}
    for old, new in moves:
        roots = moved_roots(roots, old, new)
    segments = plan_segments(images, roots, options=walk)
    with ScreenProgress() as progress:
        if dry_run:
            report = plan_ingest(segments, there, options=options, progress=progress)
        else:
            with during(progress, "load", total=1, unit="taggers"):
                model = tagger_for(there, name=tagger, recipe=recipe, device=device, precision=half)
                progress.advance()
            if model.untrained:
                progress.say(f"tagger {model.identity.name} is untrained: tags and scores mean nothing")
            if model.unused_gpu:
                progress.say(f"the GPU is not used: {model.unused_gpu}")
            there = open_or_create(store, model, wait=wait)
            for old, new in moves:
                there.move_root(old, new, wait=wait, progress=progress)
            options = replace(options, batch_size=batch_size or choose_batch_size(model))
            with stop_on_interrupt() as stop:
                report = run_ingest(segments, there, model, options=options, progress=progress, stop=stop)
    captions = None
    try:
        if sidecars and there and not (dry_run or report.interrupted):
            with ScreenProgress() as progress:
                captions = write_captions(there, segments, wait=wait, progress=progress)
    finally:  # captions that fail leave the images done
        _show(report, captions, walk=walk, dry_run=dry_run, store=store)
    if json:
        print_json({**report.as_dict(), **({"captions": captions.as_dict()} if captions else {})})
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _millions(count: float) -> int:
    """`count` millions, be it without end."""
    return int(min(count * 1e6, sys.maxsize))


def _one_of(flag: str, value: str, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise typer.BadParameter(f"{flag} {value}: it is {' or '.join(allowed)}")
    return value


def _move(pair: str) -> tuple[str, str]:
    """OLD=NEW, the new place as a real path. Raises ConfigError where there is no such folder."""
    old, equals, new = pair.partition("=")
    if not equals or not new:
        raise typer.BadParameter(f"--root {pair}: write it OLD=NEW")
    place = user_path(new).resolve()
    if not place.is_dir():
        raise ConfigError(f"--root {pair}: there is no folder {place}")
    return str(user_path(old)), str(place)


def _show(
    report: IngestReport,
    captions: CaptionsReport | None,
    *,
    walk: WalkOptions,
    dry_run: bool,
    store: Path,
) -> None:
    show_failures([(one.file, one.kind, one.reason) for one in report.failures])
    parts = {name: getattr(report, name) for name in ("tagged", "copied", "unchanged", "failed", "pending")}
    counts = " + ".join(f"{value:,} {name}" for name, value in parts.items())
    facts = {"found": f"{report.found:,} = {counts}", **_beside(report, walk)}
    if captions:
        facts |= _captions(captions)
    if dry_run:
        facts |= _estimate(report)
    else:
        facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
        if report.bottleneck:
            facts["busy"] = ", ".join(f"{stage} {share:.0%}" for stage, share in report.shares.items())
            facts["bottleneck"] = report.bottleneck
        facts["store"] = f"{store}, {report.shards} shard{'s' if report.shards != 1 else ''}"
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)


def _beside(report: IngestReport, walk: WalkOptions) -> dict[str, str]:
    """What was seen beside the images of the sum."""
    facts = {}
    if report.ignored:
        facts["ignored"] = f"{report.ignored:,} files: {_IGNORED}{_CLOSED if not walk.archives else ''}"
    if report.links:
        facts["links"] = f"{report.links:,} {_LOOPS if walk.follow_links else _NOT_FOLLOWED}"
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
