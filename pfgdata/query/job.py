"""What a question is asked as: the flags of the command and the keys of a recipe. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pfgdata.errors import QueryError

if TYPE_CHECKING:
    from pfgdata.query.columns import Thresholds
    from pfgdata.query.question import Question
    from pfgdata.query.session import Session
    from pfgdata.store import Snapshot, Store

__all__ = ["QueryJob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryJob:
    """All that a question is asked beside its store."""

    expression: str | None = None
    """An SQL condition over columns, the lists tags and characters, score('TAG') and has('TAG')."""
    tags: str | None = None
    """Instead of EXPR, tags as danbooru writes them: "1girl -hat rating:g width:>=768 order:random"."""
    threshold: float = 0.35
    """General tags count from this score on."""
    character_threshold: float = 0.85
    """Characters count from this score on."""
    order: str | None = None
    """What to order by, - before it: largest first, random(): shuffled by `seed`; default: paths."""
    sample: int | None = None
    """So many of them, drawn by chance; default: all."""
    seed: int = 0
    """Another seed draws others, the same one the same."""
    limit: int | None = None
    """At most so many rows; default: all."""
    columns: str | None = None
    """Columns to show; default: a few in a table, else all. Names separated by commas."""
    seconds: float = 60
    """End a query that takes longer."""

    def __post_init__(self) -> None:
        if self.expression is not None and self.tags is not None:
            raise QueryError("an expression and tags: give one of them")

    @property
    def thresholds(self) -> Thresholds:
        """From which scores tags count."""
        from pfgdata.query.columns import Thresholds

        return Thresholds(general=self.threshold, character=self.character_threshold)

    def session(self, store: Store) -> Session:
        """A session with `store` as it is now, to be closed; `file` is told from the folder we are in."""
        from pfgdata.query.columns import locations
        from pfgdata.query.limits import Limits
        from pfgdata.query.session import Session

        return Session(
            store.snapshot(),
            thresholds=self.thresholds,
            roots=locations(store.roots(), start=Path.cwd()),
            limits=Limits(seconds=self.seconds),
        )

    def question(self, snapshot: Snapshot) -> Question:
        """What is asked of `snapshot`. Raises QueryError for tags that cannot be read."""
        from pfgdata.query.question import Question
        from pfgdata.query.tag_syntax import read_tags

        asked = Question(where=self.expression) if self.tags is None else read_tags(snapshot, self.tags)
        return replace(asked, order=self.order or asked.order, sample=self.sample, seed=self.seed)

    def names(self, default: Sequence[str]) -> list[str]:
        """The columns to show, `default` where none are named."""
        return [name.strip() for name in self.columns.split(",")] if self.columns else list(default)
