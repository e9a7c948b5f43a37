"""`pfgdata ingest`: a folder of images into a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import DryRun, Json, StoreOption, Threads, print_json, show_failures
from pfgdata.errors import ConfigError
from pfgdata.screen import INTERRUPTED, ScreenProgress, duration, show_facts, stop_on_interrupt

if TYPE_CHECKING:
    from pfgdata.ingest import IngestReport

__all__ = ["EXAMPLE", "ingest"]

EXAMPLE = "Example: pfgdata ingest ./images --tagger demo"
_TAGGER, _AGAIN = "Tagger (of a new store)", "Running again"


Images = Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, searched to its depth.")]
TaggerName = Annotated[
    str | None,
    typer.Option(
        help="Catalog name, hub id, folder, or demo.",
        show_default="the store's own, else wd-v1-4-vit-tagger-v2",
        rich_help_panel=_TAGGER,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="How a picture becomes the tagger's square: kohya, webui, pfg-train or smilingwolf.",
        show_default="the store's own, else kohya",
        rich_help_panel=_TAGGER,
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Read unusable images again.", rich_help_panel=_AGAIN)
]
Rehash = Annotated[
    bool,
    typer.Option(
        "--rehash", help="Read also images whose size and time are unchanged.", rich_help_panel=_AGAIN
    ),
]
Root = Annotated[
    list[str] | None,
    typer.Option(metavar="OLD=NEW", help="The corpus that was at OLD is now at NEW.", rich_help_panel=_AGAIN),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Images a model call.", show_default="the tagger's own, else 8", rich_help_panel="Speed"
    ),
]


def ingest(
    images: Images,
    store: StoreOption = Path("feats"),
    tagger: TaggerName = None,
    recipe: Recipe = None,
    retry_failed: RetryFailed = False,
    rehash: Rehash = False,
    root: Root = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    shard_rows: Annotated[int, typer.Option(min=1, hidden=True)] = 8192,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Tag every image of a folder and keep scores and features in the store.

    Done work is skipped, so the same command goes on after Ctrl-C, a crash, or new files. A file that is no
    usable image is named and does not stop the rest.
    """
    from pfgdata.corpus import plan_segments
    from pfgdata.ingest import IngestOptions, open_or_create, open_or_none, plan_ingest, tagger_for
    from pfgdata.ingest import ingest as run_ingest
    from pfgdata.store import moved_roots

    there = open_or_none(store)
    moves = [_move(pair) for pair in root or []]
    roots = there.roots() if there else {}
    for old, new in moves:
        roots = moved_roots(roots, old, new)
    segments = plan_segments([images], roots)
    options = IngestOptions(threads=threads, shard_rows=shard_rows, retry_failed=retry_failed, rehash=rehash)
    with ScreenProgress() as progress:
        if dry_run:
            report = plan_ingest(segments, there, options=options, progress=progress)
        else:
            model = tagger_for(there, name=tagger, recipe=recipe)
            if model.untrained:
                progress.say(f"tagger {model.identity.name} is untrained: tags and scores mean nothing")
            there = open_or_create(store, model)
            for old, new in moves:
                there.move_root(old, new)
            options = replace(options, batch_size=batch_size or model.batch_size or options.batch_size)
            with stop_on_interrupt() as stop:
                report = run_ingest(segments, there, model, options=options, progress=progress, stop=stop)
    _show(report, json=json, dry_run=dry_run, store=store)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _move(pair: str) -> tuple[str, str]:
    """OLD=NEW, the new place as a real path. Raises ConfigError where there is no such folder."""
    old, equals, new = pair.partition("=")
    if not equals or not new:
        raise typer.BadParameter(f"--root {pair}: write it OLD=NEW")
    place = Path(new).resolve()
    if not place.is_dir():
        raise ConfigError(f"--root {pair}: there is no folder {place}")
    return old.rstrip("/") or old, str(place)


def _show(report: IngestReport, *, json: bool, dry_run: bool, store: Path) -> None:
    show_failures([(one.file, one.kind, one.reason) for one in report.failures])
    parts = {name: getattr(report, name) for name in ("tagged", "copied", "unchanged", "failed", "pending")}
    counts = " + ".join(f"{value:,} {name}" for name, value in parts.items())
    facts = {"found": f"{report.found:,} = {counts}"}
    if report.ignored:
        facts["ignored"] = f"{report.ignored:,} files that are no images by name"
    if report.links:
        facts["links"] = (
            f"{report.links:,} to folders or out of this one, not followed; ingest what they mean"
        )
    if report.unreadable:
        facts["not listed"] = f"{', '.join(report.unreadable)}: give this user permission to read"
    if not report.found:
        facts["nothing"] = "no image was found; is this the right folder?"
    if report.gone:
        facts["gone"] = f"{report.gone:,} images of the store whose file is not there"
    if dry_run:
        facts["dry run"] = "nothing was written"
    else:
        facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
        facts["store"] = f"{store}, {report.shards} shard{'s' if report.shards != 1 else ''}"
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)
    if json:
        print_json(report.as_dict())
