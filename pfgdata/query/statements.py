"""One SELECT over the views of a store: its tree is walked, and what is not listed is refused.

Names of views become our own (`_images`), so that a query given a view's name and DuckDB's own tables stay
apart; what is run is written anew from the tree, and parses to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pfgdata.errors import QueryError
from pfgdata.query.allowed import CLASSES, FUNCTIONS, REFUSED, TAG_FUNCTIONS, TYPES, is_listed
from pfgdata.query.frame import Node, Typed, parsed
from pfgdata.query.growth import Measured, Values
from pfgdata.query.sandbox import Sandbox
from pfgdata.records import did_you_mean, nearest

__all__ = ["admitted_statement"]

_CLASSES = CLASSES | {"SUBQUERY", "WINDOW", "STAR"}
_AGGREGATES = """
    count count_star sum avg mean min max median mode stddev stddev_samp stddev_pop variance var_samp var_pop
    first last any_value arg_min arg_max min_by max_by bool_and bool_or bit_and bit_or bit_xor count_if
    string_agg group_concat list array_agg quantile quantile_cont quantile_disc approx_count_distinct
    approx_quantile corr covar_pop covar_samp regr_slope regr_intercept regr_r2 skewness kurtosis entropy
    product geomean grouping
"""
_WINDOWS = """
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
"""
_MORE = """
    unnest to_days to_hours to_minutes to_seconds to_months to_years date_diff datediff
    list_sum list_avg list_min list_max list_count
