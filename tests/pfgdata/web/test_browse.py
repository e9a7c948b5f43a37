"""What the page asks of a store and what it is told, against what the command answers."""

from __future__ import annotations

import itertools
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import pfgdata
from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import Question, Thresholds
from pfgdata.store import VERDICTS, Store
from pfgdata.web import DeskOptions, browse_app, serving
from pfgdata.web.desk import Desk
from pfgdata.web.tag_counts import TagCounts
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.store.small_features import give_features
from tests.pfgdata.web.browser import Client
from tests.pfgdata.web.conftest import MARKUP, Corpus

FACETS = ["rating", "character", "tags", "size", "bucket", "format", "style", "points", "marks", "good"]


def expected(corpus: Corpus, question: str | Question | None) -> list[str]:
    with pfgdata.open(corpus.feats) as store:
        return [str(UUID(bytes=one.tobytes())) for one in store.query(question).selection().content_ids]


def test_the_page_is_told_what_the_store_has(client: Client, corpus: Corpus) -> None:
    told = client.get("/api/store").json
    assert told["name"] == "feats"
    assert told["images"] == 49
    assert told["tagger"] == "cheap"
    assert told["thresholds"] == {"general": 0.35, "character": 0.85, "floor": pytest.approx(0.05)}
    assert [one["name"] for one in told["facets"]] == [*FACETS[:6], "good", "marks", "points", "style"]
    assert {one["name"] for one in told["columns"] if one["own"]} == {"good", "marks", "points", "style"}
    assert told["selections"] == [{"name": "wides", "images": 9, "kind": "live", "expression": "width > 600"}]
    assert shlex.split(told["command_store"]) == [str(corpus.feats)]


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        ({}, None),
        ({"where": "width > 600"}, "width > 600"),
        ({"where": "@wides and not has('smile')"}, "@wides and not has('smile')"),
        ({"where": "style = 'wide'", "order": "-width"}, Question(where="style = 'wide'", order="-width")),
        ({"order": "random()", "seed": "3"}, Question(order="random()", seed=3)),
        ({"sample": "7", "seed": "1"}, Question(sample=7, seed=1)),
        ({"limit": "5", "order": "points"}, Question(order="points", limit=5)),
        ({"where": "false"}, "false"),
        (
            {"tags": "width:>600 order:width_asc limit:4"},
            Question(where="width > 600", order="width", limit=4),
        ),
    ],
)
def test_a_selection_is_what_the_command_answers_in_its_order(
    client: Client, corpus: Corpus, asked: dict[str, Any], question: str | Question | None
) -> None:
    ids = expected(corpus, question)
    told = client.select(**asked)
    assert client.rows(**asked) == ids
    assert (told["count"], told["contents"]) == (len(ids), len(set(ids)))
    assert client.get("/api/count", **asked).json["count"] == len(ids)


def test_thresholds_are_asked_with_a_question(client: Client) -> None:
    low = client.select(where="has('solo')", threshold="0.1")["count"]
    high = client.select(where="has('solo')", threshold="0.9")["count"]
    assert low > high
    assert client.get("/api/select", threshold="0.001").status == 400


def test_rows_come_in_parts(client: Client) -> None:
    ids, name = client.rows(), client.select()["id"]
    part = client.get(f"/api/rows/{name}", start=40, count=20).json["rows"]
    assert [row[0] for row in part] == ids[40:]
    assert all(isinstance(side, int) and side > 0 for row in part for side in row[1:])
    assert client.get(f"/api/rows/{name}", start=10**9, count=5).json["rows"] == []
    for wrong in ({"count": 513}, {"start": -1}, {"start": "x"}, {"count": "1e3"}):
        assert client.get(f"/api/rows/{name}", **wrong).status == 400


def test_the_last_selections_are_kept_and_others_must_be_asked_again(client: Client) -> None:
    first = client.select()["id"]
    for _ in range(7):
        client.select(where="width > 600")
    assert client.get(f"/api/rows/{first}").status == 200
    for _ in range(8):
        client.select(where="width > 600")
    for path in (f"/api/rows/{first}", f"/api/facets/{first}", "/api/rows/nothing", "/api/facets/../x"):
        answer = client.get(path, facet="rating")
        assert answer.status in (404, 410)
        assert answer.error


