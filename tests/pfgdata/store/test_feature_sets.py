"""Feature sets: found by label, read by content, and looked after as all that a store holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import ConfigError, StoreError, StoreFormatError
from pfgdata.files import canonical_json, read_json
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.records import Selection
from pfgdata.store import (
    OWN_FEATURE,
    SetFeatures,
    Store,
    feature_labels,
    feature_set,
    gc,
    repair,
    require_label,
    verify,
)
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.store.small_features import give_features


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twelve images, one of them under two names."""
    make_images(tmp_path / "images", 12)
    (tmp_path / "images" / "again.png").write_bytes((tmp_path / "images" / "0003.png").read_bytes())
    store = new_store(tmp_path / "feats")
    options = IngestOptions(batch_size=4, shard_rows=5)
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=options)
    return store


def vectors(count: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float16)


def test_vectors_come_back_by_content_wherever_they_stand(store: Store) -> None:
    everything = store.snapshot().everything
    ids = everything.distinct().content_ids
    order = np.random.default_rng(5).permutation(len(ids))
    given = vectors(len(ids))
    give_features(store, "clip-l", ids[order[:7]], given[order[:7]])
    kept = give_features(store, "clip-l", ids[order[7:]], given[order[7:]])
    known = {one.tobytes(): vector for one, vector in zip(ids, given, strict=True)}
    there = SetFeatures(kept)
    assert len(there) == 12 and there.feature_dim == 6
    found = there.features(there.placed(everything))
    assert len(found) == 13
    for one, vector in zip(everything.content_ids, found, strict=True):
        np.testing.assert_array_equal(vector, known[one.tobytes()])


def test_an_image_without_a_vector_is_counted_and_the_command_named(store: Store) -> None:
    rows = store.snapshot().everything
    ids = rows.distinct().content_ids
    half = SetFeatures(give_features(store, "clip-l", ids[:9], vectors(9), failed=ids[9:10]))
    assert (
        half.has(rows.content_ids).sum() == np.isin(rows.content_ids.view("V16"), ids[:9].view("V16")).sum()
    )
    with pytest.raises(StoreError) as refusal:
        half.placed(rows)
    assert "clip-l: 3 of 12 images have no vector" in str(refusal.value)
    assert f"pfgdata features {store.path} --label clip-l" in str(refusal.value)
    with pytest.raises(StoreError, match="clip-l: 2 of 11 images have no vector"):  # one is known to fail
        half.present(rows)
    failed = give_features(store, "clip-l", ids[:0], vectors(0), failed=ids[10:])
    left = SetFeatures(failed).present(rows)
    assert len(left.distinct()) == 9 and SetFeatures(failed).has(left.content_ids).all()


def test_an_empty_set_has_nobodys_vector(store: Store) -> None:
    empty = SetFeatures(give_features(store, "clip-l", np.empty((0, 16), np.uint8), vectors(0)))
    rows = store.snapshot().everything
    assert not empty.has(rows.content_ids).any() and len(empty.features(empty.placed(_none(rows)))) == 0
    with pytest.raises(StoreError, match="12 of 12 images have no vector"):
        empty.placed(rows)


def _none(rows: Selection) -> Selection:
    return rows.take(np.empty(0, np.int64))


def test_a_set_is_found_by_its_label_or_the_beginning_of_its_id(store: Store) -> None:
    ids = store.snapshot().everything.distinct().content_ids
    clip = give_features(store, "clip-l", ids, vectors(12))
    dino = give_features(store, "dino", ids, vectors(12, 4))
    assert feature_labels(store) == ["tagger", "clip-l", "dino"]
    for label, wanted in (("clip-l", clip), ("dino", dino), (dino.id[:6], dino), (clip.id, clip)):
        found = feature_set(store, label)
        assert found is not None and found.id == wanted.id and found.feature_dim == wanted.feature_dim
    assert feature_set(store, OWN_FEATURE) is None
    assert feature_set(store, store.identity.tagger.name) is None
    with pytest.raises(StoreError, match=r"clip-x: no feature set of that label; did you mean clip-l"):
        feature_set(store, "clip-x")
    with pytest.raises(StoreError, match="there are tagger, clip-l, dino"):
        feature_set(store, "zzz")


def test_wd14_names_the_feature_of_a_wd_tagger(store: Store) -> None:
    assert feature_set(store, "wd14") is None


@pytest.mark.parametrize("label", ["", "A", "a:5", "a+b", "a,b", "a b", "../x", "tagger", "wd14", "x" * 65])
def test_a_label_that_could_be_read_otherwise_is_refused(label: str) -> None:
    with pytest.raises(ConfigError):
        require_label(label)


def test_every_flipped_byte_of_a_set_is_found_and_its_shard_set_aside(store: Store) -> None:
    ids = store.snapshot().everything.distinct().content_ids
    made = give_features(store, "clip-l", ids, vectors(12))
    assert verify(store.path, deep=True) == []
    files = sorted(path for path in made.path.rglob("*") if path.is_file() and path.name != "lock")
    assert {path.name for path in files} == {"features.json", "shard.json", "features.h5", "features.parquet"}
    for path in files:
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        problems = verify(store.path, deep=True)
        assert problems and all(one.path.is_relative_to(made.path) for one in problems), path
        path.write_bytes(data)
    (broken,) = made.path.glob("shards/*/features.h5")
    broken.write_bytes(broken.read_bytes()[:50])
    report = repair(store, verify(store.path))
    assert [one.name.startswith("features-") for one in report.set_aside] == [True]
    assert verify(store.path, deep=True) == [] and len(SetFeatures(made)) == 0


def test_a_set_of_a_newer_format_is_refused_and_not_said_to_be_damaged(store: Store) -> None:
    made = give_features(store, "clip-l", np.empty((0, 16), np.uint8), vectors(0))
    path = made.path / "features.json"
    value = read_json(path, error=StoreError, advice="")
    path.write_bytes(canonical_json({**value, "format": 99}))
    with pytest.raises(StoreFormatError, match="upgrade pfg"):
        store.feature_sets()
    (problem,) = verify(store.path)
    assert "upgrade pfg" in problem.what and problem.shard is None


def test_gc_sweeps_what_a_dead_writer_of_a_set_left(store: Store) -> None:
    made = give_features(store, "clip-l", np.empty((0, 16), np.uint8), vectors(0))
    store.disk.temporary(made.path / "shards")
    assert gc(store, dry_run=True).swept == 1
    assert gc(store).swept == 1 and not list(made.path.rglob(".tmp-*"))


def test_a_vector_is_found_by_its_content_and_a_set_that_grew_is_read_anew(store: Store) -> None:
    ids = store.snapshot().everything.distinct().content_ids
    there = SetFeatures(give_features(store, "clip-l", ids[:9], vectors(9)))
    known = there.vector(ids[4].tobytes())
    assert known is not None and (known == vectors(9)[4]).all()
    assert there.vector(ids[9].tobytes()) is None and there.fresh() is there
    give_features(store, "clip-l", ids[9:10], vectors(1))
    grown = there.fresh()
    assert grown is not there and grown.vector(ids[9].tobytes()) is not None
