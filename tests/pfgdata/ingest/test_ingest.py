"""Ingest: what is new is tagged, what is known is not done twice, and the report adds up."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.corpus import WalkCounts, plan_segments
from pfgdata.errors import CorruptShardError, IdentityError, ModelError, StoreError
from pfgdata.ingest import IngestOptions, IngestReport, ingest, plan_ingest
from pfgdata.ingest.plan import lacks
from pfgdata.ingest.timing import STAGES
from pfgdata.records import ImageKey, NoProgress
from pfgdata.store import Store, repair, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

SMALL = IngestOptions(batch_size=8, threads=2, shard_rows=16)


def run(
    folder: Path, store: Store, tagger: CheapTagger | None = None, options: IngestOptions = SMALL
) -> IngestReport:
    """Ingest `folder` and check that the report adds up."""
    report = ingest(plan_segments([folder], store.roots()), store, tagger or CheapTagger(), options=options)
    assert report.found == (report.tagged + report.copied + report.unchanged + report.failed + report.pending)
    return report


def rows_by_path(store: Store) -> dict[str, dict[str, object]]:
    """The visible rows, by path; a path twice fails."""
    table = store.snapshot().images()
    rows = {row["path"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows


def shards_of(store: Store) -> list[str]:
    """What stands in the store's shards folder."""
    return sorted(path.name for path in (store.path / "shards").iterdir())


def features_by_path(store: Store) -> dict[str, bytes]:
    """The features of the visible rows, by path."""
    snapshot = store.snapshot()
    features = snapshot.features(snapshot.everything)
    paths = snapshot.images(["path"])["path"].to_pylist()
    return {path: feature.tobytes() for path, feature in zip(paths, features, strict=True)}


