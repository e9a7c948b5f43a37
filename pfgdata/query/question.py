"""What a question asks for: which rows, how many of them, and in which order. `compiled.py` has its SQL."""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.errors import QueryError
from pfgdata.query.frame import Typed

__all__ = ["RANDOM", "Question", "require_number"]

RANDOM = "random()"  # an order
_MOST = 2**63 - 1  # rows: DuckDB counts them in an INT64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The rows for which `where` is true; None: all rows.

    Of these `sample` by chance, in the order of the expression `order` (a minus before it: largest first;
    RANDOM: shuffled; None: the corpus's own), of these the first `limit`. `notes` tell what one should know.
    Raises QueryError as `require_number`.
    """

    where: str | Typed | None = None
    order: str | None = None
    sample: int | None = None
    seed: int = 0
    limit: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_number("sample", self.sample)
        require_number("limit", self.limit)

    @property
    def condition(self) -> str | None:
        """`where` as an SQL condition of pfg's language."""
        return self.where.text if isinstance(self.where, Typed) else self.where

    @property
    def beside(self) -> str | None:
        """What is asked beside the condition, in words; None where nothing is. An order alone is nothing."""
        parts = []
        if self.sample is not None:
            parts.append(f"a sample of {self.sample}, seed {self.seed}")
        if self.limit is not None:
            order = f" by {self.order}" if self.order else ""
            parts.append(f"the first {self.limit}{order}")
        return "; ".join(parts) or None

    @property
    def words(self) -> str | None:
        """The whole question in one line; just the condition where nothing else is asked."""
        return f"{self.condition or 'true'} ({self.beside})" if self.beside else self.condition


def require_number(name: str, rows: int | None) -> None:
    """Raise QueryError, which calls it `name`, for what is no number of rows: below 0, or without end."""
    if rows is not None and not 0 <= rows <= _MOST:
        raise QueryError(
            f"{name} {rows}: give 0 or more" if rows < 0 else f"{name} {rows}: give {_MOST} at most"
        )
