"""Facets of columns with values that are hard to count: what is told is what the condition finds."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pfgdata.store import Store
from pfgdata.web import DeskOptions, browse_app, serving
from tests.pfgdata.web.browser import Client
from tests.pfgdata.web.conftest import Corpus

TEXTS = [
    "a",
    "O'Neil",
    "x AND y",
    "none",
    None,
    "(p)",
    "-q",
    "~r",
    "@s",
    "a*b",
    'd"q',
    "1..3",
    "or",
    "nl\nx",
    "",
]
COLUMNS: dict[str, Any] = {
    "texts": lambda place: TEXTS[place % len(TEXTS)],
    "twice": lambda place: [["a", "a", "b"], ["b"], ["a", None], [], None][place % 5],
    "zeros": lambda place: [0.0, -0.0, None, float("nan"), float("inf"), 1e300][place % 6],
    "tiny": lambda place: None if place % 7 == 0 else place * 1e-6,
    "huge": lambda place: 2**62 + place,
    "single": lambda place: place * 0.1,
    "half": lambda place: place * 0.25,
    "bucket": lambda place: "abc"[place % 3],
}
TYPES = {"single": pa.float32(), "half": pa.float16()}


@pytest.fixture
def odd_client(own_corpus: Corpus) -> Any:
    store = Store.open(own_corpus.feats)
    ids = store.snapshot().images(["content_id"])["content_id"]
    ids = ids.take(pa.array(sorted({one: place for place, one in enumerate(ids.to_pylist())}.values())))
    for name, value in COLUMNS.items():
        values = pa.array([value(place) for place in range(len(ids))], TYPES.get(name))
        store.write_column(name, pa.table({"content_id": ids, "value": values}))
    with serving(browse_app(store, DeskOptions())) as place:
        yield Client(place)


def test_what_a_facet_of_odd_values_counts_is_what_its_condition_finds(odd_client: Client) -> None:
    told = odd_client.select()
    for facet in COLUMNS:
        answer = odd_client.get(f"/api/facets/{told['id']}", facet=facet)
        assert answer.status == 200, answer.body
        for value in answer.json["values"]:
            assert odd_client.get("/api/count", where=value["add"]).json["count"] == value["count"], value
            others = odd_client.get("/api/count", where=f"NOT coalesce({value['add']}, false)").json["count"]
            assert others == told["count"] - value["count"], value  # what the page puts for "all but these"
            if value["add_tag"] is not None:
                counted = odd_client.get("/api/count", tags=value["add_tag"])
                assert counted.status == 200 and counted.json["count"] == value["count"], value


def test_a_column_called_as_a_facet_of_every_store_stands_not_beside_it(odd_client: Client) -> None:
    names = [one["name"] for one in odd_client.get("/api/store").json["facets"]]
    assert names.count("bucket") == 1
