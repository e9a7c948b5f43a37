"""Likeness by the features of a set: the same answers as by hand, and a set that is not whole is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import QueryError, StoreError
from pfgdata.extractors import load_extractor
from pfgdata.features import FeatureJob, FeatureOptions, FeaturePass, extractor_for
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.similarity import Neighbours, corpus_mean
from pfgdata.store import SetFeatures, Store
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.extractors.small_models import SIDE, write_graph
from tests.pfgdata.store.small_features import give_features

HOW = f"size = {SIDE}\nlayout = 'NCHW'\nchannels = 'RGB'\nsquare = 'stretch {SIDE} bilinear'\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Thirty images in several shards, one of them under two names."""
    make_images(tmp_path / "images", 30)
    shutil.copy(tmp_path / "images" / "0003.png", tmp_path / "images" / "again.png")
    store = new_store(tmp_path / "feats")
    options = IngestOptions(batch_size=4, shard_rows=7)
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=options)
    return store


def given(store: Store, *, count: int | None = None, failed: int = 0, width: int = 9) -> SetFeatures:
    """Random vectors of the first `count` contents in an order of their own; the last `failed` fail."""
    ids = store.snapshot().everything.distinct().content_ids
    order = np.random.default_rng(3).permutation(len(ids))
    vectors = np.random.default_rng(4).standard_normal((len(ids), width))
    kept = order[: len(ids) - failed if count is None else count]
    lost = order[len(order) - failed :]
    return SetFeatures(give_features(store, "other", ids[kept], vectors[kept], failed=ids[lost]))


def by_hand(of: SetFeatures, store: Store, query: np.ndarray, mean: np.ndarray | None = None) -> list[bytes]:
    """The contents that have a vector, the most similar first."""
    rows = store.snapshot().everything.distinct()
    rows = rows.take(np.flatnonzero(of.has(rows.content_ids)))
    wide = of.features(of.placed(rows)).astype(np.float64) - (0 if mean is None else mean)
    query = query.astype(np.float64) - (0 if mean is None else mean)
    scores = wide @ query / np.linalg.norm(wide, axis=1) / np.linalg.norm(query)
    ids = [one.tobytes() for one in rows.content_ids]
    return [ids[place] for place in sorted(range(len(ids)), key=lambda at: (-round(scores[at], 6), ids[at]))]


@pytest.mark.parametrize("center", [False, True])
def test_the_nearest_by_a_set_are_those_of_its_vectors(store: Store, center: bool) -> None:
    of, snapshot = given(store), store.snapshot()
    mean = corpus_mean(snapshot, of=of) if center else None
    query = np.random.default_rng(9).standard_normal(9)
    (found,) = Neighbours(snapshot, mean=mean, of=of).nearest(query, 30)
    assert [one.tobytes() for one in found.rows.content_ids] == by_hand(of, store, query, mean)
    assert len({*found.rows.shards}) > 1  # and the rows are the store's, not the set's
    assert snapshot.positions(found.rows).max() < snapshot.num_images


def test_a_content_under_two_names_lends_its_vector_to_no_other(store: Store) -> None:
    of, snapshot = given(store), store.snapshot()
    twice = snapshot.images(["path"])["path"].to_pylist().index("again.png")
    places = of.placed(snapshot.everything).rows
    for gone in set(places.tolist()) - {0, 29, int(places[twice])}:  # as many rows as from first to last
        rows = snapshot.everything.take(np.flatnonzero(places != gone))
        wide, query = of.features(of.placed(rows)).astype(np.float64), np.linspace(-1, 1, 9)
        expected = wide @ query / np.linalg.norm(wide, axis=1) / np.linalg.norm(query)
        assert np.abs(Neighbours(snapshot, rows, of=of).scores(query)[0] - expected).max() < 1e-5
        assert Neighbours(snapshot, rows, of=of).nearest(query, 1)[0].scores[0] == expected.max().round(6)


