"""What an expression may be made of: DuckDB's node classes, operators, functions and types.

A list of what is allowed stays right when DuckDB grows a function; a list of what is forbidden would not.
Left out on purpose: whatever reads files or settings, has side effects, differs between two runs, or
can make a value of any length (repeat, range, lpad). How values grow in what is allowed stands here too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = [
    "CLASSES",
    "COMBINED",
    "COUNTED",
    "EQUALITIES",
    "FUNCTIONS",
    "GROWTH",
    "LIKENESS",
    "MEMBERSHIP",
    "OPERATORS",
    "REFUSED",
    "SEARCHES",
    "SELECTION",
    "TAG_FUNCTIONS",
    "TAG_LISTS",
    "TAKES_LIST",
    "TYPES",
    "is_listed",
]

CLASSES = frozenset(
    {"COMPARISON", "CONJUNCTION", "BETWEEN", "CASE", "CAST", "CONSTANT", "COLUMN_REF", "FUNCTION", "LAMBDA"}
)
OPERATORS = frozenset(  # types of class OPERATOR
    {
        "ARRAY_EXTRACT",
        "ARRAY_SLICE",
        "COMPARE_IN",
        "COMPARE_NOT_IN",
        "OPERATOR_COALESCE",
        "OPERATOR_IS_NOT_NULL",
        "OPERATOR_IS_NULL",
        "OPERATOR_NOT",
        "STRUCT_EXTRACT",
    }
)
EQUALITIES = frozenset(  # types of class COMPARISON
    {"COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"}
)
REFUSED = {  # class -> what a person calls it
    "SUBQUERY": "a query inside the expression",
    "WINDOW": "a window function (OVER)",
    "STAR": "*",
    "PARAMETER": "a ? or $ parameter",
    "DEFAULT": "DEFAULT",
    "COLLATE": "COLLATE",
    "POSITIONAL_REFERENCE": "a # column number",
}

SELECTION = "@"  # before the name of a saved selection; DuckDB parses it as an operator
COMBINED = {"any_of": "OR", "all_of": "AND"}  # function of tag names -> how they combine
COUNTED = {"count_tags": "tags", "count_characters": "characters"}  # function -> the list that it counts
LIKENESS = "similar_to"  # of an image: the cosine with each row, a joined column
TAG_FUNCTIONS = frozenset({"has", "score", *COMBINED, *COUNTED})  # ours, rewritten before DuckDB sees them
_ONE = {"contains", "list_contains", "list_has", "array_contains", "array_has"}
_ANY = {"list_has_any", "array_has_any"}
_ALL = {"list_has_all", "array_has_all"}
MEMBERSHIP = dict.fromkeys(_ONE | _ANY, "OR") | dict.fromkeys(_ALL, "AND")  # function -> how items combine
TAKES_LIST = frozenset(_ANY | _ALL)
TAG_LISTS = TAKES_LIST.union(  # (list of tags, tag or list of tags)
    _ONE, {"list_position", "array_position", "list_indexof", "array_indexof"}
)
_SYMBOLS = "+ - * / // % ** ^ || & | << >> ~ ~~ !~~ ~~* !~~* ~~~ && @> <@"
_TEXT = """
    lower upper lcase ucase length strlen contains starts_with prefix suffix ends_with position strpos instr
    left right substring substr split_part string_split str_split split replace trim ltrim rtrim reverse
    concat concat_ws regexp_matches regexp_full_match regexp_extract regexp_replace like_escape
    not_like_escape ilike_escape not_ilike_escape strip_accents levenshtein jaro_winkler_similarity
    parse_filename parse_dirname parse_path md5 sha256
"""
_NUMBERS = """
    abs ceil ceiling floor round trunc sqrt ln log log2 log10 exp pow power mod sign greatest least isnan
    xor bit_count add subtract multiply divide
"""
_LISTS = """
    len array_length list_value list_extract list_element list_slice array_slice list_concat list_cat
    list_sort list_reverse_sort list_unique list_distinct list_intersect list_filter filter array_filter
    list_transform apply list_apply array_apply row struct_pack struct_extract
"""
_TIME = """
    to_timestamp make_timestamp make_timestamp_ns make_date date_part datepart date_trunc datetrunc year
    month day hour minute second dayofweek isodow week epoch epoch_ms strftime
"""
_CHOICE = "if ifnull nullif"

FUNCTIONS = TAG_LISTS.union(*(words.split() for words in (_SYMBOLS, _TEXT, _NUMBERS, _LISTS, _TIME, _CHOICE)))

_CASTS = """
    boolean bool tinyint smallint integer int bigint hugeint utinyint usmallint uinteger ubigint uhugeint
    float real double decimal numeric varchar text string uuid date time timestamp timestamp_s timestamp_ms
    timestamp_ns timestamptz interval
"""
TYPES = frozenset(_CASTS.split()) | {"timestamp with time zone"}

_SYMBOLIC_NUMBERS = "- * / // % ** ^ & << >> && @> <@"
_COUNTS = (
    "length strlen starts_with prefix suffix ends_with position strpos instr len array_length list_unique"
)
_TRUTHS = """
    operator_is_null operator_is_not_null operator_not conjunction_and conjunction_or
    compare_in compare_not_in compare_between compare_equal compare_notequal
    compare_lessthan compare_greaterthan compare_lessthanorequalto compare_greaterthanorequalto
    compare_distinct_from compare_not_distinct_from
"""
_WILDCARDS = "~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape"
_REGEXES = "~ regexp_matches regexp_full_match regexp_extract regexp_replace"
_DISTANCES = "levenshtein jaro_winkler_similarity"
_HOW = {  # of functions and types of nodes: what a value of theirs can come to
    "item": "list_extract list_element array_extract struct_extract",
    "first": """
        list_slice array_slice list_sort list_reverse_sort list_distinct list_intersect list_filter filter
        array_filter
    """,
    "mapped": "list_transform apply list_apply array_apply",
    "list": "list_value row struct_pack",
    "split": "string_split str_split split parse_path",
    "joined": "|| + concat list_concat list_cat",
    "gathered": "string_agg group_concat list array_agg",
    "either": "case_expr if ifnull nullif greatest least operator_coalesce",
}
_LARGE = {name for words in _HOW.values() for name in words.split()} | {
    "regexp_extract",
    "regexp_replace",
    "strftime",
}
_SHORT = " ".join(
    (
        _NUMBERS,
        _TIME,
        _SYMBOLIC_NUMBERS,
        _COUNTS,
        _TRUTHS,
        _WILDCARDS,
        _REGEXES,
        _DISTANCES,
        *TAG_FUNCTIONS,
        SELECTION,
        LIKENESS,
        *TAG_LISTS,
    )
)
GROWTH = {name: how for how, words in _HOW.items() for name in words.split()} | dict.fromkeys(
    set(_SHORT.split()) - _LARGE, "short"
)  # name -> kind of `_HOW`, or "short": a number, truth or time; all else is as long as its parts together
SEARCHES = {  # name -> how its second argument is sought in its first
    name: how
    for how, words in (("wildcards", _WILDCARDS), ("regex", _REGEXES), ("distance", _DISTANCES))
    for name in words.split()
}


def is_listed(node: Mapping[str, object], classes: Collection[object] = CLASSES) -> bool:
    """Whether a node is of one of `classes`, or one of OPERATORS."""
    return node["class"] in classes or (node["class"] == "OPERATOR" and node["type"] in OPERATORS)
