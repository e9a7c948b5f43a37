"""Thumbnails and pictures: made once, kept whole and within their bound, and of nothing but stored images."""

from __future__ import annotations

import io
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from pfgdata.records import content_id
from pfgdata.store import Store, ThumbnailCache
from pfgdata.web import DeskOptions, browse_app, serving
from pfgdata.web.desk import Shown
from pfgdata.web.pictures import Pictures
from tests.pfgdata.web.browser import Client
from tests.pfgdata.web.conftest import Corpus

SECRET = b"\x89PNG\r\n\x1a\n not of the corpus"


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def id_of(path: Path) -> str:
    return str(UUID(bytes=content_id(path.read_bytes())))


def cached(corpus: Corpus) -> list[Path]:
    return sorted((corpus.feats / "cache" / "thumbnails").rglob("*.jpg"))


def test_a_thumbnail_is_a_small_jpeg_for_ever(client: Client, corpus: Corpus) -> None:
    answer = client.get(f"/thumb/{id_of(corpus.images / 'wide7.jpg')}.jpg")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    assert opened(answer.body).size == (256, 60)
    small = client.get(f"/thumb/{id_of(corpus.images / 'plain' / '0000.png')}.jpg")
    assert opened(small.body).size == (24, 32)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wide0.jpg", "image/jpeg"),
        ("original.png", "image/png"),
        ("old.bmp", "image/jpeg"),
        ("clear.tiff", "image/png"),
    ],
)
def test_a_picture_is_one_that_browsers_show(client: Client, corpus: Corpus, name: str, kind: str) -> None:
    path = corpus.images / name
    answer = client.get(f"/picture/{id_of(path)}")
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (answer.body == path.read_bytes()) == (path.suffix in (".jpg", ".png"))
    assert opened(answer.body).size == opened(path.read_bytes()).size
    if name == "clear.tiff":
        assert opened(answer.body).mode == "RGBA"


def test_a_thumbnail_is_made_once_and_kept(own_client: Client, own_corpus: Corpus) -> None:
    path = own_corpus.images / "wide1.jpg"
    first = own_client.get(f"/thumb/{id_of(path)}.jpg")
    (kept,) = cached(own_corpus)
    assert kept.read_bytes() == first.body
    path.unlink()
    assert own_client.get(f"/thumb/{UUID(kept.stem)}.jpg").body == first.body
    kept.write_bytes(first.body[:-10])  # as a power cut leaves it
    assert own_client.get(f"/thumb/{UUID(kept.stem)}.jpg").status == 410


def test_many_that_ask_at_once_get_one_thumbnail(own_corpus: Corpus) -> None:
    shown = Shown(Store.open(own_corpus.feats), DeskOptions())
    pictures = Pictures(ThumbnailCache(shown.snapshot, most=0), follow_links=False)
    content, together = content_id((own_corpus.images / "wide7.jpg").read_bytes()), threading.Barrier(8)

    def ask(_: int) -> bytes | None:
        together.wait()
        return pictures.thumbnail(shown, content).result()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert pictures.decoded == 1
    pictures.close()


def test_what_nobody_waits_for_is_not_begun(own_corpus: Corpus) -> None:
    shown = Shown(Store.open(own_corpus.feats), DeskOptions())
    pictures = Pictures(ThumbnailCache(shown.snapshot, most=0), follow_links=False)
    ids = [one.tobytes() for one in shown.catalog.content_ids]
    futures = {one: pictures.thumbnail(shown, one) for one in ids}
    pictures.thumbnail(shown, ids[-1])  # a second one waits for the last
    for one in ids:
        pictures.let_go(one)
    assert futures[ids[-1]].result() is not None
    assert pictures.decoded < len(set(ids))
    pictures.close()


def test_the_cache_keeps_its_bound_and_what_was_used_last(own_corpus: Corpus) -> None:
    snapshot = Store.open(own_corpus.feats).snapshot()
    picture, cache = b"\xff\xd8\xff" + bytes(1000) + b"\xff\xd9", ThumbnailCache(snapshot, most=20_000)
    for number in range(60):
        cache.write(number.to_bytes(16, "big"), picture)
        os.utime(cached(own_corpus)[-1], (number, number))
        assert number > 18 or cache.read(bytes(16)) == picture  # used: the first one is the latest
    sizes = [path.stat().st_size for path in cached(own_corpus)]
    assert sum(sizes) <= 20_000 and len(sizes) >= 10
    assert cache.read(bytes(16)) == cache.read((59).to_bytes(16, "big")) == picture
    assert cache.read((1).to_bytes(16, "big")) is None
    assert not list((own_corpus.feats / "cache").rglob(".tmp-*"))


