"""Questions to one snapshot through one open sandbox: making it takes 45 ms, a question often 25.

Each question has its own limits of time and memory, and the columns that it names are joined for it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS, VARIABLES, Thresholds, definitions
from pfgdata.query.compiled import Rows, compile_question
from pfgdata.query.counts import tag_counts
from pfgdata.query.indexed import IndexedTags
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.question import Question
from pfgdata.query.sandbox import Sandbox
from pfgdata.query.sql import answer_sql
from pfgdata.records import Selection, did_you_mean, nearest
from pfgdata.store import Snapshot, TagIndex, content_ids_of

__all__ = ["Session"]

T = TypeVar("T")


class Session:
    """Answers about one snapshot, in the corpus's stable order (root, path bytes, member) or the question's.

    A question is a `Question` or an SQL condition; None asks for all rows. Each raises QueryError, one line,
    where it is not valid or goes beyond `limits`, and for thresholds below the store's score floor. Threads
    that ask at once wait for each other.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        thresholds: Thresholds | None = None,
        roots: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`thresholds` are those of questions without their own; `roots` as `locations` gives them."""
        self.snapshot = snapshot
        self.thresholds = thresholds or Thresholds()
        self._roots = roots or {}
        self._limits = limits
        self._asking = threading.Lock()
        self._index: TagIndex | None = None
        self._looked = self._closed = False
        self._sandbox = self._made()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the shards' files; questions are refused from then on."""
        self._closed = True
        self._sandbox.close()

    def count(self, question: str | Question | None, *, thresholds: Thresholds | None = None) -> int:
        """How many rows `question` asks for."""
        found = self._fetch(question, thresholds, lambda rows: f"SELECT count(*) AS n FROM ({rows.sql})")
        return int(found["n"][0].as_py())

    def select(
        self,
        question: str | Question | None,
        *,
        thresholds: Thresholds | None = None,
        limit: int | None = None,
    ) -> Selection:
        """The rows that `question` asks for, at most `limit`."""
        chosen, joined = thresholds or self.thresholds, self._columns()

        def sql(rows: Rows) -> str:
            first = rows.first(limit)
            return f"SELECT content_id, file_index, file_row_number FROM ({first.keyed}) {first.order}"

        table = self._fetch(question, chosen, sql, joined)
        return Selection(
            content_ids=content_ids_of(table["content_id"]),
            shards=tuple(shard.id for shard in self._sandbox.shards),
            shard_index=table["file_index"].to_numpy().astype(np.int32),
            rows=table["file_row_number"].to_numpy().astype(np.int64),
            expression=question.words if isinstance(question, Question) else question,
            thresholds=asdict(chosen),
            named={name: saved.meaning for name, saved in joined.selections.items()},
        )

    def places(
        self, question: str | Question | None, *, thresholds: Thresholds | None = None
    ) -> npt.NDArray[np.int64]:
        """Where the rows that `question` asks for stand in `snapshot.images()`, int64 [N].

        In the order that the question names, else in none: it is half of what `select` takes (600,000 rows).
        """
        ordered = isinstance(question, Question) and question.order is not None

        def sql(rows: Rows) -> str:
            order = rows.order if ordered else ""
            return f"SELECT file_index, file_row_number FROM ({rows.keyed}) {order}"

        table = self._fetch(question, thresholds, sql)
        shards = self._sandbox.shards
        starts = np.cumsum([0, *(shard.num_rows for shard in shards)])
        shown = np.ones(starts[-1], np.bool_)
        for start, shard in zip(starts, shards, strict=False):
            shown[start + shard.hidden] = False
        place = np.cumsum(shown) - 1
        file = table["file_index"].to_numpy().astype(np.int64)
        return np.asarray(place[starts[file] + table["file_row_number"].to_numpy()], np.int64)

    def interrupt(self) -> None:
        """End the question that another thread asks now, which raises QueryError; of none, do nothing."""
        self._sandbox.give_up()

    def rows(
        self,
        question: str | Question | None,
        *,
        columns: Sequence[str] = COLUMNS,
        thresholds: Thresholds | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The `columns` of the rows that `question` asks for, at most `limit` rows.

        Raises QueryError for an unknown column, too.
        """
        chosen, joined = thresholds or self.thresholds, self._columns()
        meaning = definitions(chosen, self._roots)
        wanted = ", ".join(f'{_known(name, meaning, joined)} AS "{name}"' for name in columns)

        def sql(rows: Rows) -> str:
            first = rows.first(limit)
            return f"SELECT {wanted} FROM ({first.keyed}) {first.order}"

        return self._fetch(question, chosen, sql, joined)

    def counts(self, question: str | Question | None, *, thresholds: Thresholds | None = None) -> pa.Table:
        """How often each tag counts in the rows that `question` asks for: see `tag_counts`."""
        chosen = thresholds or self.thresholds

        def answer(rows: Rows) -> pa.Table:
            return tag_counts(
                self._sandbox.fetch,
                rows.sql,
                index=self._tag_index(),
                shards=self._sandbox.shards,
                vocabulary=self.snapshot.vocabulary,
                thresholds=chosen,
            )

        return self._ask(question, chosen, answer)

    def check(self, question: str | Question | None, *, thresholds: Thresholds | None = None) -> None:
        """Raise QueryError where `select` would, before it reads a row."""
        self._ask(question, thresholds, lambda rows: None)

    def sql(
        self, statement: str, *, thresholds: Thresholds | None = None, limit: int | None = None
    ) -> pa.Table:
        """What one whole SELECT over the views images, tags, failures, latents and columns answers.

        At most `limit` rows. `thresholds` decide what images.tags, characters and character hold.
        """
        chosen, joined = thresholds or self.thresholds, self._columns()
        meaning = definitions(chosen, self._roots)
        return self._run(chosen, lambda: answer_sql(self._sandbox, joined, statement, meaning, limit=limit))

    def _fetch(
        self,
        question: str | Question | None,
        thresholds: Thresholds | None,
        sql: Callable[[Rows], str],
        joined: JoinedColumns | None = None,
    ) -> pa.Table:
        """What `sql(the rows)` gives."""
        return self._ask(question, thresholds, lambda rows: self._sandbox.fetch(sql(rows)), joined)

    def _ask(
        self,
        question: str | Question | None,
        thresholds: Thresholds | None,
        answer: Callable[[Rows], T],
        joined: JoinedColumns | None = None,
    ) -> T:
        """What `answer(the rows)` gives, within the limits; `joined` has what is to be shown."""
        chosen, columns = thresholds or self.thresholds, joined or self._columns()
        return self._run(chosen, lambda: answer(compile_question(self._sandbox, columns, question, chosen)))

    def _run(self, thresholds: Thresholds, work: Callable[[], T]) -> T:
        """What `work()` answers, within the limits."""
        thresholds.require(self.snapshot.score_floor)
        with self._asking:
            if self._closed:
                raise QueryError("the store was closed; ask it inside its with block, or open it again")
            if self._sandbox.busy:  # with a question that was given up
                self._sandbox.close()
                self._sandbox = self._made()
            return self._sandbox.run(work)

    def _columns(self) -> JoinedColumns:
        """What a question may join."""
        return JoinedColumns(self.snapshot, IndexedTags(self._tag_index, self._sandbox.shards))

    def _tag_index(self) -> TagIndex | None:
        """The store's index of tags, looked for when a question first names one."""
        if not self._looked:
            self._index = TagIndex.of(self.snapshot, self._sandbox.shards)
            self._looked = True
        return self._index

    def _made(self) -> Sandbox:
        """A sandbox whose variables give the name of each tag, null where of another kind."""
        vocabulary = self.snapshot.vocabulary
        ids = {"general": vocabulary.general_ids, "character": vocabulary.character_ids}
        variables: dict[str, list[str | None]] = {}
        for category, name in VARIABLES.items():
            names: list[str | None] = [None] * len(vocabulary.names)
            for number in ids[category]:
                names[number] = vocabulary.names[number]
            variables[name] = names
        return Sandbox(self.snapshot.shards, variables=variables, limits=self._limits)


def _known(name: str, meaning: Mapping[str, str], joined: JoinedColumns) -> str:
    if name in meaning:
        return meaning[name]
    if joined.read(name) is not None:
        return f'"{name}"'
    hint = did_you_mean(nearest(name, joined.names), f"columns are {', '.join(joined.names)}")
    raise QueryError(f"no column {name}; {hint}")
