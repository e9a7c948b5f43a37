"""`pfgdata query`: the images for which an SQL condition is true, as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.options import ASKED_BOUNDS, StoreOption, show_notes, values_of
from pfgdata.errors import QueryError
from pfgdata.flags import from_fields
from pfgdata.paths import is_text, user_path
from pfgdata.query import QueryJob
from pfgdata.screen import on_terminal, print_json, print_line, show_facts, show_table

if TYPE_CHECKING:
    import pyarrow as pa

    from pfgdata.query import Question

__all__ = ["EXAMPLE", "query"]

EXAMPLE = "Example: pfgdata query \"character = 'hatsune_miku' and has('smile') and width >= 512\" --limit 5"
SHORT_COLUMNS = ("file", "width", "height", "rating", "character", "tags")  # of a table for people
_SCREEN_ROWS = 40  # drawn on a terminal without --limit
_SCREEN_TAGS = 6  # of a list, on a terminal
_BATCH_ROWS = 10_000  # turned into Python values at a time
_OUTPUT = "Output"
_SHOWN_BYTES = frozenset(range(32, 127)).difference(b"\\'\"")  # as they are; SQL writes others as \xNN

_ROWS = "Which images"
Expression = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPR",
        help="An SQL condition over columns, the lists tags and characters, score('TAG') and has('TAG').",
        show_default=False,
    ),
]
Sql = Annotated[
    str | None,
    typer.Option(
        "--sql",
        metavar="SELECT",
        help="Instead of EXPR, one whole SELECT over the views images, tags, failures, latents, columns.",
        show_default=False,
        rich_help_panel=_ROWS,
    ),
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain", help="Print the condition that is asked, and ask nothing.", rich_help_panel=_OUTPUT
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
    _ROWS: "tags order sample seed threshold character_threshold limit",
    _OUTPUT: "columns",
    "Speed": "seconds",
}
_BOUNDS: dict[str, Mapping[str, Any]] = {
    **ASKED_BOUNDS,
    "order": {"metavar": "COLUMN|-COLUMN|EXPR"},
    "sample": {"metavar": "N", "min": 0},
    "seed": {"metavar": "S"},
    "limit": {"min": 0},
    "columns": {"metavar": "A,B"},
}


@from_fields(QueryJob, _PANELS, more=_BOUNDS)
def query(
    expression: Expression = None,
    store: StoreOption = Path("feats"),
    *,
    sql: Sql = None,
    explain: Explain = False,
    as_json: JsonLines = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
    count: Count = False,
    **asked: Any,
) -> None:
    """Print the images for which EXPR is true, or that have the --tags, in the order of their paths.

    character is the best character tag if its score reaches --character-threshold; has('TAG') looks at all
    tags over their threshold; score('TAG') is 0 below the store's floor; similar_to('PATH') is how like each
    is to that stored image, -1 to 1. Columns: file, root, path, member, content_id, size, mtime_ns, width,
    height, format, frames, phash, rating, character, character_score, tags, characters, shard, row. Columns
    of your own can be named too. On a terminal a table of the first rows is drawn; into a pipe all rows go,
    separated by tabs. A query may take so many --seconds, and half of the machine's memory. docs/query.md
    has both languages side by side, and the views of --sql.
    """
    if (expression, asked["tags"], sql).count(None) != 2:
        raise typer.BadParameter("give EXPR, --tags or --sql, one of them")
    if sql is not None and (
        explain or any(asked[name] is not None for name in ("order", "columns", "sample"))
    ):
        raise typer.BadParameter("--sql says itself what to show: no --columns, --order, --sample, --explain")
    if parquet and not is_text(parquet):
        raise typer.BadParameter(f"--parquet {parquet}: is not a UTF-8 path; name the file otherwise")
    if max(as_json, explain) + as_csv + count + (parquet is not None) > 1:
        raise typer.BadParameter("--json, --csv, --parquet, --count and --explain exclude each other")
    from pfgdata.query import COLUMNS
    from pfgdata.store import Store

    there, job = Store.open(store), QueryJob(expression=expression, **asked)
    as_table = not (as_json or as_csv or parquet)
    cut = as_table and job.limit is None and on_terminal()
    rows = _SCREEN_ROWS if cut and not count else job.limit
    with job.session(there) as session:
        if sql is not None:
            table = session.sql(sql, limit=rows)
            if count:
                print(table.num_rows)
                return
            _show(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
            if cut and table.num_rows == _SCREEN_ROWS:
                show_facts({"shown": f"the first {table.num_rows}; --limit N, --json or --csv for more"})
            return
        question = job.question(session.snapshot)
        show_notes(question)
        if explain:
            session.check(question)
            _explain(question, as_json=as_json)
            return
        if count:
            found = session.count(question)
            print(found if job.limit is None else min(found, job.limit))
            return
        columns = job.names(SHORT_COLUMNS if as_table else COLUMNS)
        table = session.rows(question, columns=columns, limit=rows)
        _show(table, as_json=as_json, as_csv=as_csv, parquet=parquet)
        if cut and table.num_rows == _SCREEN_ROWS:
            found = session.count(question)
            show_facts({"shown": f"{table.num_rows} of {found:,}; --limit N, --json or --csv for more"})


def _show(table: pa.Table, *, as_json: bool, as_csv: bool, parquet: Path | None) -> None:
    if as_json:
        _print_json(table)
    elif as_csv:
        _print_csv(table)
    elif parquet:
        _write_parquet(table, parquet)
    else:
        _print_table(table)


def _explain(question: Question, *, as_json: bool) -> None:
    """The condition on stdout, and what is asked beside it: on stderr, or all as one JSON object."""
    beside = {name: getattr(question, name) for name in ("order", "sample", "seed", "limit")}
    if as_json:
        print_json({"where": question.condition, **beside})
        return
    print_line(question.condition or "true")
    if question.sample is None:
        del beside["seed"]
    show_facts({name: value for name, value in beside.items() if value is not None})


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as plain values: ids as text, scores with the digits that float16 has."""
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        columns = (
            [_plain(value, as_score=field.type == "float") for value in _values(field.name, column)]
            for field, column in zip(batch.schema, batch.columns, strict=True)
        )
        yield from zip(*columns, strict=True)


