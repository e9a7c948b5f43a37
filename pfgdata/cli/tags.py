"""`pfgdata tags`: which tags a set of images has, and which make it one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pfgdata.cli.options import CharacterThreshold, Json, Seconds, StoreOption, Threshold
from pfgdata.screen import ScreenProgress, print_json, show_facts, show_table

__all__ = ["EXAMPLE", "tags"]

EXAMPLE = "Example: pfgdata tags \"character = 'hatsune_miku'\" --limit 20"


def tags(
    expression: Annotated[
        str | None,
        typer.Argument(metavar="EXPR", help="Whose tags, as in pfgdata query.", show_default="all images"),
    ] = None,
    store: StoreOption = Path("feats"),
    threshold: Threshold = 0.35,
    character_threshold: CharacterThreshold = 0.85,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many tags.", rich_help_panel="Output")
    ] = 40,
    seconds: Seconds = 60,
    json: Json = False,
) -> None:
    """Count the tags of the images for which EXPR is true, those that tell them from the rest first.

    share is of these images, rest of all others, lift the one over the other. Tags are ordered by how far
    that is from chance (log-likelihood ratio); without EXPR, or where it is true of all, by their count.
    """
    from pfgdata.query import Limits, Thresholds, select, tag_shares
    from pfgdata.store import Store

    snapshot = Store.open(store).snapshot()
    chosen = Thresholds(general=threshold, character=character_threshold)
    selection = select(snapshot, expression, chosen, limits=Limits(seconds=seconds))
    with ScreenProgress() as progress:
        found = tag_shares(snapshot, selection, chosen, progress=progress)
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