def test_every_image_of_a_real_folder_gets_a_row(mini: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    report = run(mini, store, options=IngestOptions(batch_size=16, shard_rows=64))
    assert (report.found, report.tagged, report.failed, report.ignored) == (200, 200, 0, 2)
    table = store.snapshot().images()
    assert table.num_rows == 200
    assert set(table["format"].to_pylist()) == {"jpeg", "png", "webp"}
    for view in store.snapshot().shards:
        assert view.num_rows <= 64 + 16


def test_a_second_run_reads_and_writes_nothing(small_corpus: Path, tmp_path: Path) -> None:
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    run(small_corpus, store, tagger)
    batches, shards = len(tagger.batches), shards_of(store)
    report = run(small_corpus, store, tagger)
    assert (report.unchanged, report.tagged) == (40, 0)
    assert len(tagger.batches) == batches and shards_of(store) == shards


def test_new_files_are_added_to_an_existing_store(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    make_images(small_corpus / "more", 5, seed=9)
    report = run(small_corpus, store)
    assert (report.unchanged, report.tagged) == (40, 5)
    assert len(rows_by_path(store)) == 45


def test_small_shards_of_one_run_are_merged_in_the_stable_order(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    options = IngestOptions(batch_size=4, shard_rows=64, shard_seconds=0)
    report = run(small_corpus, store, options=options)
    assert report.shards == 1
    assert len(shards_of(store)) == 10 + 1  # one a batch, by age, and the one they were merged into
    paths = store.snapshot().images(["path"])["path"].to_pylist()
    assert paths == sorted(paths)
    assert len(features_by_path(store)) == 40


def test_batches_are_always_full(small_corpus: Path, tmp_path: Path) -> None:
    tagger = CheapTagger()
    run(small_corpus, new_store(tmp_path / "feats"), tagger, IngestOptions(batch_size=16))
    assert tagger.batches == [16, 16, 16]


def test_a_file_that_is_no_image_becomes_a_failure_row(small_corpus: Path, tmp_path: Path) -> None:
    (small_corpus / "0005.png").write_bytes(b"this is no image")
    (small_corpus / "0006.png").write_bytes(b"")
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    report = run(small_corpus, store, tagger)
    assert (report.tagged, report.failed) == (38, 2)
    assert [Path(failure.file).name for failure in report.failures] == ["0005.png", "0006.png"]
    again = run(small_corpus, store, tagger)
    assert (again.failed, again.failures, again.unchanged) == (2, [], 38)
    retried = run(small_corpus, store, tagger, IngestOptions(batch_size=8, retry_failed=True))
    assert len(retried.failures) == 2 and store.snapshot().failures().num_rows == 2


def test_a_repaired_file_replaces_its_failure(small_corpus: Path, tmp_path: Path) -> None:
    good = (small_corpus / "0005.png").read_bytes()
    (small_corpus / "0005.png").write_bytes(good[:20])
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    (small_corpus / "0005.png").write_bytes(good)
    assert run(small_corpus, store).tagged == 1
    assert store.snapshot().failures().num_rows == 0 and len(rows_by_path(store)) == 40


def test_a_bad_image_changes_no_neighbour(small_corpus: Path, tmp_path: Path) -> None:
    good, bad = new_store(tmp_path / "good"), new_store(tmp_path / "bad")
    run(small_corpus, good)
    (small_corpus / "0003.png").write_bytes(b"no")
    run(small_corpus, bad)
    expected = features_by_path(good)
    assert features_by_path(bad) == {path: f for path, f in expected.items() if path != "0003.png"}


def test_a_changed_file_hides_its_old_row(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    before = rows_by_path(store)["0007.png"]["content_id"]
    shutil.copy(make_images(tmp_path / "other", 1, seed=5)[0], small_corpus / "0007.png")
    report = run(small_corpus, store)
    assert (report.tagged, report.unchanged) == (1, 39)
    assert rows_by_path(store)["0007.png"]["content_id"] != before


def test_a_file_that_becomes_no_image_hides_its_row(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    (small_corpus / "0007.png").write_bytes(b"overwritten")
    assert run(small_corpus, store).failed == 1
    assert "0007.png" not in rows_by_path(store)


def test_touched_moved_and_duplicated_files_are_copied_without_inference(
    small_corpus: Path, tmp_path: Path
) -> None:
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    run(small_corpus, store, tagger)
    expected, batches = features_by_path(store), len(tagger.batches)
    os.utime(small_corpus / "0001.png", ns=(1, 1))
    (small_corpus / "0002.png").rename(small_corpus / "moved.png")
    shutil.copy(small_corpus / "0003.png", small_corpus / "twin.png")
    report = run(small_corpus, store, tagger)
    assert (report.tagged, report.copied, report.gone) == (0, 3, 1)
    assert len(tagger.batches) == batches
    features, rows = features_by_path(store), rows_by_path(store)
    assert features["moved.png"] == expected["0002.png"]
    assert features["twin.png"] == expected["0003.png"]
    assert rows["0001.png"]["mtime_ns"] == 1 and rows["twin.png"]["tag_ids"] == rows["0003.png"]["tag_ids"]


def test_a_row_is_not_copied_from_a_damaged_shard(small_corpus: Path, tmp_path: Path) -> None:
    """The copy would have a digest of its own, and verify would find nothing wrong with it."""
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    path = min(store.path.glob("shards/*/features.h5"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shutil.copy(small_corpus / "0003.png", small_corpus / "twin.png")
    with pytest.raises(CorruptShardError, match=r"features\.h5: its bytes are not .*--deep --repair"):
        run(small_corpus, store)
    repair(store, verify(store.path, deep=True))
    assert run(small_corpus, store).tagged == 16  # those of the shard
    assert verify(store.path, deep=True) == []


def test_the_same_bytes_twice_in_one_run_are_tagged_once(small_corpus: Path, tmp_path: Path) -> None:
    for index in range(12):
        shutil.copy(small_corpus / "0000.png", small_corpus / f"copy{index:02d}.png")
    store = new_store(tmp_path / "feats")
    report = run(small_corpus, store)
    assert (report.tagged, report.copied) == (40, 12)
    features = features_by_path(store)
    assert {features[f"copy{index:02d}.png"] for index in range(12)} == {features["0000.png"]}


def test_rehash_reads_everything_and_changes_nothing(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    shards = shards_of(store)
    report = run(small_corpus, store, options=IngestOptions(batch_size=8, rehash=True))
    assert report.unchanged == 40 and shards_of(store) == shards


def test_rehash_sees_new_bytes_under_an_old_stat(small_corpus: Path, tmp_path: Path) -> None:
    store, path = new_store(tmp_path / "feats"), small_corpus / "0004.png"
    run(small_corpus, store)
    stat = path.stat()
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(reversed(data)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(small_corpus, store).unchanged == 40
    assert run(small_corpus, store, options=IngestOptions(rehash=True)).failed == 1


def test_a_stop_commits_what_is_scored_and_the_next_run_goes_on(small_corpus: Path, tmp_path: Path) -> None:
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    segments = plan_segments([small_corpus], {})
    report = ingest(segments, store, tagger, options=SMALL, stop=lambda: True)
    assert report.interrupted and 8 <= report.tagged < 40 and report.pending == 40 - report.tagged
    assert run(small_corpus, store, tagger).tagged == report.pending
    assert len(rows_by_path(store)) == 40


def test_a_dry_run_counts_and_writes_nothing(small_corpus: Path, tmp_path: Path) -> None:
    segments = plan_segments([small_corpus], {})
    report = plan_ingest(segments, None, progress=NoProgress())
    assert (report.found, report.pending) == (40, 40)
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    assert plan_ingest(segments, store).pending == 0


def test_a_folder_below_a_known_root_keeps_the_keys_of_the_root(tmp_path: Path) -> None:
    make_images(tmp_path / "images" / "a", 3)
    make_images(tmp_path / "images" / "b", 3, seed=1)
    store = new_store(tmp_path / "feats")
    run(tmp_path / "images", store)
    report = run(tmp_path / "images" / "a", store)
    assert (report.found, report.unchanged, report.gone) == (3, 3, 0)
    assert list(store.roots()) == [str((tmp_path / "images").resolve())]


def test_a_parent_of_a_known_root_adds_only_what_is_new(tmp_path: Path) -> None:
    make_images(tmp_path / "all" / "images", 3)
    store = new_store(tmp_path / "feats")
    run(tmp_path / "all" / "images", store)
    make_images(tmp_path / "all" / "zoo", 2, seed=1)
    report = run(tmp_path / "all", store)
    assert (report.found, report.unchanged, report.tagged) == (5, 3, 2)
    assert len(store.roots()) == 2


def test_a_moved_corpus_needs_only_its_root_moved(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    old = str(small_corpus.resolve())
    small_corpus.rename(tmp_path / "elsewhere")
    store.move_root(old, str(tmp_path / "elsewhere"))
    report = run(tmp_path / "elsewhere", store)
    assert (report.unchanged, report.found) == (40, 40)
    assert set(store.snapshot().images(["root"])["root"].to_pylist()) == {old}


def test_what_is_below_a_folder_that_cannot_be_listed_is_not_gone(tmp_path: Path) -> None:
    make_images(tmp_path / "images" / "a", 3)
    make_images(tmp_path / "images" / "b", 2, seed=1)
    store = new_store(tmp_path / "feats")
    run(tmp_path / "images", store)
    (tmp_path / "images" / "a").rename(tmp_path / "a")
    assert run(tmp_path / "images", store).gone == 3
    counts = WalkCounts(unreadable=[os.fsencode(tmp_path / "images" / "a")])
    (segment,) = plan_segments([tmp_path / "images"], store.roots())
    keys = [ImageKey(root=segment.root, path=path) for path in (b"a/0000.png", b"b/0000.png", b"ab/x.png")]
    assert [lacks(segment, key, counts) for key in keys] == [False, True, True]


def test_another_preprocessing_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with pytest.raises(IdentityError, match="preprocess"):
        run(small_corpus, store, CheapTagger(preprocess="webui"))
    assert rows_by_path(store) == {}


def test_rows_hold_every_tag_over_the_floor_best_first(mini_store: Store) -> None:
    vocabulary = mini_store.vocabulary
    for row in mini_store.snapshot().images().to_pylist():
        scores = np.array(row["tag_scores"])
        assert (np.diff(scores) <= 0).all() and (scores >= 0.0499).all()
        assert not set(row["tag_ids"]) & set(vocabulary.rating_ids.tolist())
        characters = [tag for tag in row["tag_ids"] if tag in vocabulary.character_ids]
        assert row["character"] == (vocabulary.names[characters[0]] if characters else None)
        assert row["rating"] == vocabulary.names[int(np.argmax(row["rating_scores"]))]


def test_segments_keep_a_file_of_the_old_place_out_of_gone(small_corpus: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "second", 2, seed=3)
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    assert run(tmp_path / "second", store).gone == 0


class WatchedTagger(CheapTagger):
    """A cheap tagger that remembers which slots of each batch were blank."""

    def __init__(self) -> None:
        super().__init__()
        self.blank: list[list[int]] = []

    def predict(self, images: Any) -> Any:
        """Score, and remember the blank slots."""
        self.blank.append([slot for slot, image in enumerate(images) if not image.any()])
        return super().predict(images)


def test_a_failed_image_keeps_its_slot_blank_and_the_last_batch_is_padded(
    small_corpus: Path, tmp_path: Path
) -> None:
    (small_corpus / "0003.png").write_bytes(b"no")
    tagger = WatchedTagger()
    run(small_corpus, new_store(tmp_path / "feats"), tagger, IngestOptions(batch_size=16))
    assert tagger.blank == [[3], [], list(range(8, 16))]


def test_an_access_failure_hides_no_row_is_tried_each_run_and_adds_one_shard_only(
    small_corpus: Path, tmp_path: Path
) -> None:
    store, path = new_store(tmp_path / "feats"), small_corpus / "0005.png"
    run(small_corpus, store)
    good = path.read_bytes()
    path.unlink()
    path.symlink_to("nowhere.png")
    for _ in range(3):
        report = run(small_corpus, store)
        assert [failure.kind for failure in report.failures] == ["access"]
    assert "0005.png" in rows_by_path(store)
    assert store.snapshot().failures().num_rows == 1
    shards = shards_of(store)
    run(small_corpus, store)
    assert shards_of(store) == shards
    path.unlink()
    path.write_bytes(good)
    report = run(small_corpus, store)
    assert (report.copied, report.failed) == (1, 0)
    assert store.snapshot().failures().num_rows == 0 and len(rows_by_path(store)) == 40


class BrokenTagger(CheapTagger):
    """A tagger whose features overflow, as an unstable float16 run's do."""

    def predict(self, images: Any) -> Any:
        """Score with features that float16 cannot hold."""
        scores, features = super().predict(images)
        return scores, features * np.float32(1e6)


def test_features_that_are_not_finite_never_reach_the_store(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with pytest.raises(ModelError, match="not finite"):
        run(small_corpus, store, BrokenTagger())
    assert rows_by_path(store) == {}


def test_the_same_weights_with_another_vocabulary_are_refused(small_corpus: Path, tmp_path: Path) -> None:
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    names = tagger.vocabulary.names
    tagger.vocabulary = replace(tagger.vocabulary, names=(*names[:4], names[5], names[4], *names[6:]))
    with pytest.raises(IdentityError, match="vocabulary"):
        run(small_corpus, store, tagger)


def test_roots_added_since_the_planning_are_noticed(tmp_path: Path) -> None:
    make_images(tmp_path / "a" / "sub", 2)
    store = new_store(tmp_path / "feats")
    planned = plan_segments([tmp_path / "a"], store.roots())
    run(tmp_path / "a" / "sub", store)
    with pytest.raises(StoreError, match="run the same again"):
        ingest(planned, store, CheapTagger())
    assert run(tmp_path / "a", store).unchanged == 2
    inner = plan_segments([tmp_path / "a" / "sub"], {})
    run(tmp_path / "a", store := new_store(tmp_path / "other"))
    with pytest.raises(StoreError, match="run the same again"):
        ingest(inner, store, CheapTagger())


def test_a_store_inside_its_corpus_is_not_walked(small_corpus: Path) -> None:
    store = new_store(small_corpus / "feats")
    make_images(store.path / "cache", 3)
    assert plan_ingest(plan_segments([small_corpus], {}), store).found == 40
    assert run(small_corpus, store).found == 40
    assert run(small_corpus, store).unchanged == 40


def test_a_shard_says_who_wrote_it(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    run(small_corpus, store)
    writer = store.snapshot().present[0].writer
    assert writer["provider"] == "numpy" and writer["decode"] == "exact"
    assert writer["versions"]["pillow"] and set(writer["seconds"]) == {*STAGES, "total"}