@pytest.mark.parametrize(
    ("asked", "error", "at", "near"),
    [
        ({"where": "has('smil')"}, "knows no tag 'smil'", [4, 10], ["smile"]),
        ({"where": "width >"}, "does not end well", None, []),
        ({"where": "width > 1 and heigth > 2"}, "heigth", [14, 20], ["height"]),
        ({"tags": "solo smil"}, "knows no tag 'smil'", [5, 9], ["smile"]),
        ({"where": "@wide"}, "no selection @wide", [0, 5], ["@wides"]),
        ({"order": "widht"}, "widht", None, ["width"]),
        ({"where": "true", "tags": "solo"}, "give one of them", None, []),
        ({"limit": "-1"}, "limit -1: give 0 or more", None, []),
        ({"limit": "many"}, "is no whole number", None, []),
        ({"threshold": "high"}, "is no number", None, []),
        ({"wehre": "true"}, "wehre: is not asked", None, ["where"]),
    ],
)
def test_a_mistake_is_one_line_and_its_place(
    client: Client, asked: dict[str, str], error: str, at: list[int] | None, near: list[str]
) -> None:
    answer = client.get("/api/select", **asked)
    assert answer.status == 400
    assert error in answer.error and "\n" not in answer.error
    assert answer.json["at"] == at
    assert answer.json["near"][:1] == near


@pytest.mark.parametrize(
    "where",
    ["true; DROP TABLE images", "true) OR (true", "1=1 UNION SELECT * FROM images",
     "length(read_text('/etc/passwd')) > 0", "path = (SELECT path FROM images LIMIT 1)",
     "(SELECT count(*) FROM duckdb_settings()) > 0", "getenv('HOME') = ''",
     "'\0' = path", "exists(FROM 'x.parquet')", "getvariable('general_names')[1] = 'x'", "a" * 20_000],
)  # fmt: skip
def test_only_conditions_over_the_store_are_answered(client: Client, where: str) -> None:
    for path, name in (("/api/select", "where"), ("/api/count", "where"), ("/api/select", "order")):
        answer = client.get(path, **{name: where})
        assert answer.status == 400 and answer.error
    assert client.get("/api/select").status == 200


def test_the_address_the_command_and_the_condition_are_one(client: Client, corpus: Corpus) -> None:
    asked = {
        "where": "style = 'wide' or path like '%$x`!%'",
        "threshold": "0.412345678",
        "order": "-width",
        "limit": "3",
    }
    words = shlex.split(client.select(**asked)["commands"]["query"])
    assert words[:2] == ["pfgdata", "query"]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--columns", "content_id", "--csv"], capture_output=True, text=True
    )
    assert done.stdout.split()[1:] == client.rows(**asked)
    assert words[words.index("--threshold") + 1] == "0.412345678"
    told = client.select(tags="-solo width:>600", threshold="0.4")["commands"]
    assert shlex.split(told["query"])[2:4] == ["--tags=-solo width:>600", "--store"]
    option, where = shlex.split(told["where"])
    assert option == "--where"
    assert client.rows(where=where, threshold="0.4") == client.rows(tags="-solo width:>600", threshold="0.4")
    assert told["latents"].endswith(f"{told['where']} --threshold 0.4")
    assert told["fit"].startswith("pfgtrain fit --shards ")


def test_what_no_condition_says_is_no_command(client: Client) -> None:
    told = client.select(sample="3")["commands"]
    assert told["query"].endswith("--sample 3 --seed 0") or told["query"].endswith("--sample 3")
    assert told["where"] is told["latents"] is told["fit"] is None


@pytest.mark.parametrize("facet", FACETS)
@pytest.mark.parametrize("asked", [{}, {"where": "width > 30 and width < 2000"}])
def test_what_a_facet_counts_is_what_its_condition_finds(
    client: Client, facet: str, asked: dict[str, str]
) -> None:
    told = client.select(**asked)
    answer = client.get(f"/api/facets/{told['id']}", facet=facet)
    assert answer.status == 200, answer.body
    found = answer.json
    assert found["total"] == told["count"]
    assert found["approximate"] is None and found["more"] == 0
    assert found["values"]
    if facet not in ("tags", "marks"):
        assert sum(value["count"] for value in found["values"]) == told["count"]
    for value in found["values"]:
        where = f"({asked.get('where', 'true')}) AND ({value['add']})"
        assert client.get("/api/count", where=where).json["count"] == value["count"], value
        if value["add_tag"] is not None:
            tags = f"{value['add_tag']} {'width:30...2000 -width:30' if asked else ''}"
            assert client.get("/api/count", tags=tags).json["count"] == value["count"], value


