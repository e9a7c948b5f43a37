"""The nearest images are the true ones, in one order, whatever stands in which shard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.errors import CorruptShardError, QueryError
from pfgdata.query import Thresholds, select
from pfgdata.records import content_id
from pfgdata.similarity import Neighbours, corpus_mean
from pfgdata.store import FAILURES_SCHEMA, Shadow, ShardContents, Snapshot, Store, images_table
from tests.conftest import new_store
from tests.doubles import CheapTagger
from tests.pfgdata.query.rows import row

ROWS, WIDTH = 900, CheapTagger().feature_dim


def features_of(seed: int, count: int = ROWS) -> npt.NDArray[np.float16]:
    """Features with a large common part, as a tagger's are."""
    chance = np.random.default_rng(seed)
    return (3 + chance.normal(0, 1, (count, WIDTH))).astype(np.float16)


def filled(
    path: Path, features: npt.NDArray[np.float16], *, shards: int, names: list[str] | None = None
) -> Store:
    """A store of one row for each of `features`, in `shards` shards; row i is called i.png."""
    store = new_store(path)
    names = names or [f"{index}.png" for index in range(len(features))]
    for part in np.array_split(np.arange(len(features)), shards):
        add(store, [names[index] for index in part], features[part])
    return store


def add(
    store: Store, names: list[str], features: npt.NDArray[np.float16], *, shadows: tuple[Shadow, ...] = ()
) -> None:
    with store.writer() as writer:
        rows = images_table([row(name) for name in names])
        failures = FAILURES_SCHEMA.empty_table()
        writer.commit(ShardContents(images=rows, features=features, failures=failures, shadows=shadows))


