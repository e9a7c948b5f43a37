"""What gallery-dl wrote beside images becomes columns: `pfgdata attach danbooru DIR`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import StoreError
from pfgdata.ingest import IngestOptions, attach_posts, ingest
from pfgdata.screen import run_app
from pfgdata.store import Store
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

DANBOORU = {  # as gallery-dl 1.30 writes a post
    "category": "danbooru",
    "id": 7_000_001,
    "score": 12,
    "fav_count": 30,
    "rating": "s",
    "source": "https://example.org/1",
    "md5": "0" * 32,
    "created_at": "2024-01-01T00:00:00.000-05:00",
    "parent_id": None,
    "tag_string": "1girl hatsune_miku highres smile someone vocaloid",
    "tag_string_general": "1girl smile",
    "tag_string_character": "hatsune_miku",
    "tag_string_copyright": "vocaloid",
    "tag_string_artist": "someone",
    "tag_string_meta": "highres",
    "tags_general": ["1girl", "smile"],
}
GELBOORU = {
    "category": "gelbooru",
    "id": 9,
    "score": "4",
    "rating": "general",
    "source": "",
    "tags": " 1girl  solo ",
    "created_at": "Sat Jan 06 10:00:00 -0600 2024",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six images, with posts of three, one damaged and one of another site beside them."""
    images = tmp_path / "images"
    make_images(images / "d", 6)
    texts: dict[str, Any] = {
        "0000.png.json": DANBOORU,
        "0001.json": {**DANBOORU, "id": 2, "score": -3, "rating": "e", "tag_string_artist": ""},
        "0002.png.json": GELBOORU,
        "0003.png.json": "{",
        "lost.jpg.json": DANBOORU,
    }
    for name, value in texts.items():
        (images / "d" / name).write_text(value if isinstance(value, str) else json.dumps(value))
    (images / "d" / "0000.txt").write_text("a caption, which is no post")
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([images], {}), store, CheapTagger(), options=IngestOptions(batch_size=4))
    return store


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=list(arguments), name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_posts_become_columns_that_a_question_names(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--store", str(store.path)]
    assert run("attach", "danbooru", str(tmp_path / "images"), "--json", *at) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["posts"], report["without"]) == (2, 4)
    assert report["columns"]["danbooru_artists"] == 2 and "danbooru_parent_id" not in report["columns"]
    assert [Path(one).name for one in report["orphans"]] == ["lost.jpg.json"]
    assert sorted(Path(file).name for file, _ in report["warnings"]) == ["0002.png.json", "0003.png.json"]
    assert "is a post of gelbooru" in said.err and "broken JSON" in said.err
    names = "path,danbooru_tags,danbooru_rating,danbooru_id"
    assert run("query", "danbooru_score > 10", "--json", "--columns", names, *at) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "d/0000.png",
        "danbooru_tags": ["hatsune_miku", "vocaloid", "someone", "1girl", "smile"],
        "danbooru_rating": "sensitive",
        "danbooru_id": 7_000_001,
    }
    kinds = {name: str(store.read_column(name)["value"].type) for name in store.columns()}
    assert kinds["danbooru_score"] == "int64" and kinds["danbooru_artists"].startswith("list")


def test_gelbooru_has_tags_in_one_text_and_numbers_as_texts(store: Store, tmp_path: Path) -> None:
    report = attach_posts(store, "gelbooru", plan_segments([tmp_path / "images"], store.roots()))
    assert report.posts == 1
    assert sorted(report.columns) == [
        f"gelbooru_{name}" for name in ("created_at", "id", "rating", "score", "tags")
    ]
    assert store.read_column("gelbooru_tags")["value"].to_pylist() == [["1girl", "solo"]]
    assert store.read_column("gelbooru_score")["value"].to_pylist() == [4]


def test_posts_are_replaced_all_together(store: Store, tmp_path: Path) -> None:
    segments = plan_segments([tmp_path / "images"], store.roots())
    attach_posts(store, "danbooru", segments)
    with pytest.raises(
        StoreError, match="has a column danbooru_artists already; --replace all of danbooru's"
    ):
        attach_posts(store, "danbooru", segments)
    (tmp_path / "images" / "d" / "0000.png.json").unlink()
    (tmp_path / "images" / "d" / "0001.json").write_text(json.dumps({"tags": "a b", "id": 5}))
    report = attach_posts(store, "danbooru", segments, replace=True)
    assert sorted(report.columns) == store.columns() == ["danbooru_id", "danbooru_tags"]


def test_half_a_surrogate_pair_in_a_tag_is_left_out(store: Store, tmp_path: Path) -> None:
    post = {**DANBOORU, "tag_string_general": "smi\ud800le \udc00 solo", "source": "x\udc00"}
    (tmp_path / "images" / "d" / "0000.png.json").write_text(json.dumps(post))
    attach_posts(store, "danbooru", plan_segments([tmp_path / "images"], store.roots()))
    tags = store.read_column("danbooru_tags")["value"].to_pylist()[0]
    assert tags[-2:] == ["smile", "solo"]
    assert store.read_column("danbooru_source")["value"].to_pylist()[0] == "x"


def test_a_folder_without_posts_is_one_line(store: Store, tmp_path: Path) -> None:
    for file in (tmp_path / "images" / "d").glob("*.json"):
        file.unlink()
    with pytest.raises(StoreError, match="no JSON lies beside the 6 images"):
        attach_posts(store, "danbooru", plan_segments([tmp_path / "images"], store.roots()))
