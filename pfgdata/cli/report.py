"""`pfgdata report`: what a store is, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import ASKED, ASKED_BOUNDS, Json, StoreArgument, Where, show_notes
from pfgdata.flags import from_fields
from pfgdata.paths import user_path
from pfgdata.query import QueryJob
from pfgdata.screen import ScreenProgress, duration, print_json, print_line, show_facts

if TYPE_CHECKING:
    from pfgdata.report import StoreReport

__all__ = ["EXAMPLE", "report"]

EXAMPLE = (
    "Examples: pfgdata report feats/ -o report.html; pfgdata report --where \"rating = 'general'\" --json"
)
_PAGE = "report.html"
_STDOUT = "-"


@from_fields(QueryJob, ASKED, more=ASKED_BOUNDS)
def report(
    store: StoreArgument = Path("feats"),
    where: Where = None,
    *,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The page, - for stdout.",
            show_default=f"{_PAGE}, none with --json",
            rich_help_panel="Output",
        ),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=240, help="So many pictures to open with.", rich_help_panel="Output"
        ),
    ] = 24,
    duplicates: Annotated[
        bool,
        typer.Option(
            "--duplicates", help="Look for near copies too: reads their pictures.", rich_help_panel="Output"
        ),
    ] = False,
    json: Json = False,
    **asked: Any,
) -> None:
    """Write one page that says what a store is: pictures, then figures; or the figures as JSON.

    Counts, ratings, tags and characters, scores, sizes and what buckets would cut away and enlarge, columns
    of your own, failures by reason, copies, and how fast each ingest was. --where and --tags choose the
    images; failures and ingests are always the whole store's. The page is one file: no script, no network.
    """
    if out == _STDOUT and json:
        raise typer.BadParameter("--json and -o - both go to stdout; name a file for the page")
    from datetime import UTC, datetime

    from pfgdata.report import ReportOptions, report_page, report_store, require_place, write_page
    from pfgdata.store import Store

    path = user_path(out or _PAGE) if out != _STDOUT and (out or not json) else None
    if path:
        require_place(path)
    there, job = Store.open(store), QueryJob(expression=where, **asked)
    options = ReportOptions(pictures=pictures, duplicates=duplicates)
    with job.session(there) as session, ScreenProgress() as progress:
        question = job.question(session.snapshot)
        show_notes(question)
        found = report_store(
            there, session, question, options=options, now=datetime.now(UTC), progress=progress
        )
    if path:
        write_page(path, report_page(found))
    elif not json:
        for line in report_page(found).removesuffix("\n").split("\n"):
            print_line(line)
    show_facts(_facts(found, path))
    if json:
        print_json(found.as_dict())


def _facts(found: StoreReport, path: Path | None) -> dict[str, str]:
    facts = {"report": f"of {found.images:,} of {found.total:,} images, {found.failed:,} failed"}
    if found.examples_not_read:
        facts["not read"] = f"{found.examples_not_read:,} pictures to show: their files are gone, or changed"
    if path:
        facts["page"] = str(path)
    return {**facts, "took": duration(found.seconds)}
