"""`@NAME` in an expression: which selection is meant, and its text as an SQL condition.

DuckDB parses `@good` as an operator before a column, which binds closer than any other; none of ours is
called so, and the tree is rewritten before DuckDB looks for one.
"""

from __future__ import annotations

from typing import Any

from pfgdata.errors import QueryError
from pfgdata.query.frame import Typed
from pfgdata.query.question import Question
from pfgdata.query.tag_syntax import read_tags
from pfgdata.store import SavedSelection, Snapshot

__all__ = ["question_of", "selection_name", "sql_of"]


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


def question_of(saved: SavedSelection, snapshot: Snapshot) -> Question:
    """What the text of a selection asks of a snapshot, order and limit of its tags too.

    Raises QueryError for a language not known here, and for tags that cannot be read.
    """
    if saved.text is None:
        return Question()
    if saved.language == "tags":
        return read_tags(snapshot, saved.text)
    if saved.language != "sql":
        raise QueryError(f"is written as {saved.language}, which this pfg does not read; upgrade pfg")
    return Question(where=saved.text)


def sql_of(saved: SavedSelection, snapshot: Snapshot) -> Typed:
    """The text of a live selection as a condition. Raises QueryError as `question_of`, and for an order."""
    asked = question_of(saved, snapshot)
    if asked.order is not None or asked.limit is not None:
        raise QueryError("order: and limit: are no condition; leave them out, or --freeze what they give now")
    if asked.where is None:
        return Typed("true")
    return asked.where if isinstance(asked.where, Typed) else Typed(asked.where)
