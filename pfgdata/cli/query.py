"""`pfgdata query`: the images for which an SQL condition is true, as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import StoreOption
from pfgdata.flags import from_fields
from pfgdata.paths import is_text, user_path
from pfgdata.query import QueryJob
from pfgdata.screen import on_terminal, print_json, print_line, show_facts, show_table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXAMPLE", "query"]

EXAMPLE = "Example: pfgdata query \"character = 'hatsune_miku' and has('smile') and width >= 512\" --limit 5"
SHORT_COLUMNS = ("file", "width", "height", "rating", "character", "tags")  # of a table for people
_SCREEN_ROWS = 40  # drawn on a terminal without --limit
_SCREEN_TAGS = 6  # of a list, on a terminal
_BATCH_ROWS = 10_000  # turned into Python values at a time
_OUTPUT = "Output"


Expression = Annotated[
    str,
    typer.Argument(
        metavar="EXPR",
        help="An SQL condition over columns, the lists tags and characters, score('TAG') and has('TAG').",
    ),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line.", rich_help_panel=_OUTPUT)
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print CSV; tags separated by spaces.", rich_help_panel=_OUTPUT)
]
Parquet = Annotated[
    Path | None,
    typer.Option(metavar="FILE", parser=user_path, help="Write a Parquet file.", rich_help_panel=_OUTPUT),
]
Count = Annotated[
    bool, typer.Option("--count", help="Print only how many there are.", rich_help_panel=_OUTPUT)
]
_PANELS = {
    "Which images": "threshold character_threshold limit",
    _OUTPUT: "columns",
    "Speed": "seconds",
}
_BOUNDS: dict[str, dict[str, Any]] = {
    "limit": {"min": 0},
    "columns": {"metavar": "A,B"},
    "seconds": {"metavar": "N"},
}


@from_fields(QueryJob, _PANELS, more=_BOUNDS)
def query(
    expression: Expression,
    store: StoreOption = Path("feats"),
    *,
    as_json: JsonLines = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
    count: Count = False,
    **asked: Any,
) -> None:
    """Print the images for which EXPR is true, in the order of their paths.

    character is the best character tag if its score reaches --character-threshold; has('TAG') looks at all
    tags over their threshold; score('TAG') is 0 below the store's floor; similar_to('PATH') is how like each
    is to that stored image, -1 to 1. Columns: file, root, path, member, content_id, size, mtime_ns, width,
    height, format, frames, phash, rating, character, character_score, tags, characters, shard, row. Columns
    of your own can be named too. On a terminal a table of the first rows is drawn; into a pipe all rows go,
    separated by tabs. A query may take so many --seconds, and half of the machine's memory.
    """
    if parquet and not is_text(parquet):
        raise typer.BadParameter(f"--parquet {parquet}: is not a UTF-8 path; name the file otherwise")
    if as_json + as_csv + count + (parquet is not None) > 1:
        raise typer.BadParameter("--json, --csv, --parquet and --count exclude each other")
    from pfgdata.query import COLUMNS, Limits, Thresholds, locations, run_query
    from pfgdata.query import count as count_rows
    from pfgdata.store import Store

    there = Store.open(store)
    job = QueryJob(expression=expression, **asked)
    chosen = Thresholds(general=job.threshold, character=job.character_threshold)
    snapshot = there.snapshot()
    limits = Limits(seconds=job.seconds)
    if count:
        found = count_rows(snapshot, expression, chosen, limits=limits)
        print(found if job.limit is None else min(found, job.limit))
        return
    as_table = not (as_json or as_csv or parquet)
    cut = as_table and job.limit is None and on_terminal()
    table = run_query(
        snapshot,
        expression,
        thresholds=chosen,
        columns=job.names(SHORT_COLUMNS if as_table else COLUMNS),
        roots=locations(there.roots(), start=Path.cwd()),
        limits=replace(limits, rows=_SCREEN_ROWS if cut else job.limit),
    )
    if as_json:
        _print_json(table)
    elif as_csv:
        _print_csv(table)
    elif parquet:
        _write_parquet(table, parquet)
    else:
        _print_table(table)
        if cut and table.num_rows == _SCREEN_ROWS:
            found = count_rows(snapshot, expression, chosen, limits=limits)
            show_facts({"shown": f"{table.num_rows} of {found:,}; --limit N, --json or --csv for more"})


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as plain values: ids as text, scores with the digits that float16 has."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        columns = (
            [_plain(value, as_score=field.type == "float") for value in column.to_pylist()]
            for field, column in zip(batch.schema, batch.columns, strict=True)
        )
        yield from zip(*columns, strict=True)


def _plain(value: Any, *, as_score: bool) -> Any:
    """`value` as JSON has it; `as_score` with five digits, from which any float16 comes back."""
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            return value
        return [_plain(item, as_score=as_score) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if as_score else value
    return value if value is None or isinstance(value, (int, str)) else str(value)


def _print_json(table: pa.Table) -> None:
    for row in _rows(table):
        print_json(dict(zip(table.column_names, row, strict=True)))


def _print_csv(table: pa.Table) -> None:
    line = io.StringIO(newline="")
    writer = csv.writer(line, lineterminator="\r\n")  # it quotes the letters of this: a bare \r in a name too
    for row in itertools.chain([table.column_names], _rows(table)):
        line.seek(0)
        line.truncate()
        writer.writerow(_spaced(value) if isinstance(value, list) else value for value in row)
        print_line(line.getvalue().removesuffix("\r\n"))


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")
    show_facts({"wrote": f"{table.num_rows:,} rows to {path}"})


def _print_table(table: pa.Table) -> None:
    few = on_terminal()
    show_table(table.column_names, ([_cell(value, few=few) for value in row] for row in _rows(table)))


def _cell(value: Any, *, few: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, list):
        return str(value)
    if few and len(value) > _SCREEN_TAGS:
        return f"{_spaced(value[:_SCREEN_TAGS])} +{len(value) - _SCREEN_TAGS}"
    return _spaced(value)


def _spaced(items: list[Any]) -> str:
    return " ".join(map(str, items))
