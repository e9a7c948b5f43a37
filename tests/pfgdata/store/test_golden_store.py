"""A store that the first version wrote stays readable, to the value."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from pfgdata.query import Thresholds, select
from pfgdata.store import KEY_COLUMNS, Store, key_of, verify

GOLDEN = Path(__file__).parents[2] / "data" / "golden_store_1" / "feats"


@pytest.fixture(scope="module")
def golden() -> Store:
    return Store.open(GOLDEN)


def test_its_identity_and_roots_are_as_written(golden: Store) -> None:
    identity = golden.identity
    assert (identity.tagger.name, identity.tagger.preprocess, identity.tagger.decode) == (
        "cheap",
        "kohya",
        "1",
    )
    assert (identity.feature_dim, identity.score_floor) == (4, 0.05)
    assert identity.vocabulary_digest == golden.vocabulary.digest
    assert golden.vocabulary.digest == "8b911e57de2bd1f21f76d0446140c68d59b7559b7255f65454b0dbff66aa7088"
    assert golden.vocabulary.names[4:7] == ("1girl", "solo", "smile")
    assert golden.roots() == {"/corpus": "/moved/corpus"}


def test_its_rows_are_those_that_nothing_hides(golden: Store) -> None:
    snapshot = golden.snapshot()
    keys = [key_of(one) for one in snapshot.images(KEY_COLUMNS).to_pylist()]
    assert [(key.path, key.member) for key in keys] == [
        (b"a/one.png", None),
        (b"c.zip", "in/ü.jpg".encode()),
        (b"\xff.webp", None),
        (b"b.png", None),
        (b"mended.png", None),
        (b"z.png", None),
    ]
    assert {key.root for key in keys} == {"/corpus"}
    assert snapshot.images(["size"])["size"].to_pylist() == [101, 103, 104, 202, 203, 301]


def test_every_column_of_a_row_is_as_written(golden: Store) -> None:
    (one,) = golden.snapshot().images().slice(0, 1).drop_columns(["shard", "row"]).to_pylist()
    assert one.pop("rating_scores") == pytest.approx([0.9, 0, 0, 0], abs=1e-3)
    assert one.pop("tag_scores") == pytest.approx([0.97, 0.9, 0.6], abs=1e-3)
    assert one.pop("character_score") == pytest.approx(0.97, abs=1e-3)
    assert one == {
        "content_id": UUID("5d5d3a95-d5cb-9d40-4f88-2cf60368c1d0"),
        "root": "/corpus",
        "path": "a/one.png",
        "member": None,
        "path_bytes": None,
        "member_bytes": None,
        "size": 101,
        "mtime_ns": 1_700_000_000_000_000_000,
        "width": 640,
        "height": 480,
        "format": "jpeg",
        "frames": 1,
        "phash": 2**63 + 5,
        "rating": "general",
        "character": "hatsune_miku",
        "tag_ids": [12, 4, 6],
    }


def test_its_features_stand_beside_their_rows(golden: Store) -> None:
    snapshot = golden.snapshot()
    assert snapshot.features(snapshot.everything).tolist() == [
        [101, 202, 640, 0.5],
        [103, 206, 1024, 0.5],
        [104, 208, 640, 0.5],
        [202, 404, 640, 0.5],
        [203, 406, 640, 0.5],
        [301, 602, 640, 0.5],
    ]


def test_its_failures_are_those_that_nothing_hides(golden: Store) -> None:
    (failure,) = golden.snapshot().failures().to_pylist()
    assert (failure["path"], failure["kind"], failure["size"]) == ("broken.png", "content", 7)
    assert failure["reason"] == "no image: not a format that can be read"


def test_a_selection_from_it_has_the_digest_of_then(golden: Store) -> None:
    snapshot = golden.snapshot()
    thresholds = Thresholds()
    found = select(snapshot, "rating = 'general' and has('smile')", thresholds)
    assert snapshot.positions(found).tolist() == [0, 3]
    assert found.digest == "ea3cd9d8b72218716a024a1f2e3150c771cafeac74fa8068605437dd336d7821"
    everything = "cbcd3ebba7902b3d4cfb2ffef6ac16ea3d1bd319212cc247d38bff0c5faf95d7"
    assert snapshot.everything.digest == everything


def test_its_column_gives_each_row_its_value(golden: Store) -> None:
    snapshot = golden.snapshot()
    values = golden.column_values("split", snapshot, snapshot.everything).to_pylist()
    assert values == [None, None, None, "train", None, "test"]


def test_its_latent_set_is_as_written(golden: Store) -> None:
    (latents,) = golden.latent_sets()
    assert latents.id == "554fb0d2d00e6e5c"
    assert latents.info.buckets == ((16, 16), (24, 8)) and latents.info.scaling_factor == 0.18215
    index = latents.index()
    assert index.bucket.tolist() == [1] and index.rows.tolist() == [0]
    assert bytes(index.content_ids[0]) == UUID("5d5d3a95-d5cb-9d40-4f88-2cf60368c1d0").bytes
    expected = np.arange(16, dtype=np.float16).reshape(1, 4, 2, 2) / 4
    np.testing.assert_array_equal(latents.array_map(index.shards[0]), expected)
    assert latents.failures()["reason"].to_pylist() == ["gone, or a link to nothing"]


def test_every_byte_of_it_is_as_written() -> None:
    assert verify(GOLDEN, deep=True) == []
