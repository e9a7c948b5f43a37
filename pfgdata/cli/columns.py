"""`pfgdata attach`, `columns` and `detach`: values of one's own beside the images, asked as any other."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import Json, Replace, StoreArgument, StoreOption
from pfgdata.paths import user_path
from pfgdata.screen import ScreenProgress, print_json, show_facts, show_table

if TYPE_CHECKING:
    from pfgdata.ingest import PostsReport
    from pfgdata.store import Snapshot, Store

__all__ = ["EXAMPLE", "LEAVE_EXAMPLE", "LIST_EXAMPLE", "attach", "columns", "detach"]

EXAMPLE = (
    "Examples: pfgdata attach aesthetic scores.csv --key path --value score, then pfgdata query"
    ' "aesthetic > 6"; pfgdata attach danbooru ./images, then pfgdata query "danbooru_score > 10"'
)
LIST_EXAMPLE = "Example: pfgdata columns feats/"
LEAVE_EXAMPLE = "Example: pfgdata detach aesthetic"
_COLUMNS = ("name", "type", "images", "rows")
_SHOWN = 5


class Key(StrEnum):
    """What names the image of a row."""

    PATH = "path"
    CONTENT_ID = "content_id"
    STEM = "stem"


def attach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The column's name, or danbooru or gelbooru.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=user_path,
            help="A .parquet, .csv, .tsv or .jsonl file; for danbooru or gelbooru a folder of the corpus.",
        ),
    ],
    store: StoreOption = Path("feats"),
    key: Annotated[
        Key | None,
        typer.Option(
            help="The file's column that names the images; a stem is a name without folder and extension.",
            show_default="the first there is of content_id, path, stem",
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The file's column to attach.", show_default="the only other, or NAME"
        ),
    ] = None,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Attach values of your own to the images: scores, labels, splits, a site's posts.

    The column can be named in every EXPR and in --columns; images without a value have null. A path is as the
    store has it, below the corpus (beside it root and member, if the file has them), or absolute. danbooru
    and gelbooru read the JSON that gallery-dl writes beside images (x.jpg.json or x.json) into columns: tags,
    artists, characters, copyrights, score, favorites, rating, id, parent_id, source, md5 and created_at, each
    after the site's name and a _.
    """
    from pfgdata.ingest import SITES

    if name in SITES and user_path(file).is_dir():
        if key or value:
            raise typer.BadParameter(f"--key and --value are of tables; {name} goes by the images' own names")
        _attach_posts(store, name, file, replace=replace, json=json)
        return
    from pfgdata.exchange import attach_file
    from pfgdata.store import Store

    if file.is_dir():
        raise typer.BadParameter(f"{file}: is a folder; name a file, or attach danbooru or gelbooru from it")
    report = attach_file(Store.open(store), name, file, key=key and str(key), value=value, replace=replace)
    show_facts(
        {name: f"{report.type}, of {report.images:,} images, from {report.rows:,} rows by {report.key}"}
    )
    if report.unmatched:
        show_facts(
            {"unmatched": f"{report.unmatched:,} rows are of no image, first: {report.first_unmatched}"}
        )
    if json:
        print_json(report.as_dict())


def columns(store: StoreArgument = Path("feats"), json: Json = False) -> None:
    """List the columns of your own: their types, and how many images have a value."""
    from pfgdata.store import Store

    there = Store.open(store)
    snapshot = there.snapshot()
    rows = [_described(there, snapshot, name) for name in there.columns()]
    if json:
        print_json(rows)
        return
    show_table(
        _COLUMNS,
        (
            [row["name"], row["type"], f"{row['images']:,}", f"{row['rows']:,}"]
            for row in rows
            if "problem" not in row
        ),
    )
    for row in rows:
        if "problem" in row:
            show_facts({row["name"]: row["problem"]})


def detach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The column to delete.")],
    store: StoreOption = Path("feats"),
) -> None:
    """Delete a column of your own; no image and no other file is touched."""
    from pfgdata.store import Store

    Store.open(store).remove_column(name)
    show_facts({"detached": name})


def _described(store: Store, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """A column as the list has it, or what is wrong with it."""
    from pfgdata.errors import StoreError

    try:
        rows = store.read_column(name)
        values = store.column_values(name, snapshot, snapshot.everything)
    except StoreError as problem:
        return {"name": name, "problem": str(problem)}
    images = len(values) - values.null_count
    return {"name": name, "type": str(values.type), "images": images, "rows": rows.num_rows}


def _attach_posts(store: Path, site: str, folder: Path, *, replace: bool, json: bool) -> None:
    from pfgdata.corpus import WalkOptions, plan_segments
    from pfgdata.ingest import attach_posts
    from pfgdata.store import Store

    there = Store.open(store)
    segments = plan_segments([folder], there.roots(), options=WalkOptions(archives=True))
    with ScreenProgress() as progress:
        report = attach_posts(there, site, segments, replace=replace, progress=progress)
    _show(report)
    if json:
        print_json(report.as_dict())


def _show(report: PostsReport) -> None:
    show_facts({"posts": f"of {report.posts:,} images; {report.without:,} images have none"})
    show_facts(
        {"columns": ", ".join(f"{name} ({count:,})" for name, count in report.columns.items()) or "none"}
    )
    if report.orphans:
        show_facts(
            {"unmatched": f"{len(report.orphans):,} JSON files are of no image, first: {report.orphans[0]}"}
        )
    for file, reason in report.warnings[:_SHOWN]:
        show_facts({"unread": f"{file}: {reason}"})
    if len(report.warnings) > _SHOWN:
        show_facts({"unread": f"and {len(report.warnings) - _SHOWN:,} more; --json names them all"})
