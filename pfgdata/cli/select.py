"""`pfgdata select` and `pfgdata selections`: give a set of images a name, and see those that have one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import (
    ASKED,
    ASKED_BOUNDS,
    Json,
    Replace,
    StoreArgument,
    StoreOption,
    require_one,
    show_notes,
)
from pfgdata.flags import from_fields
from pfgdata.query import QueryJob
from pfgdata.screen import print_json, show_facts, show_table

if TYPE_CHECKING:
    from pfgdata.query import Session
    from pfgdata.store import SavedSelection, Store

__all__ = ["EXAMPLE", "LIST_EXAMPLE", "select", "selections"]

EXAMPLE = (
    "Example: pfgdata select good \"has('smile') and width >= 512\", then pfgdata query"
    " \"@good and has('hat')\" and pfgtrain fit --where @good"
)
LIST_EXAMPLE = "Example: pfgdata selections feats/"
_COLUMNS = ("name", "images", "kind", "expression", "created")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="How to call it; @NAME means it wherever EXPR may stand.")
]


@from_fields(QueryJob, ASKED, more=ASKED_BOUNDS)
def select(
    name: Name,
    expression: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPR",
            help="As in pfgdata query; it can name other selections: @OTHER.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = Path("feats"),
    *,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Keep these images; else EXPR is asked again at each use.")
    ] = False,
    minus: Annotated[
        list[str] | None, typer.Option(metavar="@OTHER", help="Leave out the images of another selection.")
    ] = None,
    replace: Replace = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Save the images for which EXPR is true, or that have the --tags, as @NAME.

    @NAME is a condition: it stands in every EXPR and --where, alone or beside others. It is asked again at
    each use, with the thresholds given here, so new images are in it too; with --freeze it is the images of
    now, by their content, wherever they move. Tags may have an order: and a limit: with --freeze only.
    """
    require_one(expression, asked["tags"])
    from pfgdata.query import Limits, SaveOptions, save_selection
    from pfgdata.store import SavedSelection, Store

    there, job = Store.open(store), QueryJob(expression=expression, **asked)
    words = SavedSelection(
        name=name,
        text=expression if job.tags is None else job.tags,
        language="sql" if job.tags is None else "tags",
        thresholds=asdict(job.thresholds),
    )
    options = SaveOptions(
        minus=minus or (), freeze=freeze, replace=replace, limits=Limits(seconds=job.seconds)
    )
    saved, chosen = save_selection(there, words, options)
    if job.tags is not None:
        show_notes(job.question(there.snapshot()))
    images = len(chosen.distinct())
    show_facts({f"@{name}": f"{images:,} images in {len(chosen):,} files, {_kind(saved)}"})
    if json:
        print_json({**saved.as_dict(), "images": images, "rows": len(chosen)})


def selections(
    store: StoreArgument = Path("feats"),
    remove: Annotated[
        str | None, typer.Option(metavar="NAME", help="Delete this selection; no image is touched.")
    ] = None,
    json: Json = False,
) -> None:
    """List the saved selections of a store: how many images each has now, and what it means."""
    from pfgdata.query import Session
    from pfgdata.store import Store

    there = Store.open(store)
    if remove is not None:
        removed = f"@{remove.removeprefix('@')}"
        there.remove_selection(removed[1:])
        show_facts({"removed": removed})
        if json:
            print_json({"removed": removed})
        return
    with Session(there.snapshot()) as session:
        rows = [_described(there, session, name) for name in there.selections()]
    if json:
        print_json(rows)
        return
    cells = [[_cell(row[column]) for column in _COLUMNS] for row in rows if "problem" not in row]
    show_table(_COLUMNS, cells)
    for row in rows:
        if "problem" in row:
            show_facts({row["name"]: row["problem"]})


def _described(store: Store, session: Session, name: str) -> dict[str, Any]:
    """A selection as the list has it, or what is wrong with it."""
    from pfgdata.errors import PfgError

    try:
        saved = store.read_selection(name)
        images = len(session.select(f"@{name}").distinct())
    except PfgError as problem:
        return {"name": f"@{name}", "problem": str(problem)}
    frozen = saved.frozen.count if saved.frozen else None
    told = f"{saved.text or 'every image'}{f' ({saved.how})' if saved.how else ''}"
    return {
        "name": f"@{name}",
        "images": images,
        "kind": _kind(saved) if frozen in (None, images) else f"frozen, {frozen - images:,} gone",
        "expression": told,
        "created": saved.created,
        "thresholds": saved.thresholds,
        "language": saved.language,
        "frozen": frozen,
    }


def _kind(saved: SavedSelection) -> str:
    return "frozen" if saved.frozen else "live"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
