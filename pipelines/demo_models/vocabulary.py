"""The demo tagger's vocabulary: which tags of the corpora it learns, in the file form of the WD14 taggers.

Columns of `selected_tags.csv` are tag_id,name,category,count; row j is score column j. Counts are of
pictures the tagger trains on, so that nobody can read held-out characters out of them.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.demo_models.data import Row

RATINGS = ("general", "sensitive", "questionable", "explicit")
RATING, GENERAL, CHARACTER = 9, 0, 4  # categories of selected_tags.csv


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Names, categories and counts of the score columns, and which general tags are coarse."""

    names: tuple[str, ...]
    categories: tuple[int, ...]
    counts: tuple[int, ...]
    coarse: frozenset[str]

    def __len__(self) -> int:
        return len(self.names)

    def targets(self, rows: Sequence[Row]) -> npt.NDArray[np.uint8]:
        """What the scores should be, 0 or 1, [N, V]; every picture is of rating 'general'."""
        column = {name: number for number, name in enumerate(self.names)}
        table = np.zeros((len(rows), len(self.names)), np.uint8)
        table[:, column["general"]] = 1
        for line, row in zip(table, rows, strict=True):
            known = [column[name] for name in (*row.tags, row.character) if name in column]
            line[known] = 1
        return table

    def csv(self) -> str:
        """The text of selected_tags.csv."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["tag_id", "name", "category", "count"])
        for number, row in enumerate(zip(self.names, self.categories, self.counts, strict=True)):
            writer.writerow([number, *row])
        return out.getvalue()

    def state(self) -> dict[str, Any]:
        """Plain values that `Tags.of_state` turns back."""
        return {
            "names": list(self.names),
            "categories": list(self.categories),
            "counts": list(self.counts),
            "coarse": sorted(self.coarse),
        }

    @staticmethod
    def of_state(state: dict[str, Any]) -> Tags:
        """The tags that `state` was taken of."""
        return Tags(
            names=tuple(state["names"]),
            categories=tuple(state["categories"]),
            counts=tuple(state["counts"]),
            coarse=frozenset(state["coarse"]),
        )


def choose_tags(rows: Sequence[Row], *, least: int) -> Tags:
    """Tags on at least `least` of `rows`, frequent ones first, and every character of the demo corpus."""
    counted = Counter(tag for row in rows for tag in row.tags)
    general = sorted((tag for tag, n in counted.items() if n >= least), key=lambda tag: (-counted[tag], tag))
    people = Counter(row.character for row in rows if row.corpus == "demo")
    names = (*RATINGS, *general, *sorted(people))
    categories = [RATING] * len(RATINGS) + [GENERAL] * len(general) + [CHARACTER] * len(people)
    counts = [
        len(rows),
        0,
        0,
        0,
        *(counted[tag] for tag in general),
        *(people[name] for name in sorted(people)),
    ]
    return Tags(
        names=names,
        categories=tuple(categories),
        counts=tuple(counts),
        coarse=frozenset(tag for row in rows for tag in row.coarse),
    )
