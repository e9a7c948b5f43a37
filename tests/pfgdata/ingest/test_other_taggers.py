"""A tagger that is not WD14's, from its folder to a store that is asked: no rating, more kinds, logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfgdata.captions import tag_captions
from pfgdata.conventions import Convention, Labels
from pfgdata.errors import QueryError
from pfgdata.images import decode, perceptual_hash, square
from pfgdata.query import Session, Thresholds, read_tags, select
from pfgdata.store import Store, verify
from pfgdata.taggers import OnnxTagger
from pfgdata.web import DeskOptions, browse_app, serving
from tests.conftest import make_images
from tests.pfgdata.ingest.test_ingest_command import Captured, pfgdata
from tests.pfgdata.taggers.seers import TAGS, Seer, write_labels, write_seer
from tests.pfgdata.web.browser import Client

PIXAI = Convention(
    size=32,
    layout="NCHW",
    channels="RGB",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    square=("stretch 32 bilinear",),
    output="logits",
    labels=Labels(categories=((0, "general"), (1, "artist"), (3, "copyright"), (4, "character"))),
)
STAGES = [
    {"type": "resize", "size": [32, 32], "interpolation": "bilinear"},
    {"type": "to_tensor"},
    {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
]
IMAGES = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a tagger as PixAI publishes its own, and the store that one ingest of both makes."""
    place = tmp_path_factory.mktemp("pixai")
    make_images(place / "images", IMAGES, size=(40, 56))
    seer = Seer(size=32, output="logits")
    write_seer(place / "tagger", seer)
    write_labels(place / "tagger", seer, PIXAI.labels)
    (place / "tagger" / "preprocess.json").write_text(json.dumps({"stages": STAGES}))
    names = [{"category": number, "name": name} for number, name in PIXAI.labels.categories]
    (place / "tagger" / "categories.json").write_text(json.dumps(names))
    assert pfgdata(*ingest(place), "--tagger", place / "tagger") == 0
    return place


def ingest(place: Path) -> tuple[object, ...]:
    return ("ingest", place / "images", "--store", place / "feats", "--batch-size", 4)


@pytest.fixture(scope="module")
def scores(place: Path) -> np.ndarray:
    """What the tagger gives for each image, [IMAGES, V]."""
    tagger = OnnxTagger.load(str(place / "tagger"), device="cpu", threads=1)
    files = sorted((place / "images").iterdir())
    tiles = [
        square(decode(file.read_bytes()).array, preprocess=tagger.identity.preprocess, size=32)
        for file in files
    ]
    return tagger.predict(np.stack(tiles))[0]


def test_the_store_says_the_convention_and_holds_what_the_tagger_gives(
    place: Path, scores: np.ndarray
) -> None:
    store = Store.open(place / "feats")
    assert Convention.of(store.identity.tagger.preprocess) == PIXAI
    assert verify(place / "feats", deep=True) == []
    table = store.snapshot().images()
    assert table["rating"].null_count == table["rating_scores"].null_count == IMAGES
    for row, given in zip(table.to_pylist(), scores, strict=True):
        kept = dict(zip(row["tag_ids"], row["tag_scores"], strict=True))
        assert kept.keys() == set(np.flatnonzero(given >= 0.05).tolist())
        np.testing.assert_allclose([kept[tag] for tag in kept], given[list(kept)], atol=1e-3)
        best = 2 if given[2] >= 0.05 else None
        assert row["character"] == (list(TAGS)[best] if best else None)


def test_hashes_are_of_the_picture_not_of_its_stretched_square(place: Path) -> None:
    hashes = Store.open(place / "feats").snapshot().images(["phash"])["phash"].to_pylist()
    files = sorted((place / "images").iterdir())
    assert hashes == [perceptual_hash(np.asarray(Image.open(file))) for file in files]


def test_tags_of_further_categories_are_asked_by_name_by_kind_and_in_sql(
    place: Path, scores: np.ndarray
) -> None:
    snapshot = Store.open(place / "feats").snapshot()
    half = Thresholds(general=float(np.median(scores[:, list(TAGS).index("fate_(series)")])), character=0.4)
    for tag, threshold in (("fate_(series)", half.general), ("wlop", half.general), ("saber", 0.4)):
        expected = np.flatnonzero(scores[:, list(TAGS).index(tag)] >= threshold).tolist()
        assert snapshot.positions(select(snapshot, f"has('{tag}')", half)).tolist() == expected, tag
    with Session(snapshot) as session:
        for asked in ("fate_(series)", "copyright:fate_(series)", "fate*"):
            assert session.count(read_tags(snapshot, asked), thresholds=half) == IMAGES / 2, asked
        with pytest.raises(QueryError, match="'wlop' is no value of copyright, it is an artist tag"):
            read_tags(snapshot, "copyright:wlop")
        counted = {one["tag"]: one for one in session.counts(None, thresholds=half).to_pylist()}
        fate = counted["fate_(series)"]
        assert (fate["kind"], fate["count"]) == ("copyright", IMAGES / 2)
        said = session.sql("SELECT DISTINCT category FROM tags WHERE score > 0.05 ORDER BY category")
        assert said.column(0).to_pylist() == ["artist", "character", "copyright", "general"]


