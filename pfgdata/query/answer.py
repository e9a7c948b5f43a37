"""One question to a snapshot, through a session of its own; who asks several opens a `Session`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pfgdata.query.columns import COLUMNS, Thresholds
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.question import Question
from pfgdata.query.session import Session
from pfgdata.records import Selection
from pfgdata.store import Snapshot

__all__ = ["count", "run_query", "select"]


def run_query(
    snapshot: Snapshot,
    question: str | Question | None,
    thresholds: Thresholds,
    *,
    columns: Sequence[str] = COLUMNS,
    roots: Mapping[str, str],
    limits: Limits = DEFAULT_LIMITS,
) -> pa.Table:
    """`Session.rows` of one question: at most `limits.rows` rows, `roots` as `locations` gives them."""
    with Session(snapshot, thresholds=thresholds, roots=roots, limits=limits) as session:
        return session.rows(question, columns=columns, limit=limits.rows)


def select(
    snapshot: Snapshot,
    question: str | Question | None,
    thresholds: Thresholds,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> Selection:
    """`Session.select` of one question."""
    with Session(snapshot, thresholds=thresholds, limits=limits) as session:
        return session.select(question)


def count(
    snapshot: Snapshot,
    question: str | Question | None,
    thresholds: Thresholds,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> int:
    """`Session.count` of one question."""
    with Session(snapshot, thresholds=thresholds, limits=limits) as session:
        return session.count(question)
