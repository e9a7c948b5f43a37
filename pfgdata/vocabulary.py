"""The tags a tagger scores, in the order of its score columns: WD14's `selected_tags.csv`, or made by others.

Columns are tag_id,name,category,count; category 9 is rating, 0 general, 4 character. The numbers of further
categories are ours, danbooru's where it has one; a number without a name keeps its place and has no group.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pfgdata.errors import VocabularyError, refused_by_system
from pfgdata.records import nearest

__all__ = ["CATEGORIES", "CHARACTER", "FURTHER", "GENERAL", "RATING", "RATINGS", "Vocabulary"]

GENERAL, CHARACTER, RATING = 0, 4, 9  # as WD14's selected_tags.csv numbers them
RATINGS = ("general", "sensitive", "questionable", "explicit")
FURTHER = {  # categories beside WD14's three, as vocabulary.parquet numbers them
    1: "artist",
    3: "copyright",
    5: "meta",
    6: "species",
    7: "style",
    8: "lore",
    10: "quality",
    11: "model",
    12: "year",
}
CATEGORIES = {GENERAL: "general", CHARACTER: "character", RATING: "rating", **FURTHER}
_COLUMNS = ("name", "category", "count")


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """Names, categories uint8 [V] and training counts int64 [V] of the score columns.

    Two are equal if their names and categories are. Raises VocabularyError unless there are exactly the four
    ratings, or none.
    """

    names: tuple[str, ...]
    categories: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        found = [self.names[index] for index in np.flatnonzero(self.categories == RATING)]
        if found and sorted(found) != sorted(RATINGS):
            raise VocabularyError(
                f"the ratings (category {RATING}) must be {', '.join(RATINGS)}, or none;"
                f" found {', '.join(found)}"
            )

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read WD14's selected_tags.csv, which has the ratings in their order.

        Raises VocabularyError naming the file and, where it can, the line.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(_rows(file, path))
        except FileNotFoundError:
            raise VocabularyError(f"{path} is missing; place the model's selected_tags.csv there") from None
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            reason = refused_by_system(problem) or f"cannot be read as a CSV file in UTF-8: {problem}"
            raise VocabularyError(f"{path}: {reason}") from problem
        names, categories, counts = zip(*rows, strict=True) if rows else ((), (), ())
        found = [name for name, category in zip(names, categories, strict=True) if category == RATING]
        if found != list(RATINGS):
            raise VocabularyError(
                f"{path}: the ratings (category {RATING}) must be {', '.join(RATINGS)}, in that order;"
                f" found {', '.join(found) or 'none'}"
            )
        return cls(names=names, categories=np.array(categories, np.uint8), counts=np.array(counts, np.int64))

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def index(self, name: str) -> int:
        """The score column of `name`. Raises VocabularyError with the nearest names."""
        if name not in self._index:
            near = self.nearest(name)
            raise VocabularyError(f"no tag {name!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
        return self._index[name]

    def nearest(self, name: str) -> list[str]:
        """Up to three tags that look like `name`, best first; spaces count as underscores."""
        return nearest(name.replace(" ", "_"), self.names)

    @cached_property
    def rating_ids(self) -> npt.NDArray[np.int64]:
        """Score columns of the four ratings in their order, or none."""
        columns = np.flatnonzero(self.categories == RATING)
        return columns[np.argsort([RATINGS.index(self.names[index]) for index in columns], kind="stable")]

    @cached_property
    def general_ids(self) -> npt.NDArray[np.int64]:
        """Score columns of general tags."""
        return np.flatnonzero(self.categories == GENERAL)

    @cached_property
    def character_ids(self) -> npt.NDArray[np.int64]:
        """Score columns of character tags."""
        return np.flatnonzero(self.categories == CHARACTER)

    @cached_property
    def further_ids(self) -> npt.NDArray[np.int64]:
        """Score columns of tags of further categories."""
        return np.flatnonzero(np.isin(self.categories, list(FURTHER)))

    @cached_property
    def digest(self) -> str:
        """BLAKE3 over names and categories, hex."""
        pairs = zip(self.names, self.categories, strict=True)
        return blake3("\n".join(f"{name}\t{category}" for name, category in pairs).encode()).hexdigest()

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}


def _rows(file: Iterable[str], path: Path) -> Iterable[tuple[str, int, int]]:
    """(name, category, count) of each line, checked."""
    table = csv.DictReader(file)
    missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise VocabularyError(
            f"{path}: no column {', '.join(missing)}; its first line must be tag_id,name,category,count"
        )
    for row in table:
        try:
            name, category, count = row["name"], int(row["category"]), int(row["count"])
        except (TypeError, ValueError):  # None where a line is too short
            name, category, count = "", -1, 0
        if not name or not 0 <= category <= 255 or count.bit_length() > 63:
            raise VocabularyError(
                f"{path}, line {table.line_num}: a tag is a name, a category of 0 to 255, a count"
            )
        yield name, category, count
