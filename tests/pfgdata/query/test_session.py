"""A session: one sandbox for many questions, none of which leaves anything for the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Limits, Session, Thresholds, unfinished
from pfgdata.query.sandbox import Sandbox
from pfgdata.store import Joined, Store, index_tags
from tests.pfgdata.query.rows import row, store_of
from tests.pfgdata.query.test_limits import NUMBERS, lambdas

SLOW = lambdas(f"len(list_filter([{NUMBERS[:360]}], lambda V: X = V))", "width", 2) + " > 3"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """40,000 images in two shards, the first half smiling a little."""
    store = store_of(
        tmp_path_factory.mktemp("store") / "s",
        [row(f"{number:05}.png", {"smile": 0.5}) for number in range(20_000)],
        [row(f"{number:05}.png", {"1girl": 0.9}) for number in range(20_000, 40_000)],
    )
    index_tags(store.snapshot())
    return store


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with Session(store.snapshot(), limits=Limits(seconds=1)) as session:
        yield session


def test_questions_of_one_session_have_their_own_thresholds(session: Session) -> None:
    def found(general: float) -> tuple[int, int]:
        chosen = Thresholds(general=general)
        return (
            session.count("has('smile')", thresholds=chosen),
            len(session.select("list_contains(tags, lower('SMILE')) and row < 5", thresholds=chosen)),
        )

    assert found(0.4) == (20_000, 5)
    assert found(0.6) == (0, 0)
    assert found(0.4) == (20_000, 5)
    with pytest.raises(QueryError, match="keeps scores from"):
        session.count(None, thresholds=Thresholds(general=0.01))
    assert session.count("has('smile')") == 20_000


def test_a_column_that_one_question_names_does_not_reach_the_next(store: Store) -> None:
    calls = iter((1, 2, 3))

    def values() -> pa.Array:
        return pa.array(np.full(40_000, next(calls)))

    snapshot = store.snapshot().with_columns(Joined("mark", values), Joined("other", np.arange(40_000)))
    with Session(snapshot) as session:
        assert session.count("mark = 1 and has('smile')") == 20_000
        assert session.count("other < 10 and score('smile') > 0.1") == 10
        assert session.rows("other < 2", columns=["mark", "path"])["mark"].to_pylist() == [2, 2]
        assert session.count("mark = 3") == 40_000
        assert session.count("width = 640") == 40_000
        sandbox = session._sandbox
        sandbox.run(lambda: None)
        assert "mark" not in sandbox.fetch("SELECT * FROM images LIMIT 1").column_names
        assert sandbox.fetch("SELECT getvariable('has_4') AS v")["v"].to_pylist() == [None]


def test_a_users_column_is_read_anew_for_each_question(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png")])
    with Session(store.snapshot()) as session:
        for value in ("x", "y"):
            table = pa.table({"path": ["a.png"], "value": [value]})
            store.write_column("text", table, replace=True)
            assert session.rows(None, columns=["text"])["text"].to_pylist() == [value]


def test_each_question_has_all_seconds_and_one_that_was_ended_leaves_the_session_usable(
    session: Session,
) -> None:
    for _ in range(3):
        with pytest.raises(QueryError, match="took longer than 1 s"):
            session.count(SLOW)
        assert session.count("width = 640 and has('smile')") == 20_000
    with pytest.raises(QueryError):
        session.count("has('smile")
    assert session.counts(None)["count"].to_pylist() == [40_000, 20_000, 20_000]
    while unfinished():
        threading.Event().wait(0.01)


def test_threads_that_ask_one_session_get_each_their_answer(session: Session) -> None:
    found: dict[int, int] = {}

    def ask(number: int) -> None:
        for _ in range(4):
            found[number] = session.count(f"row < {number} and has('smile')")

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(1, 7)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert found == {number: number for number in range(1, 7)}


def test_a_sandbox_that_is_busy_with_a_question_given_up_is_replaced(session: Session) -> None:
    session.count(None)
    held, free = threading.Event(), threading.Event()
    before: Sandbox = session._sandbox

    def deaf() -> None:
        held.set()
        free.wait(30)

    with pytest.raises(QueryError, match="took longer"):
        before.run(deaf)
    assert held.is_set() and before.busy
    assert session.count("has('smile')") == 20_000 and session._sandbox is not before
    free.set()