def test_half_a_set_is_refused_and_what_failed_is_left_out(store: Store) -> None:
    with pytest.raises(StoreError, match=r"other: 10 of 30 images have no vector; .* --label other makes"):
        Neighbours(store.snapshot(), of=given(store, count=20))
    shutil.rmtree(store.path / "features")
    of = given(store, failed=4)
    (found,) = Neighbours(store.snapshot(), of=of).nearest(np.ones(9), 100)
    assert len(found.rows) == 26
    with pytest.raises(QueryError, match="a query of 4 numbers; the features compared here have 9"):
        Neighbours(store.snapshot(), of=of).nearest(np.ones(4), 1)


def asked(store: Store, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["similar", *arguments, "--store", str(store.path), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_command_compares_by_the_set_and_looks_at_a_new_file_by_its_extractor(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    write_graph(folder / "model.onnx", scale=1e-2)
    (folder / "convention.toml").write_text(HOW)
    extractor, label = extractor_for(store, FeatureJob(extractor=str(folder), device="cpu"))
    snapshot = store.snapshot()
    options = FeatureOptions(batch_size=4, threads=1)
    FeaturePass(store=store, extractor=extractor, label=label, options=options).run(
        snapshot, snapshot.everything
    )
    (made,) = store.feature_sets()
    of = SetFeatures(made)
    (by_path,) = asked(store, "0005.png", "--features", "small", "-k", "29")
    rows = snapshot.everything
    images = snapshot.images(["path"])["path"].to_pylist()
    query = of.features(of.placed(rows))[images.index("0005.png")]
    wanted = by_hand(of, store, query)
    (own,) = asked(store, "0005.png", "-k", "29")
    ids = [bytes.fromhex(one["content_id"].replace("-", "")) for one in by_path["results"]]
    assert ids == [one for one in wanted if one.hex() != by_path["content_id"][0].replace("-", "")]
    assert [one["score"] for one in own["results"]] != [one["score"] for one in by_path["results"]]
    (new,) = make_images(tmp_path / "new", 1, seed=77)
    (looked,) = asked(store, str(new), "--features", "small", "-k", "3")
    assert looked["tagged_now"] == [str(new)]
    from pfgdata.corpus import read_image

    again = load_extractor(str(folder), device="cpu")
    vector = again.features(again.square(read_image(new).pixels)[None])[0]
    nearest = [bytes.fromhex(one["content_id"].replace("-", "")) for one in looked["results"]]
    assert nearest == by_hand(of, store, vector)[:3]
    (tagger,) = asked(store, "0005.png", "--features", "tagger", "-k", "29")
    assert tagger == own


def test_a_set_that_is_not_there_is_one_line(store: Store) -> None:
    given(store)
    for command in (["similar", "0005.png", "--store"], ["duplicates"]):
        result = CliRunner().invoke(app, [*command, str(store.path), "--features", "othr"])
        assert isinstance(result.exception, StoreError) and "did you mean other" in str(result.exception)


def test_duplicates_take_their_cosines_from_the_set(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    make_images(folder, 3, size=(400, 400))
    picture = Image.open(folder / "0001.png")
    picture.resize((300, 300), Image.Resampling.LANCZOS).save(folder / "smaller.png")
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([folder], {}), store, CheapTagger(), options=IngestOptions(min_side=1))
    ids = store.snapshot().everything.content_ids

    def cosines(*options: str) -> list[float]:
        result = CliRunner().invoke(app, ["duplicates", str(store.path), "--json", *options])
        assert result.exit_code == 0, result.output
        return [one["cosine"] for star in json.loads(result.stdout)["stars"] for one in star["members"]]

    assert cosines("--radius", "10")
    give_features(store, "same", ids, np.ones((len(ids), 3)))
    assert cosines("--radius", "10", "--features", "same") == [1.0]
    give_features(store, "apart", ids, np.eye(len(ids)))
    assert cosines("--radius", "10", "--features", "apart") == [0.0]
