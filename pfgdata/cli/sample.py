"""`pfgdata sample`: a balanced part of a set of images, saved under a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import CharacterThreshold, Json, Replace, Seconds, StoreOption, Threshold
from pfgdata.screen import ScreenProgress, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.similarity import SampleReport
    from pfgdata.store import SavedSelection

__all__ = ["EXAMPLE", "sample"]

EXAMPLE = 'Example: pfgdata sample balanced "@good" --per character --at-most 50 --spread'


def sample(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the sample: @NAME.")],
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="Of which images, as in pfgdata query.")],
    at_most: Annotated[int, typer.Option("--at-most", metavar="N", min=1, help="So many of each group.")],
    store: StoreOption = Path("feats"),
    threshold: Threshold = 0.35,
    character_threshold: CharacterThreshold = 0.85,
    per: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Whose values make the groups: character, rating, your own."),
    ] = "character",
    spread: Annotated[
        bool, typer.Option("--spread", help="Take images least like each other, by their features.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Another seed draws others.")] = 0,
    replace: Replace = False,
    seconds: Seconds = 60,
    json: Json = False,
) -> None:
    """Take at most N images of each character (rating, column) of those for which EXPR is true.

    They are saved as the frozen selection @NAME. By chance, or with --spread each time the one farthest from
    all taken (cosine of the features). The same seed draws the same. Images without a value are left out.
    """
    import pyarrow as pa

    from pfgdata.errors import QueryError
    from pfgdata.query import Limits, Thresholds, freeze_selection, run_query, select
    from pfgdata.similarity import SampleOptions, balanced_sample
    from pfgdata.store import Store

    there = Store.open(store)
    there.require_selection(name, replace=replace)
    chosen = Thresholds(general=threshold, character=character_threshold)
    snapshot, limits = there.snapshot(), Limits(seconds=seconds)
    selection = select(snapshot, expression, chosen, limits=limits)
    groups = run_query(snapshot, expression, thresholds=chosen, columns=[per], roots={}, limits=limits)
    if pa.types.is_nested(groups[per].type):
        raise QueryError(f"--per {per}: has lists, not one value an image; name another column")
    with ScreenProgress() as progress:
        report = balanced_sample(
            snapshot,
            selection,
            groups[per].to_pylist(),
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
