"""`pfgdata verify`: does a store hold what it promises, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import Json, StoreArgument
from pfgdata.screen import FIXABLE, ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.store import Problem, RepairReport

__all__ = ["EXAMPLE", "verify"]

EXAMPLE = "Example: pfgdata verify feats/ --deep"
_ROUNDS = 2  # of repairs: shards are looked at once the records that name them are put right


def verify(
    store: StoreArgument = Path("feats"),
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte, not only names and sizes; --repair does.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set broken shards aside; the next ingest redoes their images.")
    ] = False,
    json: Json = False,
) -> None:
    """Check every file of a store and name what is broken; exits with 1 where something is and stays so.

    A broken shard is moved to quarantine/, never deleted, and what it hid stays hidden.
    """
    from pfgdata.store import Store
    from pfgdata.store import repair as set_aside
    from pfgdata.store import verify as check

    with ScreenProgress() as progress:
        found = left = check(store, deep=deep or repair, progress=progress)
        reports: list[RepairReport] = []
        while repair and left and len(reports) < _ROUNDS:
            reports.append(set_aside(Store.open(store), left))
            if not reports[-1].mended and not any(problem.shard for problem in left):
                break
            left = check(store, deep=True, progress=progress)
            found = [*found, *(problem for problem in left if problem not in found)]
    _show(found, left, reports, json=json)
    if left:
        raise typer.Exit(FIXABLE)


def _show(
    found: Sequence[Problem], left: Sequence[Problem], reports: Sequence[RepairReport], *, json: bool
) -> None:
    for problem in found:
        show_facts({"broken": f"{problem.path}: {problem.what}"})
    aside = [path for report in reports for path in report.set_aside]
    mended = [path for report in reports for path in report.mended]
    if reports:
        _show_repair(aside, mended, reports)
        for problem in left:
            show_facts({"still broken": problem.path})
    elif any(problem.shard for problem in found):
        show_facts({"next": "pfgdata verify --repair sets broken shards aside"})
    elif not found:
        show_facts({"verified": "nothing is broken"})
    if json:
        print_json(
            {
                "problems": [{"path": str(one.path), "what": one.what} for one in found],
                "set_aside": [str(path) for path in aside],
                "mended": [str(path) for path in mended],
                "left": [str(one.path) for one in left],
            }
        )


def _show_repair(aside: Sequence[Path], mended: Sequence[Path], reports: Sequence[RepairReport]) -> None:
    for path in mended:
        show_facts({"put right": f"{path}: it is said again which shards are there"})
    for path in aside:
        show_facts({"set aside": path})
    if aside:
        show_facts(
            {"next": "pfgdata ingest (and pfgdata latents, features) again: they redo what was set aside"}
        )
    if hidden := sum(report.rows_hidden for report in reports):
        show_facts({"hidden": f"{hidden:,} rows of images that would have been there twice"})
    if any(report.old_versions_possible for report in reports):
        show_facts({"mind": "old versions of images may be back until that ingest"})
