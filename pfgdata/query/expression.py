"""An expression as the user wrote it, to SQL over the columns on disk: parsed, admitted, rewritten.

Rewriting works on DuckDB's own syntax tree, never on text: `has('a')` and the names of columns are
replaced by trees of SQL that we wrote, with tag numbers in them, and all else must be on a list.
"""

from __future__ import annotations

from pfgdata.errors import QueryError
from pfgdata.query.columns import SOURCE, Thresholds
from pfgdata.query.frame import Node, Typed, admitted, closed
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.rewriter import Rewriter
from pfgdata.query.sandbox import Sandbox

__all__ = ["compile_condition", "compile_value"]


def compile_condition(
    sandbox: Sandbox, joined: JoinedColumns, typed: Typed, *, thresholds: Thresholds
) -> str:
    """`SELECT * FROM images WHERE ...` over RAW_COLUMNS, safe to run, for an expression over COLUMNS.

    Columns of `joined` that it names, or that are read already, are in the view `images` from then on.

    Raises QueryError, one line with the place, for anything that is not one condition of known names.
    """
    try:
        statement = admitted(sandbox, typed)
        condition = _rewritten(sandbox, joined, typed, thresholds, statement["node"]["where_clause"])
        kind = _type_of(sandbox, condition)
        if kind != "BOOLEAN":
            raise QueryError(
                f"the {typed.called} gives {kind}, not true or false; compare it with something, as in "
                "width >= 512"
            )
        closed(sandbox, typed)
        statement["node"]["where_clause"] = condition
        return sandbox.write(_as_tree(statement))
    except RecursionError:
        raise _too_deep(typed) from None


def compile_value(
    sandbox: Sandbox, joined: JoinedColumns, typed: Typed, *, thresholds: Thresholds
) -> tuple[str, bool]:
    """SQL over RAW_COLUMNS of a value to order by, and whether the largest comes first.

    One minus before everything says so: `-width`, and `-path`, of which SQL knows no negative. All else is
    as in `compile_condition`.
    """
    try:
        value = admitted(sandbox, typed)["node"]["where_clause"]
        descending = value.get("function_name") == "-" and len(value["arguments"]) == 1
        if descending:
            value = value["arguments"][0]["expression"]
        value = _rewritten(sandbox, joined, typed, thresholds, value)
        _type_of(sandbox, value)
        closed(sandbox, typed)
        probe = sandbox.parse("SELECT true")
        probe["statements"][0]["node"]["select_list"] = [value]
        return sandbox.write(probe).removeprefix("SELECT "), descending
    except RecursionError:
        raise _too_deep(typed) from None


def _rewritten(
    sandbox: Sandbox, joined: JoinedColumns, typed: Typed, thresholds: Thresholds, tree: Node
) -> Node:
    """The tree over RAW_COLUMNS of one over COLUMNS that is allowed and small."""
    rewritten = Rewriter(sandbox, joined, typed, thresholds, ()).allowed(tree)
    joined.join(sandbox)
    return rewritten


def _type_of(sandbox: Sandbox, value: Node) -> str:
    probe = sandbox.parse(f"SELECT true AS answer FROM {SOURCE}")
    node = probe["statements"][0]["node"]
    node["select_list"] = [{**value, "alias": "answer"}]
    return sandbox.type_of(sandbox.write(probe))


def _too_deep(typed: Typed) -> QueryError:
    return QueryError(f"the {typed.called} is nested too deeply; put it more simply")


def _as_tree(statement: Node) -> Node:
    return {"error": False, "statements": [statement]}
