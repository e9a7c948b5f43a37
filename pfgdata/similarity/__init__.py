"""Likeness: the images most like a feature, and what of a store is the same picture twice.

Nothing is approximate: every row is looked at, and two runs of one question give one answer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.similarity.duplicates import (
        DuplicateOptions,
        DuplicateReport,
        Member,
        Star,
        find_duplicates,
    )
    from pfgdata.similarity.hashes import pairs_within
    from pfgdata.similarity.judging import Likeness, judge
    from pfgdata.similarity.neighbours import Neighbours, Similar, corpus_mean, similar
    from pfgdata.similarity.pictures import Difference, compare_pictures, small_picture
    from pfgdata.similarity.rows import file_names, least_scores, table_of, tags_over
    from pfgdata.similarity.subjects import Subject, find_stored, mean_direction, read_subjects

__all__ = [
    "Difference",
    "DuplicateOptions",
    "DuplicateReport",
    "Likeness",
    "Member",
    "Neighbours",
    "Similar",
    "Star",
    "Subject",
    "compare_pictures",
    "corpus_mean",
    "file_names",
    "find_duplicates",
    "find_stored",
    "judge",
    "least_scores",
    "mean_direction",
    "pairs_within",
    "read_subjects",
    "similar",
    "small_picture",
    "table_of",
    "tags_over",
]

_LAZY = {
    "Difference": "pfgdata.similarity.pictures",
    "compare_pictures": "pfgdata.similarity.pictures",
    "small_picture": "pfgdata.similarity.pictures",
    "DuplicateOptions": "pfgdata.similarity.duplicates",
    "DuplicateReport": "pfgdata.similarity.duplicates",
    "Likeness": "pfgdata.similarity.judging",
    "Member": "pfgdata.similarity.duplicates",
    "Star": "pfgdata.similarity.duplicates",
    "find_duplicates": "pfgdata.similarity.duplicates",
    "judge": "pfgdata.similarity.judging",
    "pairs_within": "pfgdata.similarity.hashes",
    "Neighbours": "pfgdata.similarity.neighbours",
    "Similar": "pfgdata.similarity.neighbours",
    "Subject": "pfgdata.similarity.subjects",
    "corpus_mean": "pfgdata.similarity.neighbours",
    "file_names": "pfgdata.similarity.rows",
    "find_stored": "pfgdata.similarity.subjects",
    "least_scores": "pfgdata.similarity.rows",
    "mean_direction": "pfgdata.similarity.subjects",
    "read_subjects": "pfgdata.similarity.subjects",
    "similar": "pfgdata.similarity.neighbours",
    "table_of": "pfgdata.similarity.rows",
    "tags_over": "pfgdata.similarity.rows",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
