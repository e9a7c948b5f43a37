"""The stages side by side: the same rows however they ran, stuck decoders, what the report says of time."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pfgdata.corpus import Segment, plan_segments
from pfgdata.errors import AccessError, PfgError, StoreError
from pfgdata.files import Disk
from pfgdata.ingest import IngestOptions, IngestReport, ingest, plan_ingest
from pfgdata.ingest.outcomes import KnownContents
from pfgdata.ingest.prepare import Halt, PixelWork, Preparer, Square
from pfgdata.ingest.tasks import Task
from pfgdata.records import Found, ImageKey
from pfgdata.store import Store, compact, gc, images_table
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

FREE = threading.Event()  # ends the stuck decoders of this process; in a spawned one it is never set
STUCK, BROKEN_MACHINE = b"stuck", b"no more files"


@dataclass(frozen=True)
class OddDecoder:
    """A decoder that never returns from one kind of bytes, and finds the machine exhausted at another."""

    inner: PixelWork

    def __call__(self, data: bytes) -> Square:
        if data.startswith(STUCK):
            FREE.wait(600)
        if data.startswith(BROKEN_MACHINE):
            raise AccessError("too many open files") from OSError(errno.EMFILE, "too many open files")
        return self.inner(data)


class ParallelTagger(CheapTagger):
    """A cheap tagger that wants three callers and answers the first ones last."""

    def __init__(self) -> None:
        super().__init__()
        self.parallel = 3

    def predict(self, images: Any) -> Any:
        time.sleep(0.02 if len(self.batches) % 3 == 0 else 0)
        return super().predict(images)


def run(
    folder: Path, store: Store, options: IngestOptions, tagger: CheapTagger | None = None, **how: Any
) -> IngestReport:
    report = ingest(
        plan_segments([folder], store.roots()), store, tagger or CheapTagger(), options=options, **how
    )
    assert report.found == report.tagged + report.copied + report.unchanged + report.failed + report.pending
    return report


def content(store: Store) -> list[tuple[Any, ...]]:
    """Every visible row with its feature, in the order of the store."""
    snapshot = store.snapshot()
    features = snapshot.features(snapshot.everything)
    rows = snapshot.images().drop_columns(["shard", "row"]).to_pylist()
    return [(*map(str, row.values()), f.tobytes()) for row, f in zip(rows, features, strict=True)]


def test_a_store_is_the_same_whatever_ran_beside_what(small_corpus: Path, tmp_path: Path) -> None:
    (small_corpus / "0005.png").write_bytes(b"no image")
    shutil.copy(small_corpus / "0001.png", small_corpus / "0021.png")
    plain = new_store(tmp_path / "plain")
    run(small_corpus, plain, IngestOptions(batch_size=8, threads=1))
    other = new_store(tmp_path / "other")
    run(small_corpus, other, IngestOptions(batch_size=8, threads=7, shard_rows=10), ParallelTagger())
    assert content(other) == content(plain)


def test_bad_images_leave_their_neighbours_bit_identical_over_batches_and_threads(
    small_corpus: Path, tmp_path: Path
) -> None:
    good, bad = new_store(tmp_path / "good"), new_store(tmp_path / "bad")
    options = IngestOptions(batch_size=4, threads=5, shard_rows=12)
    run(small_corpus, good, options)
    names = [f"{index:04d}.png" for index in (0, 3, 4, 5, 6, 7, 20, 39)]  # one batch has none that is good
    for name in names:
        (small_corpus / name).write_bytes(b"no")
    report = run(small_corpus, bad, options, ParallelTagger())
    assert [Path(failure.file).name for failure in report.failures] == names
    expected = [row for row in content(good) if not any(name in row for name in names)]
    assert content(bad) == expected


def test_rows_built_by_column_are_those_of_one_image_at_a_time(small_corpus: Path, tmp_path: Path) -> None:
    odd = os.fsencode(small_corpus) + b"/caf\xe9.png"
    os.rename(small_corpus / "0000.png", odd)  # noqa: PTH104 (a name that is not UTF-8)
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    run(small_corpus, store, IngestOptions(batch_size=8, threads=2))
    tagger_rows = store.snapshot().images()
    shard = store.snapshot().shards[0]
    written = pq.read_table(shard.path / "images.parquet")
    assert written.schema.equals(images_table([]).schema)
    work = PixelWork.of(tagger, IngestOptions())
    for row in tagger_rows.to_pylist():
        path = small_corpus / os.fsdecode(row["path_bytes"] or row["path"].encode())
        square = work(path.read_bytes())
        ((scores,), _) = tagger.predict(square.array[None])
        words = tagger.vocabulary
        tags = np.concatenate([words.general_ids, words.character_ids])
        tags = tags[scores[tags] >= 0.05]
        tags = tags[np.argsort(-scores[tags], kind="stable")]
        assert row["tag_ids"] == tags.tolist()
        np.testing.assert_array_equal(np.array(row["tag_scores"]), scores[tags].astype(np.float16))
        best = [tag for tag in tags if tag in words.character_ids]
        assert row["character"] == (words.names[best[0]] if best else None)
        assert (row["character_score"] is None) == (not best)
        assert row["rating"] == words.names[words.rating_ids[np.argmax(scores[words.rating_ids])]]
        assert (row["width"], row["height"], row["phash"]) == (24, 32, square.facts.phash)
    assert tagger_rows["path_bytes"].to_pylist().count(b"caf\xe9.png") == 1


def test_stuck_decoders_become_failures_and_the_run_goes_on_in_processes(
    small_corpus: Path, tmp_path: Path
) -> None:
    names = [f"{index:04d}.png" for index in (2, 3, 11, 12, 30, 31)]
    for name in names:
        (small_corpus / name).write_bytes(STUCK + name.encode())
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    options = IngestOptions(batch_size=8, threads=4, image_seconds=1.5)
    FREE.clear()
    try:
        work = OddDecoder(PixelWork.of(tagger, options))
        report = run(small_corpus, store, replace(options, pixels=work), tagger)
    finally:
        FREE.set()
    assert (report.tagged, report.failed, report.abandoned) == (34, 6, 4)
    assert {(Path(f.file).name, f.kind, f.reason) for f in report.failures} == {
        (name, "content", "decoding took over 1.5 s") for name in names
    }
    assert run(small_corpus, store, options).unchanged == 34  # and those six are not tried again
    while any(thread.name == "pfg-pool" for thread in threading.enumerate()):
        time.sleep(0.01)


def test_an_exhausted_machine_ends_the_run_in_one_line_and_what_was_done_is_kept(
    small_corpus: Path, tmp_path: Path
) -> None:
    (small_corpus / "0019.png").write_bytes(BROKEN_MACHINE)
    store, tagger = new_store(tmp_path / "feats"), CheapTagger()
    options = IngestOptions(batch_size=8, threads=2)
    with pytest.raises(PfgError, match=r"0019\.png: too many open files; allow more .* run the same again"):
        work = OddDecoder(PixelWork.of(tagger, options))
        run(small_corpus, store, replace(options, pixels=work), tagger)
    assert [row[2] for row in content(store)] == [f"{index:04d}.png" for index in range(19)]
    assert store.snapshot().failures().num_rows == 0
    (small_corpus / "0019.png").unlink()
    assert run(small_corpus, store, options).tagged == 20


def test_no_descriptor_left_is_no_failure_of_the_image(small_corpus: Path, tmp_path: Path) -> None:
    store, tagger, options = new_store(tmp_path / "feats"), CheapTagger(), IngestOptions()
    segment = Segment(root=str(small_corpus), location=small_corpus)
    found = Found(key=ImageKey(root=segment.root, path=b"0003.png"), size=1, mtime_ns=1)
    known = KnownContents(store.snapshot())
    preparer = Preparer([segment], known, PixelWork.of(tagger, options), options)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    try:
        item = preparer(Task(found, 0, None, None, None, None, None, None)).item
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(spare)
    assert isinstance(item, Halt) and "ulimit" in str(item.error)


def test_a_folder_that_vanishes_is_an_access_failure_of_each_of_its_images(tmp_path: Path) -> None:
    make_images(tmp_path / "images" / "a", 20)
    make_images(tmp_path / "images" / "b", 20, seed=1)
    store = new_store(tmp_path / "feats")

    class Unmounting(CheapTagger):
        def predict(self, images: Any) -> Any:
            if not self.batches:
                (tmp_path / "images" / "b").rename(tmp_path / "elsewhere")
            return super().predict(images)

    report = run(tmp_path / "images", store, IngestOptions(batch_size=4, threads=1), Unmounting())
    assert report.tagged >= 16 and report.tagged + report.failed == 40
    assert {failure.kind for failure in report.failures} == {"access"}
    (tmp_path / "elsewhere").rename(tmp_path / "images" / "b")
    run(tmp_path / "images", store, IngestOptions(batch_size=4))
    assert len(content(store)) == 40 and store.snapshot().failures().num_rows == 0


def test_the_report_says_how_busy_each_stage_was_and_which_one_held_up_the_others(
    small_corpus: Path, tmp_path: Path
) -> None:
    class Slow(CheapTagger):
        def predict(self, images: Any) -> Any:
            time.sleep(0.2)
            return super().predict(images)

    report = run(small_corpus, new_store(tmp_path / "feats"), IngestOptions(batch_size=8, threads=2), Slow())
    stages = report.as_dict()["stages"]
    assert list(stages) == ["read", "decode", "preprocess", "model", "write"]
    assert all(stage["busy"] > 0 and stage["waiting"] >= 0 for stage in stages.values())
    assert stages["read"]["workers"] == 2 and stages["model"]["busy"] >= 1
    assert report.bottleneck.startswith("model: busy ") and "faster device" in report.bottleneck
    assert report.abandoned == 0


def test_a_dry_run_says_how_long_it_would_take_from_the_shards_written_last(
    small_corpus: Path, tmp_path: Path
) -> None:
    store, segments = new_store(tmp_path / "feats"), plan_segments([small_corpus], {})
    assert plan_ingest(segments, store).estimated_seconds is None
    run(small_corpus, store, IngestOptions(batch_size=8, threads=2))
    make_images(small_corpus / "more", 20, seed=4)
    estimate = plan_ingest(plan_segments([small_corpus], store.roots()), store).estimated_seconds
    record = store.snapshot().present[0].writer
    assert record["images"] == 40
    assert estimate == pytest.approx(record["seconds"]["total"] / 2, abs=0.06)
    run(small_corpus, store, IngestOptions(batch_size=8, threads=2))
    compact(store)
    gc(store, older_than=0)
    make_images(small_corpus / "yet more", 6, seed=5)
    estimate = plan_ingest(plan_segments([small_corpus], store.roots()), store).estimated_seconds
    (merged,) = store.snapshot().present
    assert merged.writer["images"] == 60
    assert estimate == pytest.approx(merged.writer["seconds"]["total"] / 10, abs=0.06)


def test_limits_and_largest_size_are_the_options(small_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    strict = IngestOptions(batch_size=8, min_side=25, max_megabytes=0.01)
    report = run(small_corpus, store, strict)
    assert report.failed == 40 and "under the limit of 25" in report.failures[0].reason
    tiny = IngestOptions(batch_size=8, max_megabytes=1e-5, retry_failed=True)
    assert "over the limit of 10" in run(small_corpus, store, tiny).failures[0].reason


def test_a_full_disk_ends_the_run_while_the_next_shard_fills(small_corpus: Path, tmp_path: Path) -> None:
    full = threading.Event()

    class FullDisk(Disk):
        def rename(self, source: Path, target: Path) -> None:
            if target.parent.name == "shards":
                full.set()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().rename(source, target)

    class Waiting(CheapTagger):
        def predict(self, images: Any) -> Any:
            if len(self.batches) > 10:  # those of the second shard
                assert full.wait(60)
                time.sleep(0.1)
            return super().predict(images)

    new_store(tmp_path / "feats")
    store, tagger = Store.open(tmp_path / "feats", disk=FullDisk()), Waiting()
    with pytest.raises(StoreError, match="no space left on the disk"):
        run(small_corpus, store, IngestOptions(batch_size=2, threads=2, shard_rows=20), tagger)
    assert 10 <= len(tagger.batches) < 20
    assert store.snapshot().num_images == 0
