"""What a question is asked as: the flags of the command and the keys of a recipe. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["QueryJob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryJob:
    """All that a question is asked beside its store."""

    expression: str
    """An SQL condition over columns, the lists tags and characters, score('TAG') and has('TAG')."""
    threshold: float = 0.35
    """General tags count from this score on."""
    character_threshold: float = 0.85
    """Characters count from this score on."""
    limit: int | None = None
    """At most so many rows; default: all."""
    columns: str | None = None
    """Columns to show; default: a few in a table, else all. Names separated by commas."""
    seconds: float = 60
    """End a query that takes longer."""

    def names(self, default: Sequence[str]) -> list[str]:
        """The columns to show, `default` where none are named."""
        return [name.strip() for name in self.columns.split(",")] if self.columns else list(default)