def _values(name: str, column: pa.Array) -> list[Any]:
    return values_of(
        column, called=name, instead=f"show it as text: {name}::VARCHAR in --sql, or use --parquet"
    )


def _plain(value: Any, *, as_score: bool) -> Any:
    """`value` as JSON has it; `as_score` with five digits, from which any float16 comes back.

    Bytes and durations are the text that SQL casts them to, which a condition takes back.
    """
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            return value
        return [_plain(item, as_score=as_score) for item in value]
    if isinstance(value, dict):
        return {_key(name): _plain(item, as_score=as_score) for name, item in value.items()}
    if isinstance(value, Decimal):
        return float(value) if value.as_tuple().exponent else int(value)
    if isinstance(value, float):
        return float(f"{value:.5g}") if as_score else value
    if isinstance(value, bytes):
        return "".join(chr(byte) if byte in _SHOWN_BYTES else f"\\x{byte:02X}" for byte in value)
    if isinstance(value, tuple):  # of an interval: there is no other
        return _duration(*value)
    return value if value is None or isinstance(value, (int, str)) else str(value)


def _key(value: Any) -> str | int:
    """A key of a map or name of a struct's field, as JSON takes it."""
    plain: str | int | None = _plain(value, as_score=False)
    return plain if isinstance(plain, (str, int)) else str(plain)


def _duration(months: int, days: int, nanoseconds: int) -> str:
    """An interval as SQL writes it: 1 year 2 months 3 days 04:05:06.5."""
    years, months = (count if months >= 0 else -count for count in divmod(abs(months), 12))
    named = {"year": years, "month": months, "day": days}
    words = [f"{count} {unit}{'s' * (abs(count) != 1)}" for unit, count in named.items() if count]
    if nanoseconds or not words:
        seconds, part = divmod(abs(nanoseconds) // 1000, 1_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        words.append(f"{'-' * (nanoseconds < 0)}{clock}{f'.{part:06}'.rstrip('0') if part else ''}")
    return " ".join(words)


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(table, path, compression="zstd")
    except pa.ArrowNotImplementedError as problem:
        path.unlink(missing_ok=True)
        raise QueryError(f"Parquet has no type for a column: {problem}; cast it, as in x::VARCHAR") from None
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
