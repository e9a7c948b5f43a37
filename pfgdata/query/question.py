"""What a question asks for: which rows, how many of them, and in which order; and SQL for that.

A sample is a function of the images and the seed: those whose MD5 of content_id and seed is lowest, wherever
their rows lie.
"""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.errors import QueryError
from pfgdata.query.columns import SOURCE, Thresholds
from pfgdata.query.expression import compile_condition, compile_value
from pfgdata.query.frame import Typed
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.sandbox import Sandbox

__all__ = ["RANDOM", "Question", "Rows", "compile_question"]

RANDOM = "random()"  # an order
_STABLE = "root, coalesce(path_bytes, encode(path)), coalesce(member_bytes, encode(member)) NULLS FIRST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The rows for which `where` is true; None: all rows.

    Of these `sample` by chance, in the order of the expression `order` (a minus before it: largest first;
    RANDOM: shuffled; None: the corpus's own), of these the first `limit`. `notes` tell what one should know.
    Raises QueryError for numbers below 0.
    """

    where: str | Typed | None = None
    order: str | None = None
    sample: int | None = None
    seed: int = 0
    limit: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("sample", self.sample), ("limit", self.limit)):
            if value is not None and value < 0:
                raise QueryError(f"{name} {value}: give 0 or more")

    @property
    def condition(self) -> str | None:
        """`where` as an SQL condition of pfg's language."""
        return self.where.text if isinstance(self.where, Typed) else self.where

    @property
    def words(self) -> str | None:
        """The whole question in one line; just the condition where nothing else is asked."""
        parts = []
        if self.sample is not None:
            parts.append(f"a sample of {self.sample}, seed {self.seed}")
        if self.limit is not None:
            order = f" by {self.order}" if self.order else ""
            parts.append(f"the first {self.limit}{order}")
        return f"{self.condition or 'true'} ({'; '.join(parts)})" if parts else self.condition


@dataclass(frozen=True, slots=True)
class Rows:
    """A query of rows of the view `images`, with a column _key that orders them; None: the stable order."""

    sql: str
    key: str | None = None
    descending: bool = False

    @property
    def keyed(self) -> str:
        """The query, with its _key."""
        return f"SELECT *, {self.key} AS _key FROM ({self.sql})" if self.key else self.sql

    @property
    def order(self) -> str:
        """The ORDER BY of what is selected from `keyed`."""
        key = f"_key {'DESC' if self.descending else 'ASC'} NULLS LAST, " if self.key else ""
        return f"ORDER BY {key}{_STABLE}"

    def first(self, count: int | None) -> Rows:
        """The first `count` of them: found, then read: 130 ms, not 840 (600,000 rows)."""
        if count is None:
            return self
        places = (
            f"SELECT file_index AS _f, file_row_number AS _r FROM ({self.keyed}) {self.order} LIMIT {count:d}"
        )
        sql = f"SELECT * FROM {SOURCE} SEMI JOIN ({places}) ON file_index = _f AND file_row_number = _r"
        return Rows(sql, self.key, self.descending)


def compile_question(
    sandbox: Sandbox, joined: JoinedColumns, question: str | Question | None, thresholds: Thresholds
) -> Rows:
    """The rows that `question` asks for, of a view `images` that has all columns of `joined` it names.

    Raises QueryError as `compile_condition` does.
    """
    asked = question if isinstance(question, Question) else Question(where=question)
    key, descending = None, False
    if asked.order == RANDOM:
        key = _chance(asked.seed)
    elif asked.order is not None:
        order = Typed(asked.order, "order")
        key, descending = compile_value(sandbox, joined, order, thresholds=thresholds)
    if asked.where is None:
        sandbox.join(joined.values)
        sql = f"SELECT * FROM {SOURCE}"
    else:
        typed = asked.where if isinstance(asked.where, Typed) else Typed(asked.where)
        sql = compile_condition(sandbox, joined, typed, thresholds=thresholds)
    if asked.sample is not None:
        sql = Rows(sql, _chance(asked.seed)).first(asked.sample).sql
    return Rows(sql, key, descending).first(asked.limit)


def _chance(seed: int) -> str:
    return f"md5(content_id::VARCHAR || '/{seed:d}')"
