"""`pfgdata sample`: a balanced part of a set of images, saved under a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import (
    ASKED,
    ASKED_BOUNDS,
    Json,
    Replace,
    StoreOption,
    require_one,
    show_notes,
    values_of,
)
from pfgdata.flags import from_fields
from pfgdata.query import QueryJob
from pfgdata.screen import ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.similarity import SampleReport
    from pfgdata.store import SavedSelection

__all__ = ["EXAMPLE", "sample"]

EXAMPLE = 'Example: pfgdata sample balanced "@good" --per character --at-most 50 --spread'


@from_fields(QueryJob, ASKED, more=ASKED_BOUNDS)
def sample(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the sample: @NAME.")],
    expression: Annotated[
        str | None,
        typer.Argument(metavar="EXPR", help="Of which images, as in pfgdata query.", show_default=False),
    ] = None,
    store: StoreOption = Path("feats"),
    *,
    at_most: Annotated[int, typer.Option("--at-most", metavar="N", min=1, help="So many of each group.")],
    per: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Whose values make the groups: character, rating, your own."),
    ] = "character",
    spread: Annotated[
        bool, typer.Option("--spread", help="Take images least like each other, by their features.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Another seed draws others.")] = 0,
    replace: Replace = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Take at most N images of each character (rating, column) of those that EXPR or --tags select.

    They are saved as the frozen selection @NAME. By chance, or with --spread each time the one farthest from
    all taken (cosine of the features). The same seed draws the same. Images without a value are left out.
    """
    require_one(expression, asked["tags"])
    import pyarrow as pa

    from pfgdata.errors import QueryError
    from pfgdata.query import freeze_selection, require_free_name
    from pfgdata.similarity import SampleOptions, balanced_sample
    from pfgdata.store import Store

    there, job = Store.open(store), QueryJob(expression=expression, **asked)
    require_free_name(there, name, replace=replace)
    with job.session(there) as session:
        question, snapshot = job.question(session.snapshot), session.snapshot
        show_notes(question)
        selection = session.select(question)
        groups = session.rows(question, columns=[per])
    if pa.types.is_nested(groups[per].type):
        raise QueryError(f"--per {per}: has lists, not one value an image; name another column")
    values = values_of(groups[per], called=f"--per {per}", instead="name another column")
    with ScreenProgress() as progress:
        report = balanced_sample(
            snapshot,
            selection,
            values,
            SampleOptions(at_most=at_most, spread=spread, seed=seed),
            progress=progress,
        )
    how = f"sample --per {per} --at-most {at_most}{' --spread' if spread else ''} --seed {seed}"
    saved = freeze_selection(there, name, report.chosen, how=how, replace=replace)
    _show(saved, report, per, json=json)


def _show(saved: SavedSelection, report: SampleReport, per: str, *, json: bool) -> None:
    taken = f"{len(report.chosen):,} of {report.images:,} images"
    show_facts(
        {
            f"@{saved.name}": f"{taken}, frozen",
            "groups": f"{report.groups:,} by {per}, {report.full:,} of them with more images than were taken",
        }
    )
    if report.without:
        show_facts({"left out": f"{report.without:,} images without {per}"})
    if json:
        print_json(
            {
                **saved.as_dict(),
                "images": len(report.chosen),
                "of": report.images,
                "groups": report.groups,
                "full": report.full,
                "without": report.without,
            }
        )