def test_a_facet_of_characters_follows_the_threshold(client: Client) -> None:
    for threshold in ("0.3", "0.6", "0.99"):
        told = client.select(character_threshold=threshold)
        values = client.get(f"/api/facets/{told['id']}", facet="character").json["values"]
        for value in values:
            asked = {"where": value["add"], "character_threshold": threshold}
            assert client.get("/api/count", **asked).json["count"] == value["count"]


def test_an_unknown_facet_names_those_there_are(client: Client) -> None:
    name = client.select()["id"]
    for facet in ("", "ratng", "rating; DROP", "../../x", "<b>"):
        answer = client.get(f"/api/facets/{name}", facet=facet)
        assert answer.status == 400
        assert answer.error.startswith(f"no facet {facet}")


def test_an_image_is_told_with_what_it_has(client: Client, corpus: Corpus) -> None:
    content = client.rows(where="path = 'again.png'")[0]
    told = client.get(f"/api/image/{content}").json
    assert sorted(Path(one).name for one in told["files"]) == ["0003.png", "again.png"]
    assert told["copies"] == 1
    assert (told["width"], told["height"], told["format"], told["frames"]) == (24, 32, "png", 1)
    with pfgdata.open(corpus.feats) as store:
        table = store.query("path = 'again.png'", columns=["rating", "tags", "characters", "size"]).arrow()
    (row,) = table.to_pylist()
    assert (told["rating"], told["size"]) == (row["rating"], row["size"])
    counted = [one["tag"] for one in told["tags"] if one["counts"]]
    assert sorted(counted) == sorted(row["tags"] + row["characters"])
    assert list(told["rating_scores"]) == ["general", "sensitive", "questionable", "explicit"]
    assert [one["score"] for one in told["tags"]] == sorted(
        (one["score"] for one in told["tags"]), reverse=True
    )
    assert set(told["columns"]) == {"good", "marks", "points", "style"}
    none = client.get(f"/api/image/{content}", threshold="1", character_threshold="1").json
    assert not any(one["counts"] for one in none["tags"])