def test_a_rating_that_is_not_there_is_said(place: Path) -> None:
    snapshot = Store.open(place / "feats").snapshot()
    with Session(snapshot) as session:
        assert session.count("rating IS NULL") == IMAGES
        for ask in (lambda: session.count("rating = 'general'"), lambda: read_tags(snapshot, "rating:g")):
            with pytest.raises(QueryError, match="tagger gives no rating"):
                ask()


def test_captions_name_what_is_shown(place: Path, scores: np.ndarray) -> None:
    snapshot = Store.open(place / "feats").snapshot()
    captions = tag_captions(snapshot, snapshot.everything, threshold=0.35, character_threshold=0.85)
    for text, given in zip(captions.of(np.arange(IMAGES)), scores, strict=True):
        of = dict(zip(TAGS, given, strict=True))
        shown = [tag for tag in ("saber",) if of[tag] >= 0.85]
        shown += [tag for tag in ("fate_(series)", "wlop") if of[tag] >= 0.35]
        general = sorted((tag for tag in ("1girl", "smile") if of[tag] >= 0.35), key=lambda tag: -of[tag])
        assert text == ", ".join(tag.replace("_", " ") for tag in [*shown, *general])


def test_the_same_store_goes_on_by_its_own_convention(place: Path, capsys: Captured) -> None:
    assert pfgdata(*ingest(place)) == 0
    assert f"{IMAGES} unchanged" in capsys.readouterr().err
    assert pfgdata(*ingest(place), "--convention", "pixai-tagger-v0.9") == 1
    assert "category 3 has no name; there are 0 general, 4 character" in capsys.readouterr().err
    assert pfgdata(*ingest(place), "--preprocess", "webui") == 1
    said = capsys.readouterr().err
    assert "preprocessing" in said and "stretch 32 bilinear" in said and "webui" in said


def test_a_convention_in_a_file_is_enough_where_nobody_states_one(tmp_path: Path, capsys: Captured) -> None:
    make_images(tmp_path / "images", 2)
    seer = Seer(size=32, output="logits")
    labels = Labels(file="tag_mapping.json")
    write_seer(tmp_path / "tagger", seer)
    write_labels(tmp_path / "tagger", seer, labels)
    here = (*ingest(tmp_path), "--tagger", tmp_path / "tagger")
    assert pfgdata(*here) == 1
    assert "does not say how the model wants its pictures" in capsys.readouterr().err
    (tmp_path / "how.toml").write_text(
        """
        channels = "BGR"
        mean = [0.5, 0.5, 0.5]
        std = [0.5, 0.5, 0.5]
        size = 32
        square = ["pad #ffffff", "stretch 32 bicubic"]
        output = "logits"
        labels = "tag_mapping.json"
        """
    )
    assert pfgdata(*here, "--convention", tmp_path / "how.toml") == 0
    assert pfgdata(*ingest(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "2 tagged" in said and "2 unchanged" in said
    (tmp_path / "how.toml").write_text('channels = "BGR"\nfilter = "bicubic"\n')
    assert pfgdata(*here, "--convention", tmp_path / "how.toml") == 1
    assert "how.toml: a convention does not know filter; it has channels, square" in capsys.readouterr().err


def test_the_doctor_says_what_a_tagger_takes_and_who_says_so(place: Path, capsys: Captured) -> None:
    assert pfgdata("doctor", "--tagger", place / "tagger", "--json") == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert Convention.from_record(facts["convention"], where="doctor") == PIXAI
    assert facts["source"] == "preprocess.json"
    assert facts["tags"] == {"general": 2, "character": 1, "copyright": 1, "artist": 1}
    assert "stretch 32 bilinear" in printed.err and "none: null in a store" in printed.err
    assert pfgdata("doctor", "--convention", "cl-tagger-v1") == 2


def test_browse_shows_an_image_that_has_no_rating(place: Path) -> None:
    store = Store.open(place / "feats")
    with serving(browse_app(store, DeskOptions(thumbnails=0))) as at:
        client = Client(at)
        asked = client.get("/api/select").json
        image, _, _ = client.get(f"/api/rows/{asked['id']}", start=0, count=1).json["rows"][0]
        shown = client.get(f"/api/image/{image}")
        assert (shown.status, shown.json["rating"], shown.json["rating_scores"]) == (200, None, {})
        for facet in ("rating", "character", "tags"):
            assert client.get(f"/api/facets/{asked['id']}", facet=facet).status == 200
        for text in ("rating:", "wlo", "copyright:fa"):
            assert client.get("/api/complete", text=text, at=len(text), language="tags").status == 200
        found = client.get("/api/select", tags="copyright:fate_(series)").json
        assert found["count"] and "commands" in found
