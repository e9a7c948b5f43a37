"""`pfgdata gc`: free the space of shards that were replaced."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pfgdata.cli.options import DryRun, Json, StoreArgument
from pfgdata.screen import ScreenProgress, print_json, show_facts

__all__ = ["EXAMPLE", "gc"]

EXAMPLE = "Example: pfgdata gc feats/ --older-than 12h"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}  # seconds


def gc(
    store: StoreArgument = Path("feats"),
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="Only what was replaced so long ago: 7d, 12h, 30m, or 0 for all."),
    ] = "7d",
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Also delete the shards that verify --repair set aside.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete shards that newer ones have replaced, and what writers that died left behind.

    Parts of a plan (`ingest --plan-out`) go once nothing of it has been made or adopted for so long.
    A query or training that began before a shard was replaced may still read it: stop those before an
    `--older-than` shorter than they run. Shards in quarantine/ stay unless `--quarantine`.
    """
    from pfgdata.store import Store
    from pfgdata.store import gc as collect

    seconds = _seconds(older_than)
    opened = Store.open(store)
    with ScreenProgress() as progress:
        report = collect(
            opened, older_than=seconds, quarantine=quarantine, dry_run=dry_run, progress=progress
        )
    facts = {"would delete" if dry_run else "deleted": f"{len(report.removed):,} shards"}
    if quarantine:
        facts["quarantine"] = f"{report.quarantined:,} shards"
    if report.young:
        facts["kept"] = f"{report.young:,} shards that were replaced less than {older_than} ago"
    if report.swept:
        facts["leftovers"] = f"{report.swept:,} of writers that died"
    if report.parts:
        facts["parts"] = f"{report.parts:,} of plans of which nothing has come for {older_than}"
    facts["space"] = f"{report.freed / 1e6:,.1f} MB"
    show_facts(facts)
    if json:
        print_json(asdict(report))


def _seconds(age: str) -> float:
    """`7d`, `12h`, `30m`, `45s` or plain seconds, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", age.strip())
    if match is None:
        raise typer.BadParameter(f"--older-than {age}: write 7d, 12h, 30m or 0")
    return float(match[1]) * _UNITS[match[2]]