def plainly(features: npt.NDArray[np.float16], query: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The cosines, one row after the other in float64."""
    wide = features.astype(np.float64)
    return (wide @ query) / np.linalg.norm(wide, axis=1) / np.linalg.norm(query)


def numbers(snapshot: Snapshot, ids: npt.NDArray[np.uint8]) -> list[int]:
    """Which images these are, by the number in their names."""
    known = {content_id(f"{index}.png".encode()): index for index in range(snapshot.num_images)}
    return [known[one.tobytes()] for one in ids]


@pytest.mark.parametrize("shards", [1, 7])
def test_the_nearest_are_those_of_a_plain_computation(tmp_path: Path, shards: int) -> None:
    features = features_of(0)
    snapshot = filled(tmp_path / "s", features, shards=shards).snapshot()
    queries = features_of(1, 3).astype(np.float64)
    for query, found in zip(queries, Neighbours(snapshot).nearest(queries, k=25), strict=True):
        expected = plainly(features, query)
        best = np.argsort(-expected)[:25]
        assert numbers(snapshot, found.rows.content_ids) == best.tolist()
        assert np.abs(found.scores - expected[best]).max() < 1e-6


def test_with_the_mean_taken_off_the_order_is_that_of_centred_features(tmp_path: Path) -> None:
    features = features_of(2)
    snapshot = filled(tmp_path / "s", features, shards=3).snapshot()
    mean = corpus_mean(snapshot)
    assert np.abs(mean - features.astype(np.float64).mean(axis=0)).max() < 1e-9
    (found,) = Neighbours(snapshot, mean=mean).nearest(features[5], 10)
    centred = features.astype(np.float64) - mean
    expected = plainly(centred.astype(np.float64), centred[5])
    assert numbers(snapshot, found.rows.content_ids) == np.argsort(-expected)[:10].tolist()
    assert found.scores[0] == 1 and found.scores[1] < 0.3


def test_equal_scores_go_by_content_id_whatever_the_shards(tmp_path: Path) -> None:
    one = features_of(3, 1)
    same = np.concatenate([np.repeat(one, 40, axis=0), -one])
    expected = sorted(range(40), key=lambda index: content_id(f"{index}.png".encode()))[:9]
    for shards in (1, 5):
        snapshot = filled(tmp_path / str(shards), same, shards=shards).snapshot()
        (found,) = Neighbours(snapshot).nearest(one, k=9)
        assert numbers(snapshot, found.rows.content_ids) == expected


def test_the_same_bytes_are_shown_once_and_more_rows_are_looked_at_for_it(tmp_path: Path) -> None:
    features = np.concatenate([np.repeat(features_of(4, 1), 50, axis=0), features_of(5, 10)])
    store = new_store(tmp_path / "s")
    rows = [row(f"{index}/twice.png", content_id=content_id(b"twice.png")) for index in range(50)]
    rows += [row(f"{index}.png") for index in range(10)]
    with store.writer() as writer:
        failures = FAILURES_SCHEMA.empty_table()
        writer.commit(ShardContents(images=images_table(rows), features=features, failures=failures))
    (found,) = Neighbours(store.snapshot()).nearest(features[:1], k=5)
    assert len(np.unique(found.rows.content_ids, axis=0)) == 5
    (found,) = Neighbours(store.snapshot()).nearest(features[:1], k=5, without={content_id(b"twice.png")})
    assert content_id(b"twice.png") not in {one.tobytes() for one in found.rows.content_ids}
    (found,) = Neighbours(store.snapshot()).nearest(features[:1], k=500)
    assert len(found.scores) == 11


def test_hidden_and_damaged_rows_are_not_shown(tmp_path: Path) -> None:
    features = features_of(6, 60)
    features[7] = np.nan
    features[8] = 0
    store = filled(tmp_path / "s", features, shards=1)
    (shard,) = store.snapshot().shards
    add(store, ["other.png"], features_of(7, 1), shadows=(Shadow(shard.id, "images", 3),))
    (found,) = Neighbours(store.snapshot()).nearest(features[3:4], k=100)
    assert len(found.scores) == 58
    shown = {one.tobytes() for one in found.rows.content_ids}
    assert not shown & {content_id(f"{index}.png".encode()) for index in (3, 7, 8)}
    assert np.isfinite(corpus_mean(store.snapshot())).all()


def test_only_what_is_selected_is_compared(tmp_path: Path) -> None:
    features = features_of(8, 400)
    snapshot = filled(tmp_path / "s", features, shards=4).snapshot()
    chosen = select(snapshot, "row % 7 = 2", Thresholds())
    neighbours = Neighbours(snapshot, chosen)
    (found,) = neighbours.nearest(features[1], 1000)
    assert len(found.scores) == len(chosen) > 50
    assert np.array_equal(np.unique(found.rows.content_ids, axis=0), np.unique(chosen.content_ids, axis=0))
    expected = plainly(snapshot.features(chosen), features[1].astype(np.float64))
    assert np.abs(neighbours.scores(features[1:2])[0] - expected).max() < 1e-5


def test_a_query_that_is_like_nothing_is_refused(tmp_path: Path) -> None:
    snapshot = filled(tmp_path / "s", features_of(9, 5), shards=1).snapshot()
    with pytest.raises(QueryError, match="512 numbers"):
        Neighbours(snapshot).nearest(np.ones((1, 512)), k=20)
    for value in (0, np.nan):
        with pytest.raises(QueryError, match="like nothing"):
            Neighbours(snapshot).nearest(np.full((1, WIDTH), value), k=20)


def test_an_empty_store_answers_nothing_and_a_lost_file_says_what_to_do(tmp_path: Path) -> None:
    (found,) = Neighbours(new_store(tmp_path / "e").snapshot()).nearest(np.ones((1, WIDTH)), k=20)
    assert len(found.scores) == 0
    store = filled(tmp_path / "s", features_of(9, 5), shards=1)
    (shard,) = store.snapshot().shards
    (shard.path / "features.h5").unlink()
    with pytest.raises(CorruptShardError, match="verify"):
        Neighbours(store.snapshot()).nearest(np.ones((1, WIDTH)), k=20)


WITH_TORCH = """
import sys, numpy as np
from pathlib import Path
from pfgdata.similarity import Neighbours
from pfgdata.store import Store

neighbours = Neighbours(Store.open(Path(sys.argv[1])).snapshot())
query = np.linspace(-1, 1, int(sys.argv[2]))
assert "torch" not in sys.modules
plain = neighbours.scores(query)
import torch
assert plain.tobytes() == neighbours.scores(query).tobytes()
"""


def test_torch_where_it_is_loaded_changes_no_bit_of_a_score(tmp_path: Path) -> None:
    features = features_of(7)
    features[3, 5], features[4, 5], features[5] = np.inf, np.nan, np.float16(6e-8)  # the least there is
    store = filled(tmp_path / "feats", features, shards=2)
    subprocess.run([sys.executable, "-W", "error", "-c", WITH_TORCH, store.path, str(WIDTH)], check=True)
