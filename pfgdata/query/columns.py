"""What an expression can name, and what each name means over the columns on disk.

Tags are stored best first, so those over a threshold are the head of the list: no per-element pairing of
names and scores is needed (647 ms against 911 ms with names, 600,000 rows of 80 tags, 2 cores).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.store import IMAGES_SCHEMA
from pfgdata.vocabulary import Vocabulary

__all__ = [
    "COLUMNS",
    "RAW_COLUMNS",
    "SHARDS",
    "SOURCE",
    "STARTS",
    "VARIABLES",
    "Thresholds",
    "definitions",
    "locations",
    "quoted",
]

SOURCE = "images"  # the view an expression is about
VARIABLES = {"general": "general_names", "character": "character_names"}  # category -> DuckDB variable
SHARDS = "shard_ids"  # the variable that has the id of each shard, in their order
STARTS = "starts"  # the variable that says how many rows there are before each shard

_SQL_TYPES = {  # Arrow, as DuckDB reads it from Parquet
    pa.uuid(): "UUID",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.int64(): "BIGINT",
    pa.uint64(): "UBIGINT",
    pa.uint32(): "UINTEGER",
    pa.float16(): "FLOAT",
}


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _SQL_TYPES[kind.value_type]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{_SQL_TYPES[kind.value_type]}[]"
    return _SQL_TYPES[kind]


RAW_COLUMNS = {  # of the view SOURCE, as DuckDB types
    **{field.name: _sql_type(field.type) for field in IMAGES_SCHEMA},
    "file_row_number": "BIGINT",
    "file_index": "UBIGINT",  # of those that are read: a condition on DuckDB's `filename` counts them anew
}

_NEVER_SHOWN = {"path_bytes", "member_bytes", "rating_scores", "tag_ids", "tag_scores"}
# file is a path that opens from where the user stands; of an archive's member, the archive
_FIRST = ("file", "root", "path", "member", "content_id")
COLUMNS = (
    *_FIRST,
    *(name for name in IMAGES_SCHEMA.names if name not in {*_FIRST, *_NEVER_SHOWN}),
    *("tags", "characters", "shard", "row"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which score on a tag counts, per category; those beside characters count as general ones do."""

    general: float = 0.35  # the WD14 taggers' customary thresholds
    character: float = 0.85

    def require(self, floor: float) -> None:
        """Raise QueryError below `floor`, a store's: lower scores are not stored, answers would be wrong."""
        for option, value in (("threshold", self.general), ("character threshold", self.character)):
            if not floor <= value <= 1:
                raise QueryError(
                    f"{option} {value}: the store keeps scores from {floor} on; use a value from {floor} to 1"
                )

    def stored(self, category: str) -> float:
        """The threshold rounded as scores are stored (float16), so that a score equal to it counts."""
        return float(np.float16(self.character if category == "character" else self.general))

    def least(self, vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
        """The score from which each tag counts, [V]; a rating never does, it is no tag that images share."""
        least = np.full(len(vocabulary), np.inf, np.float32)
        least[vocabulary.general_ids] = least[vocabulary.further_ids] = self.stored("general")
        least[vocabulary.character_ids] = self.stored("character")
        return least


def locations(roots: Mapping[str, str], *, start: Path) -> dict[str, str]:
    """Corpus root -> its location as one standing in `start` would write it: relative below it."""
    base = os.path.abspath(start)  # noqa: PTH100 - links are kept as the user sees them
    return {root: _seen_from(place, base) for root, place in roots.items()}


def definitions(thresholds: Thresholds, places: Mapping[str, str]) -> dict[str, str]:
    """SQL over RAW_COLUMNS for each name of COLUMNS; `places` says where each root is now."""
    best = f"character_score >= {thresholds.stored('character')}::FLOAT"
    return {name: name for name in COLUMNS if name in RAW_COLUMNS} | {
        "character": f"CASE WHEN {best} THEN character END",
        "tags": _names_over("general", thresholds),
        "characters": _names_over("character", thresholds),
        "file": _file(places),
        "shard": f"getvariable({quoted(SHARDS)})[file_index::INT + 1]",  # DuckDB counts from 1
        "row": "file_row_number",
    }


def quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _names_over(category: str, thresholds: Thresholds) -> str:
    over = f"len(list_filter(tag_scores, lambda s: s >= {thresholds.stored(category)}::FLOAT))"
    places = f"list_transform(tag_ids[1:{over}], lambda t: t + 1)"  # DuckDB counts from 1
    names = f"list_select(getvariable({quoted(VARIABLES[category])}), {places})"
    return f"list_filter({names}, lambda n: n IS NOT NULL)"  # null: of another category


def _file(places: Mapping[str, str]) -> str:
    whens = " ".join(
        f"WHEN {quoted(root)} THEN {quoted(_folder(place))}" for root, place in sorted(places.items())
    )
    unknown = "CASE WHEN root = '/' THEN root ELSE root || '/' END"
    return f"(CASE root {whens} ELSE {unknown} END || path)" if whens else f"({unknown} || path)"


def _folder(place: str) -> str:
    return place if not place or place.endswith("/") else place + "/"


def _seen_from(place: str, base: str) -> str:
    if place == base:
        return ""
    inside = base if base.endswith("/") else base + "/"
    return place.removeprefix(inside)