def test_the_cache_can_be_deleted_at_any_time(own_client: Client, own_corpus: Corpus) -> None:
    content = id_of(own_corpus.images / "wide2.jpg")
    first = own_client.get(f"/thumb/{content}.jpg").body
    shutil.rmtree(own_corpus.feats / "cache")
    assert own_client.get(f"/thumb/{content}.jpg").body == first
    assert len(cached(own_corpus)) == 1


def test_a_store_that_cannot_be_written_to_is_browsed_without_a_cache(own_corpus: Corpus) -> None:
    shutil.rmtree(own_corpus.feats / "cache", ignore_errors=True)
    (own_corpus.feats / "cache").write_text("in the way")  # as closed as to root a folder can be
    with serving(browse_app(Store.open(own_corpus.feats), DeskOptions())) as place:
        client = Client(place)
        assert client.get(f"/thumb/{id_of(own_corpus.images / 'wide2.jpg')}.jpg").status == 200
        assert client.get(f"/api/facets/{client.select()['id']}", facet="tags").json["values"]


def test_a_store_that_was_moved_is_not_begun_anew(own_client: Client, own_corpus: Corpus) -> None:
    content = own_client.rows(where="path LIKE 'plain/%'")[0]
    own_corpus.feats.rename(own_corpus.feats.with_name("moved"))
    assert own_client.get(f"/thumb/{content}.jpg").status == 200
    assert not own_corpus.feats.exists()
    answer = own_client.get("/api/store")
    assert answer.status == 400
    assert str(own_corpus.feats) in answer.error and "fault of pfg" not in answer.error


def test_an_image_that_is_gone_or_another_now_is_not_shown(own_client: Client, own_corpus: Corpus) -> None:
    gone, other = own_corpus.images / "wide3.jpg", own_corpus.images / "wide4.jpg"
    ids = [id_of(gone), id_of(other)]
    gone.unlink()
    other.write_bytes(SECRET)
    for content, reason in zip(ids, ("gone", "changed since its ingest"), strict=True):
        for path in (f"/thumb/{content}.jpg", f"/picture/{content}"):
            answer = own_client.get(path)
            assert answer.status == 410
            assert reason in answer.error
            assert SECRET not in answer.body
            assert "immutable" not in answer.headers["cache-control"]


def test_of_several_files_any_that_is_there_is_shown(own_client: Client, own_corpus: Corpus) -> None:
    content = id_of(own_corpus.images / "again.png")
    (own_corpus.images / "again.png").unlink()
    assert own_client.get(f"/picture/{content}").status == 200
    (own_corpus.images / "plain" / "0003.png").unlink()
    assert own_client.get(f"/picture/{content}").status == 410


def test_a_link_out_of_the_corpus_is_not_followed_unless_asked(own_corpus: Corpus, tmp_path: Path) -> None:
    inside, outside = own_corpus.images / "wide5.jpg", tmp_path / "outside"
    content = id_of(inside)
    outside.mkdir()
    shutil.move(inside, outside / "wide5.jpg")
    inside.symlink_to(outside / "wide5.jpg")
    (tmp_path / "secret.png").write_bytes(SECRET)
    other = own_corpus.images / "wide6.jpg"
    secret = id_of(other)
    other.unlink()
    other.symlink_to(tmp_path / "secret.png")
    for follow in (False, True):
        options = DeskOptions(follow_links=follow)
        with serving(browse_app(Store.open(own_corpus.feats), options)) as place:
            client = Client(place)
            assert client.get(f"/picture/{content}").status == (200 if follow else 410)
            answer = client.get(f"/picture/{secret}")
            assert answer.status == 410 and SECRET not in answer.body


def test_a_pipe_in_an_images_place_stalls_nothing(own_client: Client, own_corpus: Corpus) -> None:
    path = own_corpus.images / "wide0.jpg"
    content = id_of(path)
    path.unlink()
    os.mkfifo(path)
    assert own_client.get(f"/picture/{content}").status == 410
    assert own_client.get(f"/thumb/{content}.jpg").status == 410


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
     "/static/%2fetc%2fpasswd",
     "/static/", "/static", "/static/.", "/static/a%00b", "/static/..\\app.py", "/thumb/../../etc/passwd",
     "/thumb/%2e%2e%2f%2e%2e%2fetc%2fpasswd.jpg", "/picture/..%2f..%2fetc%2fpasswd", "/thumb/%ff.jpg"],
)  # fmt: skip
def test_no_path_leads_out(client: Client, path: str) -> None:
    answer = client.send("GET", path)
    assert answer.status in (307, 404)
    assert b"root:" not in answer.body and b"import" not in answer.body


def test_the_page_and_its_files_are_served_with_their_types(client: Client) -> None:
    style = client.get("/static/pages.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    tag = style.headers["etag"]
    again = client.send("GET", "/static/pages.css", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert client.get("/api/store").headers["cache-control"] == "no-store"
