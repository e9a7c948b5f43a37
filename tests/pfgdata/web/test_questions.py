"""A question that takes too long, and one that nobody waits for any more."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Limits, Question, Session
from pfgdata.store import Shadow, Store
from pfgdata.web import DeskOptions, browse_app, serving
from tests.pfgdata.query.rows import add_shard, row, store_of
from tests.pfgdata.web.browser import Client

# of each row 400 letters with 407: 20 s for all 20,000, and an interrupt is heeded within 1.5 (measured)
SLOW = "levenshtein(path || path, path || path || rating) + levenshtein(path || path, path || path) > 0"


@pytest.fixture(scope="module")
def slow_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """20,000 rows of long paths."""
    path = tmp_path_factory.mktemp("slow") / "feats"
    return store_of(path, [row(f"{'x' * 200}{number:05d}.jpg") for number in range(20_000)])


def test_a_question_that_takes_too_long_is_ended_and_the_next_answered(slow_store: Store) -> None:
    options = DeskOptions(limits=Limits(seconds=0.5))
    with serving(browse_app(slow_store, options)) as place:
        client = Client(place)
        begun = time.monotonic()
        answer = client.get("/api/count", where=SLOW)
        assert answer.status == 400
        assert "took longer than 0.5 s" in answer.error
        assert time.monotonic() - begun < 5
        assert client.get("/api/count", where="width > 1").json["count"] == 20_000


def test_a_question_whose_client_has_gone_is_ended(slow_store: Store) -> None:
    with serving(browse_app(slow_store, DeskOptions())) as place:
        client = Client(place)
        client.select()
        lines = f"GET /api/count?where={quote(SLOW)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", place.port)) as raw:
            raw.sendall(lines)
            time.sleep(0.3)
        begun = time.monotonic()
        assert client.get("/api/count", where="width > 1").json["count"] == 20_000
        assert time.monotonic() - begun < 8


def test_what_waits_behind_a_question_and_has_gone_is_never_asked(slow_store: Store) -> None:
    with serving(browse_app(slow_store, DeskOptions())) as place:
        client = Client(place)
        client.select()
        lines = f"GET /api/count?where={quote(SLOW)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", place.port)) as raw:
                raw.sendall(lines)
                time.sleep(0.01)
        begun = time.monotonic()
        assert client.get("/api/count", where="width > 1").status == 200
        assert time.monotonic() - begun < 10  # all of them would be 400


def test_a_session_is_interrupted_by_another_thread(slow_store: Store) -> None:
    with Session(slow_store.snapshot()) as session:
        session.interrupt()
        assert session.count("width > 1") == 20_000
        threading.Timer(0.3, session.interrupt).start()
        begun = time.monotonic()
        with pytest.raises(QueryError, match="Interrupted"):
            session.count(SLOW)
        assert time.monotonic() - begun < 5
        assert session.count("width > 1") == 20_000


def test_places_are_the_rows_of_a_selection_also_where_rows_are_hidden(tmp_path: Path) -> None:
    store = store_of(tmp_path / "feats", [row(f"{n}.jpg", width=n) for n in range(5)], [])
    first = store.snapshot().shards[0].id
    add_shard(store, [row("b.jpg", width=9), row("a.jpg", width=2)], shadows=[Shadow(first, "images", 1)])
    snapshot = store.snapshot()
    with Session(snapshot) as session:
        for question in (None, "width > 1", Question(order="-width"), Question(where="width < 9", limit=3)):
            places = session.places(question)
            expected = snapshot.positions(session.select(question))
            ordered = isinstance(question, Question) and question.order is not None
            assert places.tolist() == expected.tolist() if ordered else sorted(places) == sorted(expected)
