"""A store on a disk whose paths lead nowhere here: all that is read and written goes through the object."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import NoStoreError, StoreLockedError
from pfgdata.images import BucketPolicy
from pfgdata.ingest import IngestOptions, ingest, write_captions
from pfgdata.latents import LatentOptions, LatentPass
from pfgdata.query import Thresholds, run_query
from pfgdata.store import Store, compact, gc, repair, verify
from pfgdata.vaes import Vae
from tests.conftest import new_store
from tests.doubles import CheapTagger, FarDisk

FAR = Path("/no such folder/feats")  # where the store is, as far as the library knows
OPTIONS = IngestOptions(batch_size=4, threads=1, shard_rows=8)


@pytest.fixture
def far_store(small_corpus: Path, tmp_path: Path) -> Store:
    """A store of 40 images in 5 shards, on a disk that is far away."""
    store = new_store(FAR, disk=FarDisk(tmp_path / "far", tmp_path / "cache"))
    ingest(plan_segments([small_corpus], {}), store, CheapTagger(), options=OPTIONS)
    return store


def reopened(store: Store, tmp_path: Path) -> tuple[Store, FarDisk]:
    """The same store from a machine that has nothing of it yet."""
    disk = FarDisk(tmp_path / "far", tmp_path / "other cache")
    return Store.open(store.path, disk=disk), disk


def test_a_far_store_answers_as_one_on_this_machine(
    far_store: Store, small_corpus: Path, tmp_path: Path
) -> None:
    near = new_store(tmp_path / "near")
    ingest(plan_segments([small_corpus], {}), near, CheapTagger(), options=OPTIONS)
    far, _ = reopened(far_store, tmp_path)
    assert far.roots() == near.roots()
    ours, theirs = near.snapshot(), far.snapshot()
    drop = ["shard", "row"]
    assert theirs.images().drop_columns(drop).equals(ours.images().drop_columns(drop))
    np.testing.assert_array_equal(theirs.features(theirs.everything), ours.features(ours.everything))
    for expression in (None, "has('smile')", "width = 24 and score('solo') > 0.5"):
        wanted, found = (
            run_query(
                snapshot,
                expression,
                thresholds=Thresholds(),
                columns=["path"],
                roots={},
            )
            for snapshot in (ours, theirs)
        )
        assert found.equals(wanted)
    assert not FAR.parent.exists()


def test_what_is_opened_of_a_far_shard_is_copied_once_and_a_snapshot_copies_nothing(
    far_store: Store, tmp_path: Path
) -> None:
    store, disk = reopened(far_store, tmp_path)
    assert disk.asked["copied"] == 1  # the vocabulary
    snapshot = store.snapshot()
    assert snapshot.num_images == 40 and disk.asked["copied"] == 1
    snapshot.feature_map(snapshot.shards[0].id)
    assert disk.asked["copied"] == 2
    for _ in range(2):
        snapshot.features(snapshot.everything)
    assert disk.asked["copied"] == 1 + 5 + 5  # and tables, for the content_ids


def test_a_far_store_is_changed_compacted_and_collected(
    far_store: Store, small_corpus: Path, tmp_path: Path
) -> None:
    os.utime(small_corpus / "0003.png", ns=(1, 1))
    (small_corpus / "0004.png").write_bytes(b"no image")
    (small_corpus / "0005.txt").write_text("a caption")
    segments = plan_segments([small_corpus], far_store.roots())
    report = ingest(segments, far_store, CheapTagger(), options=OPTIONS)
    assert (report.copied, report.failed, report.unchanged) == (1, 1, 38)
    assert write_captions(far_store, segments).captions == 1
    store, _ = reopened(far_store, tmp_path)
    assert store.columns() == ["captions"] and store.read_column("captions")["value"].to_pylist() == [
        "a caption"
    ]
    far_store.disk.temporary(FAR / "shards")
    compacted = compact(store)
    assert (compacted.shards_before, compacted.shards_after) == (6, 1)
    collected = gc(store, older_than=0)
    assert (len(collected.removed), collected.swept) == (6, 0)  # compact has swept
    assert verify(FAR, deep=True, disk=reopened(far_store, tmp_path)[1]) == []
    assert store.snapshot().num_images == 39


def test_a_far_store_has_a_lock_and_latent_sets(far_store: Store, tmp_path: Path) -> None:
    store, _ = reopened(far_store, tmp_path)
    with far_store.writer(), pytest.raises(StoreLockedError), store.writer():
        pass
    snapshot, vae = store.snapshot(), Vae.load("demo", device="cpu")
    policy, options = BucketPolicy.derive(resolution=64, step=16), LatentOptions(batch_size=4, threads=1)
    LatentPass(store=store, vae=vae, policy=policy, options=options).run(snapshot, snapshot.everything)
    (latent_set,) = far_store.latent_sets()
    index = latent_set.index()
    assert len(index.rows) == 40 and latent_set.failures().num_rows == 0
    assert len(latent_set.array_map(index.shards[0])) == 40


def test_damage_on_a_far_disk_is_found_and_set_aside_there(far_store: Store, tmp_path: Path) -> None:
    shard = far_store.snapshot().shards[0].id
    file = tmp_path / "far" / FAR.relative_to("/") / "shards" / shard / "features.h5"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    store, disk = reopened(far_store, tmp_path)
    assert verify(FAR, disk=disk) == []
    (problem,) = verify(FAR, deep=True, disk=disk)
    assert problem.path == FAR / "shards" / shard / "features.h5"
    report = repair(store, [problem])
    assert report.set_aside == (FAR / "quarantine" / f"shards-{shard}",)
    assert disk.is_folder(report.set_aside[0]) and store.snapshot().num_images == 32
    assert gc(store, quarantine=True).quarantined == 1


def test_a_path_of_a_far_disk_is_no_store_here(far_store: Store) -> None:
    with pytest.raises(NoStoreError):
        Store.open(far_store.path)
