"""Guides from a store: found by tags or a condition, and only what was found is ever given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import AccessError, NoStoreError, QueryError
from pfgdata.ingest import ingest
from pfgdata.records import content_id
from pfgdata.web import ServeOptions, serving
from pfgtrain.web import RULES, Desk, StoredGuides, drawing_app
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgtrain.web.client import Client
from tests.pfgtrain.web.conftest import COUNT


def test_a_search_gives_pages_in_the_order_of_the_store(store: StoredGuides, place: Path) -> None:
    first = store.search(tags="", where="")
    assert (first["count"], first["reach"], len(first["images"])) == (COUNT, COUNT, 60)
    rest = store.search(tags="", where="", start=60)["images"]
    names = [one["file"] for one in [*first["images"], *rest]]
    assert names == sorted(path.name for path in (place / "images").iterdir())
    assert store.search(tags="", where="", start=10**8)["images"] == []
    few = store.search(tags="smile", where="")
    assert 0 < few["count"] < COUNT
    assert few["count"] == store.search(tags="", where="has('smile')")["count"]


@pytest.mark.parametrize(
    ("tags", "where", "said"),
    [
        ("smiel", "", "smile"),
        ("", "has('smile'", "does not end well"),
        ("smile", "true", "give one of them"),
        ("", "1 = (SELECT count(*) FROM read_text('/etc/passwd'))", "a query inside"),
        ("", "x; DROP TABLE images", "syntax error"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(
    store: StoredGuides, tags: str, where: str, said: str
) -> None:
    with pytest.raises(QueryError, match=said) as caught:
        store.search(tags=tags, where=where)
    assert "\n" not in str(caught.value)


def test_only_what_a_search_found_is_given(store: StoredGuides, place: Path) -> None:
    data = (place / "images" / "0003.png").read_bytes()
    known = str(UUID(bytes=content_id(data)))
    assert store.take(known) is None and store.thumbnail(known) is None
    store.search(tags="", where="")
    assert store.take(known) == ("0003.png", data)
    small = store.thumbnail(known)
    assert small is not None and small.startswith(b"\xff\xd8") and store.thumbnail(known) is small
    for odd in ("", "../x", known.upper(), known + "0", "0" * 36):
        assert store.take(odd) is None and store.thumbnail(odd) is None


def test_an_image_that_has_changed_or_gone_is_told_and_never_given(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 2, size=(24, 24), seed=8)
    ingest(plan_segments([tmp_path / "images"], {}), new_store(tmp_path / "feats"), CheapTagger())
    store = StoredGuides(tmp_path / "feats")
    first, second = (one["id"] for one in store.search(tags="", where="")["images"])
    (tmp_path / "images" / "0000.png").write_bytes(b"another")
    (tmp_path / "images" / "0001.png").unlink()
    (tmp_path / "images" / "0001.png").symlink_to("/etc/hostname")
    for image in (first, second):
        with pytest.raises(AccessError, match=r"000\d\.png: changed since its ingest"):
            store.take(image)
        with pytest.raises(AccessError):
            store.thumbnail(image)


def test_no_store_is_said_before_a_page_is(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError):
        StoredGuides(tmp_path)


@pytest.fixture
def page(desk: Desk, store: StoredGuides) -> Iterator[Client]:
    with serving(drawing_app(desk, store), ServeOptions(port=0, rules=RULES)) as place:
        yield Client(place)


def test_a_picked_image_is_a_guide_with_its_own_bytes(page: Client, desk: Desk, place: Path) -> None:
    assert page.get("/api/about")["store"] == "feats"
    found = page.get("/api/store?tags=&where=&start=0")["images"][7]
    assert page.raw("GET", f"/thumb/{found['id']}.jpg").startswith(b"\xff\xd8")
    guide = page.post("/api/store/guides", {"id": found["id"]})["id"]
    kept = desk.shelf.get(guide)
    assert kept is not None and kept.name == "0007.png"
    assert kept.path.read_bytes() == (place / "images" / "0007.png").read_bytes()
    for odd in (5, "x" * 50, "0" * 36):
        assert page.post("/api/store/guides", {"id": odd})["error"] and page.status == 400
    assert page.get("/api/store?tags=smiel")["error"].startswith("this store's tagger knows no tag")
    assert page.status == 400
    page.raw("GET", "/thumb/..%2fx.jpg")
    assert page.status == 404
