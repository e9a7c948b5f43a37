"""From a question to its rows: as a Selection, as a table of chosen columns, or counted.

Rows come in the corpus's stable order (root, path bytes, member), whatever shards they lie in, unless the
question has an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS, VARIABLES, Thresholds, definitions
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.question import Question, Rows, compile_question
from pfgdata.query.sandbox import Sandbox
from pfgdata.records import Selection, nearest
from pfgdata.store import Snapshot, content_ids_of

__all__ = ["count", "run_query", "select"]


def run_query(
    snapshot: Snapshot,
    question: str | Question | None,
    *,
    thresholds: Thresholds,
    columns: Sequence[str] = COLUMNS,
    roots: Mapping[str, str],
    limits: Limits = DEFAULT_LIMITS,
) -> pa.Table:
    """The `columns` of the rows that `question` asks for (a text: an SQL condition), at most `limits.rows`.

    `roots` says where each corpus root is now, as `file` should show it (see `locations`).
    Raises QueryError, one line, for an expression or column that is not valid or goes beyond `limits`.
    """
    meaning, joined = definitions(thresholds, roots), JoinedColumns(snapshot)
    wanted = ", ".join(f'{_known(name, meaning, joined)} AS "{name}"' for name in columns)

    def sql(rows: Rows) -> str:
        shown = rows.first(limits.rows)
        return f"SELECT {wanted} FROM ({shown.keyed}) {shown.order}"

    with _opened(snapshot, thresholds, limits) as sandbox:
        return _answer(sandbox, joined, question, thresholds, sql)


def select(
    snapshot: Snapshot,
    question: str | Question | None,
    thresholds: Thresholds,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> Selection:
    """The rows that `question` asks for, in its order (a text: an SQL condition; None: all rows).

    Raises QueryError as `run_query` does.
    """

    def sql(rows: Rows) -> str:
        return f"SELECT content_id, file_index, file_row_number FROM ({rows.keyed}) {rows.order}"

    with _opened(snapshot, thresholds, limits) as sandbox:
        table = _answer(sandbox, JoinedColumns(snapshot), question, thresholds, sql)
        return Selection(
            content_ids=content_ids_of(table["content_id"]),
            shards=tuple(shard.id for shard in sandbox.shards),
            shard_index=table["file_index"].to_numpy().astype(np.int32),
            rows=table["file_row_number"].to_numpy().astype(np.int64),
            expression=question.words if isinstance(question, Question) else question,
            thresholds={"general": thresholds.general, "character": thresholds.character},
        )


def count(
    snapshot: Snapshot,
    question: str | Question | None,
    thresholds: Thresholds,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> int:
    """How many rows `select` would give."""

    def sql(rows: Rows) -> str:
        return f"SELECT count(*) AS n FROM ({rows.sql})"

    with _opened(snapshot, thresholds, limits) as sandbox:
        return int(_answer(sandbox, JoinedColumns(snapshot), question, thresholds, sql)["n"][0].as_py())


def _answer(
    sandbox: Sandbox,
    joined: JoinedColumns,
    question: str | Question | None,
    thresholds: Thresholds,
    sql: Callable[[Rows], str],
) -> pa.Table:
    """What `sql(the rows)` gives, within the sandbox's limits."""

    def work() -> pa.Table:
        return sandbox.fetch(sql(compile_question(sandbox, joined, question, thresholds)))

    return sandbox.run(work)


@contextmanager
def _opened(snapshot: Snapshot, thresholds: Thresholds, limits: Limits) -> Iterator[Sandbox]:
    """A sandbox over the snapshot; its variables give the name of each tag, null where of another kind.

    Raises QueryError for thresholds below the snapshot's score floor.
    """
    thresholds.require(snapshot.score_floor)
    vocabulary = snapshot.vocabulary
    ids = {"general": vocabulary.general_ids, "character": vocabulary.character_ids}
    variables: dict[str, list[str | None]] = {}
    for category, name in VARIABLES.items():
        names: list[str | None] = [None] * len(vocabulary.names)
        for number in ids[category]:
            names[number] = vocabulary.names[number]
        variables[name] = names
    with Sandbox(snapshot.shards, variables=variables, limits=limits) as sandbox:
        yield sandbox


def _known(name: str, meaning: Mapping[str, str], joined: JoinedColumns) -> str:
    if name in meaning:
        return meaning[name]
    if joined.read(name) is not None:
        return f'"{name}"'
    near = nearest(name, joined.names)
    hint = f"did you mean {' or '.join(near)}?" if near else f"columns are {', '.join(joined.names)}"
    raise QueryError(f"no column {name}; {hint}")
