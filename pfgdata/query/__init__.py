"""Questions to a store: an SQL condition over its images, answered by DuckDB in a sandbox.

An expression never reaches DuckDB as the user wrote it: it is parsed, checked against lists of what is
allowed, rewritten over the columns on disk, and only the result is run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.query.answer import count, run_query, select
    from pfgdata.query.columns import COLUMNS, Thresholds, locations
    from pfgdata.query.job import QueryJob
    from pfgdata.query.limits import Limits, unfinished
    from pfgdata.query.question import Question

__all__ = [
    "COLUMNS",
    "Limits",
    "QueryJob",
    "Question",
    "Thresholds",
    "count",
    "locations",
    "run_query",
    "select",
    "unfinished",
]

_LAZY = {
    "COLUMNS": "pfgdata.query.columns",
    "Limits": "pfgdata.query.limits",
    "QueryJob": "pfgdata.query.job",
    "Question": "pfgdata.query.question",
    "Thresholds": "pfgdata.query.columns",
    "count": "pfgdata.query.answer",
    "locations": "pfgdata.query.columns",
    "run_query": "pfgdata.query.answer",
    "select": "pfgdata.query.answer",
    "unfinished": "pfgdata.query.limits",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
