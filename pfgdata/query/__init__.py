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
    from pfgdata.query.limits import Limits, unfinished
    from pfgdata.query.opened import Answer, OpenStore, open
    from pfgdata.query.session import Session

__all__ = [
    "COLUMNS",
    "Answer",
    "Limits",
    "OpenStore",
    "Session",
    "Thresholds",
    "count",
    "locations",
    "open",
    "run_query",
    "select",
    "unfinished",
]

_LAZY = {
    "COLUMNS": "pfgdata.query.columns",
    "Answer": "pfgdata.query.opened",
    "Limits": "pfgdata.query.limits",
    "OpenStore": "pfgdata.query.opened",
    "Session": "pfgdata.query.session",
    "Thresholds": "pfgdata.query.columns",
    "count": "pfgdata.query.answer",
    "locations": "pfgdata.query.columns",
    "open": "pfgdata.query.opened",
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