"""
_FUNCTIONS = FUNCTIONS.union(*(words.split() for words in (_AGGREGATES, _WINDOWS, _MORE)))
_QUERIES = ("SELECT_NODE", "SET_OPERATION_NODE")
_JOINS = ("REGULAR", "NATURAL", "CROSS", "ASOF")
_SIMPLE = frozenset(  # types of what is neither a query nor an expression
    {
        "ORDER_MODIFIER",
        "LIMIT_MODIFIER",
        "DISTINCT_MODIFIER",
        "ORDER_DEFAULT",
        "ASCENDING",
        "DESCENDING",
    }
)
_REFUSED = REFUSED | {  # beside classes, types of queries and tables
    "RECURSIVE_CTE_NODE": "a recursive query",
    "SHOW_REF": "DESCRIBE, SUMMARIZE or SHOW",
    "TABLE_FUNCTION": "a table function",
    "PIVOT": "PIVOT",
}
_SYSTEM = frozenset(  # names that DuckDB answers where no column is called so
    f"current_{what}" for what in ("catalog", "date", "role", "schema", "time", "timestamp", "user")
) | {"localtime", "localtimestamp", "session_user", "user"}
_MOST_QUERIES = 100  # in one statement
_EXAMPLE = "SELECT rating, count(*) FROM images GROUP BY rating"
_OTHER = "only one SELECT is answered: nothing else, and nothing that changes data or settings"


def admitted_statement(
    sandbox: Sandbox, text: str, views: Mapping[str, Collection[str]], values: Values
) -> tuple[str, frozenset[str], frozenset[str] | None]:
    """SQL that is safe to run for one SELECT over `views` (name -> its columns), and what of them it names.

    That is which views, each called by its name with _ before in the SQL, and which columns: None where it
    takes whole rows, as `SELECT *` does. `values` gives those of a user's column, to bound what an
    expression makes of them. Raises QueryError, one line with the place.
    """
    typed = Typed(text, "SELECT", before="")
    answer = parsed(sandbox, typed, example=_EXAMPLE, other=_OTHER)
    if len(answer["statements"]) != 1:
        raise QueryError(f"{len(answer['statements'])} statements; only one SELECT is answered")
    walk = _Walk(typed, views, values)
    try:
        walk.query(answer["statements"][0]["node"], frozenset())
        return sandbox.write(answer), frozenset(walk.named), _columns_of(answer)
    except RecursionError:
        raise QueryError("the SELECT is nested too deeply; put it more simply") from None


class _Walk:
    """Walks one statement; `scope` holds the queries that WITH has named so far."""

    def __init__(self, typed: Typed, views: Mapping[str, Collection[str]], values: Values) -> None:
        self.named: set[str] = set()
        self.refusal = typed.refusal
        self._views = views
        self._measured = Measured(typed.refusal, values)
        self._queries = 0
        self._known: frozenset[str] = frozenset()
        self._tables: frozenset[str] = frozenset(views)

    def query(self, node: Node, scope: frozenset[str]) -> None:
        """Check a SELECT or a UNION of them; its views are renamed in place."""
        if not self._queries:
            self._known = self._names(node)
        self._queries += 1
        if self._queries > _MOST_QUERIES:
            raise QueryError(f"the SELECT has over {_MOST_QUERIES} queries in it; ask in parts")
        if node["type"] not in _QUERIES:
            raise self._not_allowed(node)
        self._no_sample(node)
        for entry in node["cte_map"]["map"]:
            value = entry["value"]
            if value["key_targets"] or value["payload_aggregates"]:
                raise QueryError("a query of WITH that takes USING KEY is not allowed here")
            self.query(value["query_node"], scope)
            scope |= {str(entry["key"]).lower()}
        if node["type"] == "SET_OPERATION_NODE":
            sides = [*node["children"], *(node[side] for side in ("left", "right") if node.get(side))]
            for side in sides:
                self.query(side, scope)
        else:
            self._table(node["from_table"], scope)
        done = ("cte_map", "children", "left", "right", "from_table", "sample", "type")
        self._walk(node.get("select_list"), scope)  # first: what orders or groups names what it makes
        for key, value in node.items():
            if key not in (*done, "select_list"):
                self._walk(value, scope)

    def _table(self, ref: Node, scope: frozenset[str]) -> None:
        kind = ref["type"]
        self._no_sample(ref)
        if kind == "BASE_TABLE":
            self._view(ref, scope)
        elif kind == "JOIN":
            if ref["ref_type"] not in _JOINS or ref["nearest_count"] != 1 or ref["ranking_expression"]:
                raise self.refusal(ref, "this kind of join is not allowed here")
            self._table(ref["left"], scope)
            self._table(ref["right"], scope)
            self._walk(ref["condition"], scope)
        elif kind == "SUBQUERY":
            self.query(ref["subquery"]["node"], scope)
        elif kind == "EXPRESSION_LIST":  # DuckDB writes it with a name that it then reads as something else
            (first, *_), *_ = ref["values"]
            raise self.refusal(first, "VALUES is not answered here; write SELECT 1 AS x UNION ALL SELECT 2")
        elif kind == "TABLE_FUNCTION" and ref["function"]["function_name"].lower() == "unnest":
            self._walk(ref["function"], scope)
        elif kind != "EMPTY":
            name = f" {ref['function']['function_name']}()" if kind == "TABLE_FUNCTION" else ""
            raise self._not_allowed(ref, name)

    def _view(self, ref: Node, scope: frozenset[str]) -> None:
        """A view of ours, or a query that WITH named."""
        path = [str(part) for part in ref["qualified_name"]["path"]]
        name = path[-1].lower()
        plain = not (ref["schema_name"] or ref["catalog_name"] or ref["at_clause"]) and len(path) == 1
        if plain and name in scope:
            return
        if not plain or name not in self._views:
            near = nearest(name, [*self._views, *scope])
            hint = did_you_mean(near, f"views are {', '.join(self._views)}")
            raise self.refusal(ref, f"no view {'.'.join(path)}; {hint}")
        self.named.add(name)
        ref["alias"] = ref["alias"] or path[-1]
        ref["table_name"] = f"_{name}"
        ref["qualified_name"] = {"path": [f"_{name}"]}

    def _walk(self, value: Any, scope: frozenset[str]) -> None:
        """Check every expression in `value`, and how much each could make."""
        for node in _expressions(value):
            self._expression(node, scope)
            self._measured.add(node)

    def _expression(self, node: Node, scope: frozenset[str]) -> None:
        kind = node["class"]
        if not is_listed(node, _CLASSES):
            raise self._not_allowed(node)
        if kind == "COLUMN_REF":
            self._column(node)
        elif kind in ("FUNCTION", "WINDOW"):
            self._function(node)
        elif kind == "STAR" and node["expr"]:
            raise self.refusal(node, "COLUMNS(...) is not allowed here; name the columns")
        elif kind == "CAST":
            self._type(node["type_expr"], node)
        elif kind == "SUBQUERY":
            self.query(node["subquery"]["node"], scope)
        for inner in _expressions(
            [part for key, part in node.items() if key not in ("subquery", "type_expr")]
        ):
            self._expression(inner, scope)

    def _column(self, node: Node) -> None:
        names = [str(name) for name in node["column_names"]]
        lower = [name.lower() for name in names]
        unknown = lower[0] if lower[0] not in self._known else None
        if lower[0] in self._tables and len(lower) > 1 and lower[1] not in self._known:
            unknown = lower[1]
        if unknown is None:
            return
        hint = did_you_mean(nearest(unknown, sorted(self._known)), "see the views in docs/query.md")
        raise self.refusal(node, f"no column {'.'.join(names)}; {hint}")

    def _function(self, node: Node) -> None:
        name = str(node["function_name"]).lower()
        if name in TAG_FUNCTIONS:
            what = f"{name}() is of conditions; here ask the view tags, or the list images.tags"
            raise self.refusal(node, what)
        if name not in _FUNCTIONS:
            near = nearest(name, sorted(known for known in _FUNCTIONS if known[0].isalpha()))
            hint = f"; did you mean {' or '.join(near)}?" if near else " is allowed here"
            raise self.refusal(node, f"no function {name}{hint}")
        if node["schema"] or node["catalog"] or len(node["qualified_name"]["path"]) != 1:
            raise self.refusal(node, f"{name} is called by its name alone here")

    def _type(self, kind: Node, node: Node) -> None:
        name = str(kind["type_name"]).lower()
        inner = [child for child in kind["children"] if child["class"] == "TYPE"]
        plain = not (kind.get("schema") or kind.get("catalog"))
        if not plain or (name not in TYPES and name != "list"):
            raise self.refusal(node, f"no cast to {kind['type_name']}")
        if any(child["class"] not in ("CONSTANT", "TYPE") for child in kind["children"]):
            raise self.refusal(node, f"no cast to that kind of {kind['type_name']}")
        for child in inner:
            self._type(child, node)

    def _no_sample(self, node: Node) -> None:
        if node.get("sample"):
            raise QueryError(
                "a sample differs from run to run; use pfgdata query --sample, or ORDER BY and LIMIT"
            )

    def _names(self, tree: Node) -> frozenset[str]:
        """Every name that a column can have: of the views, and what the statement itself names."""
        names = {column for columns in self._views.values() for column in columns} | set(self._views)
        names.add("unnest")
        for node in _nodes(tree):
            names.update(_defined(node))
            if "class" not in node and "alias" in node:
                self._tables |= {str(node["alias"]).lower()}
        return frozenset(name.lower() for name in names if name).difference(_SYSTEM)

    def _not_allowed(self, node: Node, more: str = "") -> QueryError:
        kind = str(node.get("class") or node["type"])
        kind = kind if kind in _REFUSED else str(node["type"])
        words = _REFUSED.get(kind, kind.lower().replace("_", " "))
        return self.refusal(node, f"{words}{more} is not allowed here")


def _nodes(tree: Node) -> Iterator[Node]:
    """Every part of a tree that has keys."""
    left: list[Any] = [tree]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left += value.values()
        elif isinstance(value, list):
            left += value


def _columns_of(tree: Node) -> frozenset[str] | None:
    """The names of columns in a tree that was walked; None where it takes rows without naming theirs."""
    nodes = list(_nodes(tree))
    tables = {str(node["alias"]).lower() for node in nodes if "class" not in node and "alias" in node}
    names: set[str] = set()
    for node in nodes:
        written = [
            str(one).lower() for key in ("column_names", "using_columns") for one in node.get(key) or []
        ]
        whole = node.get("class") == "STAR" or node.get("ref_type") == "NATURAL"
        if whole or node.get("column_name_alias") or (written and written[-1] in tables):
            return None
        names.update(written)
    return frozenset(names)


def _defined(node: Node) -> Iterator[str]:
    """The names that one node of the tree gives to something."""
    yield str(node.get("alias") or "")
    for key in ("column_name_alias", "aliases"):
        yield from map(str, node.get(key) or [])
    if "cte_name" in node:
        yield str(node["cte_name"])
    if "key" in node and isinstance(node.get("value"), dict):  # of WITH
        yield str(node["key"])
    for entry in node.get("rename_list") or []:
        yield str(entry.get("value", ""))
    if node.get("class") == "LAMBDA":
        for part in (node["lhs"], *_expressions(list(node["lhs"].values()))):
            yield from map(str, part.get("column_names") or [])


def _expressions(value: Any) -> Iterator[Node]:
    """The outermost expressions in a part of a tree. Raises QueryError for a part that is not listed."""
    if isinstance(value, list):
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, dict):
        if "class" in value:
            yield value
            return
        kind = value.get("type")
        if isinstance(kind, str) and kind not in _SIMPLE:
            raise QueryError(f"{kind.lower().replace('_', ' ')} is not allowed here")
        yield from _expressions(list(value.values()))