def test_names_and_values_that_look_like_markup_are_text(client: Client) -> None:
    content = client.rows(where=f"path = '{MARKUP.replace(chr(39), chr(39) * 2)}'")[0]
    answer = client.get(f"/api/image/{content}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["files"][0].endswith(MARKUP)
    assert (
        client.get(f"/api/image/{client.rows(where='width = 24')[0]}").json["columns"]["style"]
        == "<b>plain</b>"
    )


def test_an_archives_member_is_named_behind_its_archive(client: Client) -> None:
    content = client.rows(where="member = 'in/3.png'")[0]
    assert client.get(f"/api/image/{content}").json["files"][0].endswith("more.tar!in/3.png")


@pytest.mark.parametrize(
    "content", ["x", "0" * 32, "00000000-0000-0000-0000-000000000000", "..%2f..%2fetc", "%00"]
)
@pytest.mark.parametrize("path", ["/api/image/", "/api/similar/", "/api/copies/", "/thumb/", "/picture/"])
def test_an_unknown_content_id_is_not_found(client: Client, path: str, content: str) -> None:
    for end in ("", ".jpg"):
        assert client.send("GET", f"{path}{content}{end}").status == 404


def test_likeness_is_that_of_the_command(client: Client, corpus: Corpus) -> None:
    content = client.rows(where="path = 'original.png'")[0]
    told = client.get(f"/api/similar/{content}", k=5).json["results"]
    with pfgdata.open(corpus.feats) as store:
        rows = store.similar(content, k=5).to_pylist()
        few = store.similar(content, k=50, where="width > 600").to_pylist()
    for key in ("content_id", "score", "shared_tags"):
        assert [one[key] for one in told] == [row[key] for row in rows]
    assert told[0]["file"].endswith("smaller.jpg")
    assert (told[0]["width"], told[0]["height"]) == (450, 350)
    some = client.get(f"/api/similar/{content}", k=50, where="width > 600").json["results"]
    assert [one["content_id"] for one in some] == [row["content_id"] for row in few]
    assert client.get(f"/api/similar/{content}", k=10**6).status == 200


def test_likeness_by_a_feature_set_and_the_choice_of_one(own_client: Client, own_corpus: Corpus) -> None:
    store, client = Store.open(own_corpus.feats), own_client
    ids = store.snapshot().everything.distinct().content_ids
    vectors = np.random.default_rng(1).standard_normal((len(ids), 5)).astype(np.float16)
    give_features(store, "other", ids, vectors)
    give_features(store, "half", ids[:3], vectors[:3])
    content, width = str(UUID(bytes=ids[2].tobytes())), vectors.astype(np.float64)
    assert client.get("/api/store").json["features"] == ["tagger", "half", "other"]
    told = client.get(f"/api/similar/{content}", k=4, features="other").json["results"]
    scores = width @ width[2] / np.linalg.norm(width, axis=1) / np.linalg.norm(width[2])
    best = [place for place in np.argsort(-scores) if place != 2][:4]
    assert [one["content_id"] for one in told] == [str(UUID(bytes=ids[at].tobytes())) for at in best]
    own = client.get(f"/api/similar/{content}", k=4).json["results"]
    assert client.get(f"/api/similar/{content}", k=4, features="tagger").json["results"] == own != told
    for label, words in (("half", "have no vector"), ("none", "no feature set of that label")):
        refused = client.get(f"/api/similar/{content}", features=label)
        assert refused.status == 400 and words in refused.json["error"], refused.json


def test_duplicates_are_searched_beside_the_page(client: Client) -> None:
    job = client.post("/api/duplicates", {"ask": {}, "radius": 8}).json["job"]
    told = client.finished(job)
    assert told["state"] == "done", told
    stars = {Path(star["keep"]["file"]).name: star["members"] for star in told["stars"]}
    (copy,) = stars["original.png"]
    assert (Path(copy["file"]).name, copy["kind"]) == ("smaller.jpg", "copy")
    assert set(copy) == {"content_id", "file", "width", "height", "size", "format", "kind", "bits", "cosine",
                         "change", "tags"}  # fmt: skip
    assert any(one["kind"] == "same" for members in stars.values() for one in members)
    some = client.finished(client.post("/api/duplicates", {"ask": {"where": "width > 600"}}).json["job"])
    assert some["stars"] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("original.png", [("smaller.jpg", "copy")]),
        ("smaller.jpg", [("original.png", "copy")]),
        ("again.png", []),  # equal bytes are its files
        ("wide1.jpg", []),
    ],
)
def test_an_image_is_told_with_its_copies(path: str, expected: list[tuple[str, str]], client: Client) -> None:
    (content,) = client.rows(where=f"path = '{path}'")
    told = client.get(f"/api/copies/{content}").json["results"]
    assert [(Path(one["file"]).name, one["kind"]) for one in told] == expected
    assert all(one["bits"] <= 8 and one["cosine"] > 0.9 for one in told)


def test_a_search_for_duplicates_can_be_cancelled_and_refused(client: Client) -> None:
    refused: list[dict[str, Any]] = [{"radius": 99}, {"radius": "x"}, {"ask": []}, {"ask": {"tags": "no"}}]
    for wrong in refused:
        assert client.post("/api/duplicates", wrong).status == 400
    job = client.post("/api/duplicates", {}).json["job"]
    assert client.post(f"/api/duplicates/{job}", {}, method="DELETE").status == 200
    assert client.finished(job)["state"] in ("cancelled", "done")
    failed = client.finished(client.post("/api/duplicates", {"ask": {"where": "nonsense"}}).json["job"])
    assert failed["state"] == "failed" and "nonsense" in failed["error"]
    assert client.get("/api/duplicates/unknown").status == 404


def test_a_verdict_is_put_on_record_and_taken_back(own_client: Client, own_corpus: Corpus) -> None:
    one, two = own_client.rows(where="path in ('original.png', 'smaller.jpg')")
    for verdict in (*VERDICTS, None):
        told = own_client.post("/api/verdicts", {"one": one, "two": two, "verdict": verdict})
        assert told.json["verdict"] == verdict
        said = list(Store.open(own_corpus.feats).verdicts().values())
        assert said == ([verdict] if verdict else [])
    unknown = str(UUID(int=1))
    pairs: list[dict[str, Any]] = [
        {"one": one, "two": one},
        {"one": one, "two": unknown},
        {"one": one},
        {"one": 1, "two": two},
    ]
    pairs.append({"one": one, "two": two, "verdict": "maybe"})
    for wrong in pairs:
        assert own_client.post("/api/verdicts", {"verdict": "different", **wrong}).status == 400, wrong


