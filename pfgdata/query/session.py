"""Questions to one snapshot through one open sandbox: making it takes 45 ms, a question often 25.

Each question has its own limits of time and memory, and the columns that it names are joined for it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import numpy as np
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS, SOURCE, VARIABLES, Thresholds, definitions
from pfgdata.query.counts import tag_counts
from pfgdata.query.expression import compile_expression
from pfgdata.query.indexed import IndexedTags
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.sandbox import Sandbox
from pfgdata.records import Selection, nearest
from pfgdata.store import Snapshot, TagIndex, content_ids_of

__all__ = ["Session"]

_ORDER = (
    "ORDER BY root, coalesce(path_bytes, encode(path)), coalesce(member_bytes, encode(member)) NULLS FIRST"
)


class Session:
    """Answers about one snapshot, in the corpus's stable order (root, path bytes, member).

    Every question raises QueryError, one line, for an expression that is not valid or goes beyond `limits`,
    and for thresholds below the store's score floor. Threads that ask at once wait for each other.
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

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the shards' files; questions are refused from then on."""
        self._closed = True
        self._sandbox.close()

    def count(self, expression: str | None, *, thresholds: Thresholds | None = None) -> int:
        """For how many rows `expression` is true (None: all)."""
        found = self._fetch(expression, thresholds, lambda rows: f"SELECT count(*) AS n FROM ({rows})")
        return int(found["n"][0].as_py())

    def select(
        self, expression: str | None, *, thresholds: Thresholds | None = None, limit: int | None = None
    ) -> Selection:
        """The rows for which `expression` is true (None: all), at most `limit`."""
        chosen = thresholds or self.thresholds
        columns = "content_id, file_index, file_row_number"
        first = f"{_ORDER} {_first(limit)}"
        table = self._fetch(expression, chosen, lambda rows: f"SELECT {columns} FROM ({rows}) {first}")
        return Selection(
            content_ids=content_ids_of(table["content_id"]),
            shards=tuple(shard.id for shard in self._sandbox.shards),
            shard_index=table["file_index"].to_numpy().astype(np.int32),
            rows=table["file_row_number"].to_numpy().astype(np.int64),
            expression=expression,
            thresholds={"general": chosen.general, "character": chosen.character},
        )

    def rows(
        self,
        expression: str | None,
        *,
        columns: Sequence[str] = COLUMNS,
        thresholds: Thresholds | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The `columns` of the rows for which `expression` is true (None: all), at most `limit` rows.

        Raises QueryError for an unknown column, too.
        """
        chosen, joined = thresholds or self.thresholds, self._columns()
        meaning = definitions(chosen, self._roots)
        wanted = ", ".join(f'{_known(name, meaning, joined)} AS "{name}"' for name in columns)

        def sql(rows: str) -> str:
            source = f"({rows})"
            if limit is not None:  # find the rows, then make their columns: 130 ms, not 840 (600,000 rows)
                source = (
                    f"{SOURCE} SEMI JOIN (SELECT file_index AS _f, file_row_number AS _r FROM ({rows}) "
                    f"{_ORDER} {_first(limit)}) ON file_index = _f AND file_row_number = _r"
                )
            return f"SELECT {wanted} FROM {source} {_ORDER}"

        return self._fetch(expression, chosen, sql, joined)

    def counts(self, expression: str | None, *, thresholds: Thresholds | None = None) -> pa.Table:
        """How often each tag counts where `expression` is true (None: everywhere): see `tag_counts`."""
        chosen = thresholds or self.thresholds

        def answer(rows: str) -> pa.Table:
            return tag_counts(
                self._sandbox.fetch,
                rows,
                index=self._tag_index(),
                shards=self._sandbox.shards,
                vocabulary=self.snapshot.vocabulary,
                thresholds=chosen,
            )

        return self._ask(expression, chosen, answer)

    def _fetch(
        self,
        expression: str | None,
        thresholds: Thresholds | None,
        sql: Callable[[str], str],
        joined: JoinedColumns | None = None,
    ) -> pa.Table:
        """What `sql(a query of the rows)` gives."""
        return self._ask(expression, thresholds, lambda rows: self._sandbox.fetch(sql(rows)), joined)

    def _ask(
        self,
        expression: str | None,
        thresholds: Thresholds | None,
        answer: Callable[[str], pa.Table],
        joined: JoinedColumns | None = None,
    ) -> pa.Table:
        """What `answer(a query of the rows)` gives, within the limits; `joined` has what is to be shown."""
        chosen, columns = thresholds or self.thresholds, joined or self._columns()
        chosen.require(self.snapshot.score_floor)

        def work() -> pa.Table:
            if expression is None:
                columns.join(self._sandbox)
                return answer(f"SELECT * FROM {SOURCE}")
            return answer(compile_expression(self._sandbox, columns, expression, thresholds=chosen))

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
            self._index, self._looked = TagIndex.of(self.snapshot, self._sandbox.shards), True
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


def _first(limit: int | None) -> str:
    """The LIMIT of a query. Raises QueryError for a number below 0."""
    if limit is not None and limit < 0:
        raise QueryError(f"limit {limit}: give 0 or more")
    return "" if limit is None else f"LIMIT {limit:d}"


def _known(name: str, meaning: Mapping[str, str], joined: JoinedColumns) -> str:
    if name in meaning:
        return meaning[name]
    if joined.read(name) is not None:
        return f'"{name}"'
    near = nearest(name, joined.names)
    hint = f"did you mean {' or '.join(near)}?" if near else f"columns are {', '.join(joined.names)}"
    raise QueryError(f"no column {name}; {hint}")
