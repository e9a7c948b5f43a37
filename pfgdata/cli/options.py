"""Options that several commands share, and how a command says what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.errors import QueryError
from pfgdata.paths import user_store
from pfgdata.screen import show_facts

if TYPE_CHECKING:
    import pyarrow as pa

    from pfgdata.ingest import IngestReport
    from pfgdata.query import Question
    from pfgdata.store import SetFeatures, Store

__all__ = [
    "ASKED",
    "ASKED_BOUNDS",
    "CharacterThreshold",
    "DryRun",
    "Features",
    "Json",
    "Replace",
    "StoreArgument",
    "StoreOption",
    "Threshold",
    "Where",
    "counted",
    "features_of",
    "require_one",
    "show_failures",
    "show_notes",
    "values_of",
]

_STORE_HELP = "The store: a folder, or s3://BUCKET/NAME."
_ROWS, _OUTPUT = "Which images", "Output"

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="PFG_STORE", parser=user_store, help=_STORE_HELP)
]
StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", envvar="PFG_STORE", parser=user_store, help=_STORE_HELP)
]
Threshold = Annotated[
    float,
    typer.Option("--threshold", help="General tags count from this score on.", rich_help_panel=_ROWS),
]
CharacterThreshold = Annotated[
    float,
    typer.Option("--character-threshold", help="Characters count from this score on.", rich_help_panel=_ROWS),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="Only images for which this is true, as pfgdata query takes it.",
        show_default="all",
        rich_help_panel=_ROWS,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="LABEL",
        help="Compare by the features of this set, as pfgdata features made it.",
        show_default="the tagger's own",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=_OUTPUT)
]
Replace = Annotated[bool, typer.Option("--replace", help="Also where there is one of that name already.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=_OUTPUT)
]

ASKED = {_ROWS: "tags threshold character_threshold", "Speed": "seconds"}  # of QueryJob: what a set is of
ASKED_BOUNDS: dict[str, Mapping[str, Any]] = {
    "tags": {"metavar": "TAGS", "show_default": False},
    "seconds": {"metavar": "N"},
}

_SHOWN_FAILURES = 10  # the rest is in --json


def require_one(expression: str | None, tags: str | None) -> None:
    """Refuse a command that has both EXPR and --tags, or neither."""
    if (expression is None) == (tags is None):
        raise typer.BadParameter("give EXPR or --tags, one of them")


def values_of(column: pa.Array | pa.ChunkedArray, *, called: str, instead: str) -> list[Any]:
    """The values of a column as Python's, maps as dicts.

    Raises QueryError for a value that Python has none for: do `instead`.
    """
    try:
        values: list[Any] = _to_the_microsecond(column).to_pylist(maps_as_pydicts="strict")
    except OverflowError:
        raise QueryError(f"{called}: has a date or time beyond the years 1 to 9999; {instead}") from None
    except ValueError:
        raise QueryError(f"{called}: has a time to the nanosecond; {instead}") from None
    except TypeError:
        raise QueryError(f"{called}: has maps whose keys are lists, maps or structs; {instead}") from None
    return values


def _to_the_microsecond(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Times as Python has them, whether pandas is installed or not. Raises ValueError for finer ones."""
    import pyarrow as pa

    kind = column.type
    if getattr(kind, "unit", None) != "ns":
        return column
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz))
    return column.cast(pa.time64("us") if pa.types.is_time(kind) else pa.duration("us"))


def features_of(store: Store, label: str | None) -> SetFeatures | None:
    """The features of the set called `label`; None of the tagger's own. Raises StoreError for no such set."""
    from pfgdata.store import SetFeatures, feature_set

    found = None if label is None else feature_set(store, label)
    return None if found is None else SetFeatures(found)


def counted(report: IngestReport) -> str:
    """The sum of a report, in a line."""
    parts = {name: getattr(report, name) for name in ("tagged", "copied", "unchanged", "failed", "pending")}
    return f"{report.found:,} = " + " + ".join(f"{value:,} {name}" for name, value in parts.items())


def show_notes(question: Question) -> None:
    """Say on stderr what one should know of how the question was read."""
    if question.notes:
        show_facts({"note": "; ".join(question.notes)})


def show_failures(failures: Sequence[tuple[str, str, str]]) -> None:
    """Name the images that could not be used, (file, kind, reason), on stderr."""
    for file, kind, reason in failures[:_SHOWN_FAILURES]:
        show_facts({f"failed ({kind})": f"{file}: {reason}"})
    if len(failures) > _SHOWN_FAILURES:
        show_facts({"failed": f"and {len(failures) - _SHOWN_FAILURES} more; --json names them all"})