def test_verdicts_and_selections_that_come_at_once_are_all_on_record(
    own_client: Client, own_corpus: Corpus
) -> None:
    ids = own_client.rows()
    pairs = list(itertools.pairwise(dict.fromkeys(ids)))[:24]
    said = [{"one": one, "two": two, "verdict": "different"} for one, two in pairs]
    saved = [{"name": f"some{number}", "only": ids[:2]} for number in range(6)]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(own_client.post, "/api/verdicts", one) for one in said]
        answers += [pool.submit(own_client.post, "/api/selections", one) for one in saved]
        assert [one.result().body for one in answers if one.result().status != 200] == []
    assert len(Store.open(own_corpus.feats).verdicts()) == len(pairs)


def test_a_selection_is_saved_as_words_as_images_or_by_hand(own_client: Client, own_corpus: Corpus) -> None:
    asked = {"where": "width > 600"}
    told = own_client.post("/api/selections", {"name": "live", "ask": asked}).json
    assert told == {"name": "live", "images": 9, "command": f"pfgdata query @live --store {own_corpus.feats}"}
    own_client.post("/api/selections", {"name": "kept", "ask": {"tags": "width:>600"}, "freeze": True})
    ids = own_client.rows(**asked)
    without = {"name": "@less", "ask": asked, "exclude": ids[:2], "only": None}
    assert own_client.post("/api/selections", without).json["images"] == 7
    assert (
        own_client.post("/api/selections", {"name": "two", "ask": {}, "only": ids[3:5]}).json["images"] == 2
    )
    sample = {"name": "few", "ask": {"sample": "4"}, "freeze": True}
    assert own_client.post("/api/selections", sample).json["images"] == 4
    store = Store.open(own_corpus.feats)
    assert [bool(store.read_selection(name).frozen) for name in ("live", "kept", "less", "two")] == [
        False, True, True, True,
    ]  # fmt: skip
    assert own_client.rows(where="@less") == ids[2:]
    assert own_client.rows(where="@two") == ids[3:5]
    names = [one["name"] for one in own_client.get("/api/store").json["selections"]]
    assert names == ["few", "kept", "less", "live", "two", "wides"]


def test_images_picked_under_other_questions_are_saved_whole_or_refused(
    own_client: Client, own_corpus: Corpus
) -> None:
    picked = own_client.rows(where="width > 600")[:5]
    asked = {"name": "picked", "ask": {"where": "width < 1", "limit": "2"}, "only": picked, "freeze": True}
    assert own_client.post("/api/selections", asked).json["images"] == 5
    assert own_client.rows(where="@picked") == picked
    (told,) = [one for one in own_client.get("/api/store").json["selections"] if one["name"] == "picked"]
    assert told["expression"] == "every image (5 images picked by hand)"
    unknown = {**asked, "only": [*picked[:2], str(UUID(int=1))], "replace": True}
    refused = own_client.post("/api/selections", unknown)
    assert refused.status == 400
    assert refused.error == "1 of 3 picked images are not in this store; pick anew"
    assert own_client.rows(where="@picked") == picked  # as it was


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"name": "wides"}, "has a selection wides already"),
        ({"name": "../x"}, "cannot name a selection"),
        ({"name": "<b>"}, "cannot name a selection"),
        ({"name": "select"}, "is a word of SQL"),
        ({}, "name: is missing"),
        ({"name": "a", "ask": {"where": "nonsense"}}, "nonsense"),
        ({"name": "a", "exclude": ["x"]}, "is no content_id"),
        ({"name": "a", "only": "x"}, "is a list of content_ids"),
        ({"name": "a", "ask": {"limit": 3}}, "freeze the selection"),
        ({"name": "a", "freeze": "yes"}, "is true or false"),
        ({"name": "a", "file": "/etc/passwd"}, "is no part of a selection"),
        ({"name": "a", "ask": {"sample": True}}, "is no whole number"),
        ({"name": "a", "ask": {"sample": float("inf")}}, "is no whole number"),
        ({"name": "a", "ask": {"threshold": 10**400}}, "is no number"),
        ([], "is no JSON object"),
    ],
)
def test_what_cannot_be_saved_is_said(client: Client, asked: Any, error: str) -> None:
    answer = client.post("/api/selections", asked)
    assert answer.status == 400
    assert error in answer.error


