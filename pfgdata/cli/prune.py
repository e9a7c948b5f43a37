"""`pfgdata prune`: drop the rows whose files are gone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import DryRun, Json, StoreArgument
from pfgdata.paths import user_place
from pfgdata.screen import ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.ingest import PruneReport

__all__ = ["EXAMPLE", "prune"]

EXAMPLE = "Example: pfgdata prune feats/ --dry-run"
_SHOWN = 10  # the rest is in --json


def prune(
    store: StoreArgument = Path("feats"),
    root: Annotated[
        list[str] | None, typer.Option(metavar="ROOT", help="Only this corpus root, by its name on record.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also where a root is missing or empty, or loses over a fifth.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Drop the images of a store whose files are gone.

    An unmounted disk must not empty a store: where a root is missing or empty, or over a fifth of its rows
    would go, nothing is done without `--yes`. Files that only cannot be read are kept.
    """
    from pfgdata.ingest import prune as drop
    from pfgdata.store import Store

    opened = Store.open(store)
    roots = [str(user_place(one)) for one in root] if root else None
    with ScreenProgress() as progress:
        report = drop(opened, yes=yes, dry_run=dry_run, roots=roots, progress=progress)
    _show(report, dry_run=dry_run)
    if json:
        print_json(asdict(report))


def _show(report: PruneReport, *, dry_run: bool) -> None:
    for file in report.files[:_SHOWN]:
        show_facts({"gone": file})
    if len(report.files) > _SHOWN:
        show_facts({"gone": f"and {len(report.files) - _SHOWN:,} more; --json names them all"})
    for reason in report.unseen:
        show_facts({"not looked at": reason})
    for reason in report.refused:
        show_facts({"needs --yes": reason})
    gone = f"{report.images:,} images and {report.failures:,} failures, of {report.checked:,} looked at"
    show_facts({"would drop" if dry_run else "dropped": gone})
