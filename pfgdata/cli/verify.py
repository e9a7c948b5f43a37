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
        problems = check(store, deep=deep or repair, progress=progress)
    report = set_aside(Store.open(store), problems) if repair and problems else None
    _show(problems, report, json=json)
    left = [problem for problem in problems if not report or problem.shard is None]
    if left:
        raise typer.Exit(FIXABLE)


def _show(problems: Sequence[Problem], report: RepairReport | None, *, json: bool) -> None:
    for problem in problems:
        show_facts({"broken": f"{problem.path}: {problem.what}"})
    if report:
        for path in report.set_aside:
            show_facts({"set aside": path})
        if report.set_aside:
            show_facts(
                {"next": "pfgdata ingest (and pfgdata latents, features) again: they redo what was set aside"}
            )
        if report.rows_hidden:
            show_facts({"hidden": f"{report.rows_hidden:,} rows of images that would have been there twice"})
        if report.old_versions_possible:
            show_facts({"mind": "old versions of images may be back until that ingest"})
    elif any(problem.shard for problem in problems):
        show_facts({"next": "pfgdata verify --repair sets broken shards aside"})
    elif not problems:
        show_facts({"verified": "nothing is broken"})
    if json:
        print_json(
            {
                "problems": [{"path": str(one.path), "what": one.what} for one in problems],
                "set_aside": [str(path) for path in report.set_aside] if report else [],
            }
        )
