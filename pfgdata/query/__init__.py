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
    from pfgdata.query.saving import SaveOptions, freeze_selection, save_selection
    from pfgdata.query.shares import TagShares, tag_shares

__all__ = [
    "COLUMNS",
    "Limits",
    "QueryJob",
    "Question",
    "SaveOptions",
    "TagShares",
    "Thresholds",
    "count",
    "freeze_selection",
    "locations",
    "run_query",
    "save_selection",
    "select",
    "tag_shares",
    "unfinished",
]

_LAZY = {
    "COLUMNS": "pfgdata.query.columns",
    "Limits": "pfgdata.query.limits",
    "QueryJob": "pfgdata.query.job",
    "Question": "pfgdata.query.question",
    "SaveOptions": "pfgdata.query.saving",
    "TagShares": "pfgdata.query.shares",
    "Thresholds": "pfgdata.query.columns",
    "count": "pfgdata.query.answer",
    "freeze_selection": "pfgdata.query.saving",
    "locations": "pfgdata.query.columns",
    "run_query": "pfgdata.query.answer",
    "save_selection": "pfgdata.query.saving",
    "select": "pfgdata.query.answer",
    "tag_shares": "pfgdata.query.shares",
    "unfinished": "pfgdata.query.limits",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
