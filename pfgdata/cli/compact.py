"""`pfgdata compact`: few large shards instead of many small ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pfgdata.cli.options import DryRun, Json, StoreArgument
from pfgdata.screen import ScreenProgress, print_json, show_facts

__all__ = ["EXAMPLE", "compact"]

EXAMPLE = "Example: pfgdata compact feats/"


def compact(
    store: StoreArgument = Path("feats"),
    rows: Annotated[int, typer.Option(min=1, help="Rows of a full shard.")] = 131_072,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Merge the small shards of a store, and drop rows that newer ones have hidden: queries get faster.

    Shards of at least half of `--rows` are left alone until over a fifth of one is hidden. What was merged
    stays on disk, for readers that still use it, until `pfgdata gc`.
    """
    from pfgdata.store import Store
    from pfgdata.store import compact as merge

    opened = Store.open(store)
    with ScreenProgress() as progress:
        report = merge(opened, rows=rows, dry_run=dry_run, progress=progress)
    facts = {
        "shards": f"{report.shards_before:,} before, {report.shards_after:,} after",
        "rows": f"{report.rows:,} copied, {report.dropped:,} hidden ones left out",
    }
    if report.indexed:
        facts["tags"] = f"{report.indexed:,} shards indexed"
    if dry_run:
        facts["dry run"] = "nothing was written"
    elif report.rewritten:
        facts["next"] = "pfgdata gc frees the space of the old shards a week from now"
    show_facts(facts)
    if json:
        print_json(asdict(report))
