"""Facets of columns with values that are hard to count: what is told is what the condition finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.store import Store
from pfgdata.vocabulary import CHARACTER, Vocabulary
from pfgdata.web import DeskOptions, browse_app, serving
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
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


class PlainTagger(CheapTagger):
    """Without ratings; two of its tags are no words of danbooru's."""

    def __init__(self) -> None:
        super().__init__()
        names = ("hat", "or", "two words", ":(", "o'neil", "hero")
        categories = np.array([0, 0, 0, 0, 0, CHARACTER], np.uint8)
        self.vocabulary = Vocabulary(names=names, categories=categories, counts=np.arange(6))
        self._head = np.random.default_rng(7).normal(0, 0.3, (768, 6))


@pytest.fixture
def plain_client(tmp_path: Path) -> Iterator[Client]:
    make_images(tmp_path / "images", 12)
    store = new_store(tmp_path / "feats", PlainTagger())
    ingest(plan_segments([tmp_path / "images"], {}), store, PlainTagger(), options=IngestOptions())
    with serving(browse_app(store, DeskOptions())) as place:
        yield Client(place)


def test_a_store_without_ratings_is_browsed(plain_client: Client) -> None:
    names = [one["name"] for one in plain_client.get("/api/store").json["facets"]]
    assert names == ["character", "tags", "size", "bucket", "format"]
    (content, *_) = plain_client.rows()
    told = plain_client.get(f"/api/image/{content}").json
    assert (told["rating"], told["rating_scores"]) == (None, {})
    selection = plain_client.select()["id"]
    for facet in ("rating", *names):
        for value in plain_client.get(f"/api/facets/{selection}", facet=facet).json["values"]:
            assert plain_client.get("/api/count", where=value["add"]).json["count"] == value["count"], value
            if value["add_tag"] is not None:
                counted = plain_client.get("/api/count", tags=value["add_tag"])
                assert counted.status == 200 and counted.json["count"] == value["count"], value


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


def test_a_facet_says_no_tag_that_would_find_other_images(own_corpus: Corpus) -> None:
    store = Store.open(own_corpus.feats)
    paths = store.snapshot().images(["path"])["path"].to_pylist()[:3]
    for name, values in {"my_ratio": [5.0, 7.0, 7.0], "my_order": ["width", "id", "x"]}.items():
        store.write_column(name, pa.table({"path": paths, "value": values}))
        for end in ("parquet", "json"):  # as a store of before such names were refused has them
            (store.path / "columns" / f"{name}.{end}").rename(store.path / "columns" / f"{name[3:]}.{end}")
    with serving(browse_app(store, DeskOptions())) as place:
        client = Client(place)
        told = client.select()["id"]
        for facet in ("ratio", "order", "points", "size"):
            values = client.get(f"/api/facets/{told}", facet=facet).json["values"]
            assert len(values) > 1
            assert {one["add_tag"] is None for one in values} == {facet in ("ratio", "order")}


def test_a_column_called_as_a_facet_of_every_store_stands_not_beside_it(odd_client: Client) -> None:
    names = [one["name"] for one in odd_client.get("/api/store").json["facets"]]
    assert names.count("bucket") == 1
