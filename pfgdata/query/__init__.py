"""Questions to a store: an SQL condition over its images, answered by DuckDB in a sandbox.

An expression never reaches DuckDB as the user wrote it: it is parsed, checked against lists of what is
allowed, rewritten over the columns on disk, and only the result is run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.query.answer import check, count, run_query, select
    from pfgdata.query.columns import COLUMNS, Thresholds, locations
    from pfgdata.query.limits import Limits, unfinished
    from pfgdata.query.question import Question
    from pfgdata.query.sql import VIEWS, run_sql
    from pfgdata.query.tag_syntax import read_tags

__all__ = [
    "COLUMNS",
    "VIEWS",
    "Limits",
    "Question",
    "Thresholds",
    "check",
    "count",
    "locations",
    "read_tags",
    "run_query",
    "run_sql",
    "select",
    "unfinished",
]

_LAZY = {
    "COLUMNS": "pfgdata.query.columns",
    "Limits": "pfgdata.query.limits",
    "Question": "pfgdata.query.question",
    "VIEWS": "pfgdata.query.sql",
    "Thresholds": "pfgdata.query.columns",
    "check": "pfgdata.query.answer",
    "count": "pfgdata.query.answer",
    "locations": "pfgdata.query.columns",
    "read_tags": "pfgdata.query.tag_syntax",
    "run_query": "pfgdata.query.answer",
    "run_sql": "pfgdata.query.sql",
    "select": "pfgdata.query.answer",
    "unfinished": "pfgdata.query.limits",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
