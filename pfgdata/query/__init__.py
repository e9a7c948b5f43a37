"""Questions to a store: an SQL condition over its images, answered by DuckDB in a sandbox.

An expression never reaches DuckDB as the user wrote it: it is parsed, checked against lists of what is
allowed, rewritten over the columns on disk, and only the result is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.query.answer import count, run_query, select
    from pfgdata.query.columns import COLUMNS, Thresholds, locations, quoted
    from pfgdata.query.job import QueryJob
    from pfgdata.query.likeness import LikenessOptions, most_similar
    from pfgdata.query.limits import DEFAULT_LIMITS, Limits, unfinished
    from pfgdata.query.metatags import in_sql, means_column
    from pfgdata.query.opened import Answer, OpenStore, open
    from pfgdata.query.question import Question
    from pfgdata.query.saving import SaveOptions, freeze_selection, require_free_name, save_selection
    from pfgdata.query.session import Session
    from pfgdata.query.shares import TagShares, tag_shares
    from pfgdata.query.sql import VIEWS
    from pfgdata.query.tag_syntax import read_tags

__all__ = [
    "COLUMNS",
    "DEFAULT_LIMITS",
    "VIEWS",
    "Answer",
    "LikenessOptions",
    "Limits",
    "OpenStore",
    "QueryJob",
    "Question",
    "SaveOptions",
    "Session",
    "TagShares",
    "Thresholds",
    "count",
    "freeze_selection",
    "in_sql",
    "locations",
    "means_column",
    "most_similar",
    "open",
    "quoted",
    "read_tags",
    "require_free_name",
    "run_query",
    "save_selection",
    "select",
    "tag_shares",
    "unfinished",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
