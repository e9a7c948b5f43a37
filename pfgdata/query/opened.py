"""A store as a program asks it: `with pfgdata.open("feats/") as store: store.query(...)`.

One snapshot and one session: every answer is of the moment the store was opened, whatever an ingest adds.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS, Thresholds, locations
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.question import Question
from pfgdata.query.session import Session
from pfgdata.records import Selection
from pfgdata.store import Snapshot, Store

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Answer", "OpenStore", "open"]

_SIMILAR = pa.schema(
    {
        "query": pa.string(),
        "rank": pa.int64(),
        "score": pa.float64(),
        **{name: pa.string() for name in ("file", "root", "path", "member", "content_id")},
        "shared_tags": pa.list_(pa.string()),
    }
)


def open(
    path: str | Path = "feats", *, thresholds: Thresholds | None = None, limits: Limits = DEFAULT_LIMITS
) -> OpenStore:
    """The store at `path`, to be asked; `thresholds` are those of questions that bring none.

    Raises NoStoreError where there is none, StoreError where it cannot be read.
    """
    return OpenStore(Store.open(Path(path)), thresholds=thresholds, limits=limits)


class OpenStore:
    """One moment of a store, open for questions; each has `limits` of its own. Close it, or use `with`."""

    def __init__(
        self, store: Store, *, thresholds: Thresholds | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        roots = locations(store.roots(), start=Path.cwd())
        self.store = store
        self.snapshot = store.snapshot()
        self.session = Session(self.snapshot, thresholds=thresholds, roots=roots, limits=limits)

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store's files."""
        self.session.close()

    def __len__(self) -> int:
        """How many images it shows."""
        return self.snapshot.num_images

    def query(
        self,
        question: str | Question | None = None,
        *,
        thresholds: Thresholds | None = None,
        columns: Sequence[str] = COLUMNS,
        limit: int | None = None,
    ) -> Answer:
        """The images that `question` asks for (an SQL condition; None: all), at most `limit`.

        `columns` are those of its tables; they are read when a table is asked for. Raises QueryError, one
        line, for an expression that is not valid or takes too long.
        """
        chosen = thresholds or self.session.thresholds
        return Answer(self.session, question, columns=columns, thresholds=chosen, limit=limit)

    def count(self, question: str | Question | None = None, *, thresholds: Thresholds | None = None) -> int:
        """How many images `question` asks for."""
        return self.session.count(question, thresholds=thresholds)

    def sql(self, statement: str, *, thresholds: Thresholds | None = None) -> pa.Table:
        """What one whole SELECT answers, over the views that `pfgdata query --sql` has."""
        return self.session.sql(statement, thresholds=thresholds)

    def similar(
        self,
        *images: str | Path,
        k: int = 20,
        where: str | Question | None = None,
        mean: bool = False,
        center: bool = False,
    ) -> pa.Table:
        """The `k` images most like each of `images`, of those of `where`: query, rank, score, file and more.

        An image is a file or a stored one by path or content_id; a file that is not stored is tagged first,
        by the store's own tagger. `mean` asks once, of the mean of all; `center` takes the store's mean
        feature off. Shared tags count from the store's `thresholds` on. Raises QueryError for an unknown
        image, ImageError for a file that is none.
        """
        from pfgdata.ingest import IngestJob, tagger_for  # OpenCV and taggers: only where likeness is asked
        from pfgdata.query.likeness import LikenessOptions, most_similar

        answers = most_similar(
            self.session,
            self.store,
            [str(one) for one in images],
            LikenessOptions(k=k, where=where, mean=mean, center=center),
            tagger=lambda: tagger_for(self.store, IngestJob()),
        )
        rows = [{"query": " ".join(one["query"]), **row} for one in answers for row in one["results"]]
        return pa.Table.from_pylist(rows, schema=_SIMILAR)

    def tags(
        self, question: str | Question | None = None, *, thresholds: Thresholds | None = None
    ) -> pa.Table:
        """How often each tag counts among them: tag, kind, count, share; the most first."""
        return self.session.counts(question, thresholds=thresholds)


class Answer:
    """The images that a question selected: as a table, as ids, with their features."""

    def __init__(
        self,
        session: Session,
        question: str | Question | None,
        *,
        columns: Sequence[str],
        thresholds: Thresholds,
        limit: int | None,
    ) -> None:
        self._session = session
        self._question = question
        self._columns = tuple(columns)
        self._thresholds = thresholds
        self._limit = limit
        self._selection = session.select(question, thresholds=thresholds, limit=limit)

    def __len__(self) -> int:
        return len(self._selection)

    def selection(self) -> Selection:
        """The rows, for library functions that take a Selection."""
        return self._selection

    def ids(self) -> list[str]:
        """The content ids as text, as `content_id` is shown and asked for."""
        return [str(UUID(bytes=bytes(one))) for one in self._selection.content_ids]

    def features(self) -> npt.NDArray[np.float16]:
        """The tagger's features, float16 [N, F], in memory."""
        snapshot: Snapshot = self._session.snapshot
        return snapshot.features(self._selection)

    def arrow(self) -> pa.Table:
        """The columns, read once; a column of your own as it is now. Raises QueryError for an unknown one."""
        return self._table

    def polars(self) -> pl.DataFrame:
        """The columns as a polars DataFrame, ids as text. Raises QueryError where polars is not installed."""
        frame: pl.DataFrame = _library("polars").from_arrow(_plain(self._table))
        return frame

    def pandas(self) -> Any:  # a pandas.DataFrame; pandas is no dependency
        """The columns as a pandas DataFrame, ids as text. Raises QueryError where pandas is not installed."""
        _library("pandas")
        return _plain(self._table).to_pandas()

    @cached_property
    def _table(self) -> pa.Table:
        return self._session.rows(
            self._question,
            columns=self._columns,
            thresholds=self._thresholds,
            limit=self._limit,
        )


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise
        raise QueryError(f"{name} is not installed; run: pip install {name}") from None


def _plain(table: pa.Table) -> pa.Table:
    """The table with UUIDs as text, which both libraries know."""
    for place, field in enumerate(table.schema):
        if field.type == pa.uuid():
            texts: list[Any] = [None if one is None else str(one) for one in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