def test_no_json_is_an_error_of_one_line(client: Client) -> None:
    headers = {"Origin": client.origin, "Content-Type": "application/json"}
    for body in (b"", b"{", b"[" * 100_000, b"\xff", b"NaN", b'{"name": "\\ud800"}'):
        answer = client.send("POST", "/api/selections", body, headers)
        assert answer.status == 400
        assert answer.error == "the request is no JSON object"


def test_what_is_ingested_meanwhile_is_seen_when_the_page_is_loaded_again(
    own_client: Client, own_corpus: Corpus
) -> None:
    before = own_client.select()
    make_images(own_corpus.images / "late", 6, seed=9)
    gone = own_client.rows(where="path = 'old.bmp'")[0]
    assert own_client.get(f"/thumb/{gone}.jpg").status == 200
    store = Store.open(own_corpus.feats)
    with (own_corpus.images / "old.bmp").open("r+b") as file:
        file.seek(60)
        file.write(b"\x00\xff\x00\xff")
    ingest(plan_segments([own_corpus.images], {}), store, CheapTagger(), options=IngestOptions(batch_size=16))
    assert own_client.select()["count"] == before["count"]
    first = own_client.select(fresh=1)  # a page asks it as it is loaded, before it asks for the store
    assert first["count"] == 55
    assert own_client.get("/api/store").json["images"] == 55
    assert own_client.get(f"/api/rows/{first['id']}").status == 200
    assert own_client.get(f"/api/rows/{before['id']}").status == 410
    assert own_client.select()["count"] == 55
    found = own_client.get(f"/api/facets/{own_client.select()['id']}", facet="format").json
    assert sum(value["count"] for value in found["values"]) == 55
    for path in (f"/thumb/{gone}.jpg", f"/picture/{gone}", f"/api/image/{gone}"):  # its row is hidden now
        assert own_client.get(path).status == 404


def test_a_store_without_images_can_be_looked_at(tmp_path: Path) -> None:
    store = new_store(tmp_path / "empty")
    with serving(browse_app(store, DeskOptions())) as place:
        client = Client(place)
        told = client.select()
        assert told["count"] == told["contents"] == client.select(where="width > 1")["count"] == 0
        for facet in FACETS[:6]:
            assert client.get(f"/api/facets/{told['id']}", facet=facet).json["values"] == [], facet
        assert client.get("/api/complete", text="sm", at=2, language="tags").json["items"]


def test_facets_of_tags_are_the_same_without_the_index(own_corpus: Corpus) -> None:
    answers = []
    for _ in range(2):
        with serving(browse_app(Store.open(own_corpus.feats), DeskOptions())) as place:
            client = Client(place)
            name = client.select(where="width > 30")["id"]
            answers.append(client.get(f"/api/facets/{name}", facet="tags").json["values"])
        shutil.rmtree(own_corpus.feats / "cache", ignore_errors=True)
    assert answers[0] == answers[1] != []


def test_a_sample_of_tags_is_near_the_count(own_corpus: Corpus) -> None:
    desk = Desk(Store.open(own_corpus.feats), DeskOptions())
    counts = TagCounts(desk.shown, most_scores=0, sample=25, least=5)
    rows = np.arange(49, dtype=np.uint32)
    exact, told = TagCounts(desk.shown).of(rows, Thresholds())
    near, sample = counts.of(rows, Thresholds())
    assert told is None and sample == 25
    assert np.abs(near - exact).max() <= 49 * 0.35  # 25 of 49 rows: three standard deviations
    assert counts.of(rows[:3], Thresholds())[1] is None


def test_a_store_is_browsed_from_a_folder_whose_name_is_no_text(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd\udcff"
    shutil.copytree(corpus.feats, folder / "feats")
    monkeypatch.chdir(folder)
    with serving(browse_app(Store.open(Path("feats")), DeskOptions())) as place:
        about = Client(place).get("/api/store")
    assert about.status == 200 and about.json["path"] == str(folder / "feats")
