"""`@NAME` in an expression: which selection is meant, and its text as an SQL condition.

DuckDB parses `@good` as an operator before a column, which binds closer than any other; none of ours is
called so, and the tree is rewritten before DuckDB looks for one.
"""

from __future__ import annotations

from typing import Any

from pfgdata.errors import QueryError
from pfgdata.query.frame import Typed
from pfgdata.store import SavedSelection

__all__ = ["selection_name", "sql_of"]


def selection_name(arguments: list[dict[str, Any]], within: tuple[str, ...]) -> str:
    """The name behind @, in an expression that stands in the selections `within`.

    Raises QueryError where it is no name, and where the selection is made of itself.
    """
    names = arguments[0].get("column_names", []) if len(arguments) == 1 else []
    if len(names) != 1:
        raise QueryError("@ stands before the name of a saved selection: @good and width >= 512")
    name = str(names[0]).lower()
    if name in within:
        chain = " -> ".join(f"@{one}" for one in (*within[within.index(name) :], name))
        raise QueryError(f"@{name} is made of itself: {chain}")
    return name


def sql_of(saved: SavedSelection) -> Typed:
    """The text of a live selection as an expression. Raises QueryError for a language not known here."""
    if saved.text is None:
        return Typed("true")
    if saved.language != "sql":
        raise QueryError(f"is written as {saved.language}, which this pfg does not read; upgrade pfg")
    return Typed(saved.text)
