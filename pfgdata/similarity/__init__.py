"""Likeness: the images most like a feature, those least alike, and what of a store is the same picture twice.

Nothing is approximate: every row is looked at, and two runs of one question give one answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

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
    from pfgdata.similarity.neighbours import Neighbours, Similar, corpus_mean
    from pfgdata.similarity.pictures import Difference, compare_pictures, small_picture
    from pfgdata.similarity.rows import file_names, named_file, tags_over
    from pfgdata.similarity.sampling import SampleOptions, SampleReport, balanced_sample
    from pfgdata.similarity.subjects import Eye, Subject, find_stored, mean_direction, read_subjects

__all__ = [
    "Difference",
    "DuplicateOptions",
    "DuplicateReport",
    "Eye",
    "Likeness",
    "Member",
    "Neighbours",
    "SampleOptions",
    "SampleReport",
    "Similar",
    "Star",
    "Subject",
    "balanced_sample",
    "compare_pictures",
    "corpus_mean",
    "file_names",
    "find_duplicates",
    "find_stored",
    "judge",
    "mean_direction",
    "named_file",
    "pairs_within",
    "read_subjects",
    "small_picture",
    "tags_over",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
