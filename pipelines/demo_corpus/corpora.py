"""What each corpus is, read from `corpora.json`, which the scripts read too.

A digest of its index and pictures tells the original corpus from one that only looks like it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CORPORA_FILE = Path(__file__).with_name("corpora.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """`characters` of each of `styles`, `views` pictures of each."""

    letter: str  # of the names: lorelei-p0123
    styles: tuple[str, ...]
    characters: int
    views: int
    framing: Literal["portrait", "scene"]
    formats: Literal["webp", "small", "common"]
    blake3: str  # what `digest` gives for the corpus that the models were trained on
    side: int | None = None  # pixels of the square as encoded; None: as drawn
    long_side: int | None = None  # pixels after `shrink`; None: not shrunk
    tagged: bool = True  # False: its index says no tags, for to find them takes twice the drawing

    @property
    def pictures(self) -> int:
        """How many pictures it has."""
        return len(self.styles) * self.characters * self.views


def load_corpora(path: Path = CORPORA_FILE) -> dict[str, Corpus]:
    """Name -> corpus; the default file is the project's own."""
    tables = json.loads(path.read_text(encoding="utf-8"))
    return {name: Corpus(**{**table, "styles": tuple(table["styles"])}) for name, table in tables.items()}
