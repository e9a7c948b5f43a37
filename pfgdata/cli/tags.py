"""`pfgdata tags`: which tags a set of images has, and which make it one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pfgdata.cli.options import ASKED, ASKED_BOUNDS, Json, StoreOption, require_one, show_notes
from pfgdata.flags import from_fields
from pfgdata.query import QueryJob
from pfgdata.screen import print_json, show_facts, show_table

__all__ = ["EXAMPLE", "tags"]

EXAMPLE = "Example: pfgdata tags \"character = 'hatsune_miku'\" --limit 20"


@from_fields(QueryJob, ASKED, more=ASKED_BOUNDS)
def tags(
    expression: Annotated[
        str | None,
        typer.Argument(metavar="EXPR", help="Whose tags, as in pfgdata query.", show_default="all images"),
    ] = None,
    store: StoreOption = Path("feats"),
    *,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many tags.", rich_help_panel="Output")
    ] = 40,
    json: Json = False,
    **asked: Any,
) -> None:
    """Count the tags of the images that EXPR or --tags select, those that tell them from the rest first.

    share is of these images, rest of all others, lift the one over the other. Tags are ordered by how far
    that is from chance (log-likelihood ratio); without EXPR, or where it is true of all, by their count.
    """
    if expression is not None:
        require_one(expression, asked["tags"])
    from pfgdata.query import tag_shares
    from pfgdata.store import Store

    job = QueryJob(expression=expression, **asked)
    with job.session(Store.open(store)) as session:
        question = job.question(session.snapshot)
        show_notes(question)
        found = tag_shares(session, question)
    shown = found.tags[:limit]
    if json:
        print_json({"images": found.images, "total": found.total, "tags": [one.as_dict() for one in shown]})
        return
    show_table(
        ("tag", "kind", "count", "share", "rest", "lift"),
        (
            [
                one.tag,
                one.kind,
                f"{one.count:,}",
                f"{one.share:.1%}",
                f"{one.rest:.1%}",
                "" if one.lift is None else f"{one.lift:.2f}",
            ]
            for one in shown
        ),
    )
    show_facts({"images": f"{found.images:,} of {found.total:,}"})
