"""What a store promises: whole shards, hidden rows stay hidden, nothing half written is seen."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

from pfgdata.errors import (
    CorruptShardError,
    IdentityError,
    NoStoreError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
)
from pfgdata.files import Disk, canonical_json, read_json
from pfgdata.store import (
    Shadow,
    Store,
    StoreIdentity,
    images_table,
    installed_versions,
    key_of,
    merge_shards,
    moved_roots,
    require_same_tagger,
    stable_order,
)
from tests.conftest import new_store
from tests.doubles import CheapTagger
from tests.pfgdata.store.small_shards import contents, paths_of, row


def test_a_committed_shard_comes_back_whole(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a.png", b"bb.png", failed=(b"bad.png",)))
    snapshot = Store.open(tmp_path / "feats").snapshot()
    table = snapshot.images()
    assert table["path"].to_pylist() == ["a.png", "bb.png"]
    assert table["rating_scores"].to_pylist()[0] == pytest.approx([0.9, 0.1, 0, 0], abs=1e-3)
    assert table["tag_ids"].to_pylist()[0] == [5, 4]
    assert snapshot.failures()["reason"].to_pylist() == ["no image"]
    assert snapshot.feature_map(meta.id)[:, 0].tolist() == [5, 6]
    assert snapshot.features(snapshot.everything).shape == (2, 768)
    assert len(snapshot.everything) == snapshot.num_images == 2


def test_features_are_readable_by_any_hdf5_tool(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a", b"bbb"))
    with h5py.File(store.path / "shards" / meta.id / "features.h5") as file:
        assert file["feature"].chunks is None and file["feature"].dtype == np.float16
        assert file["feature"][:, 0].tolist() == [1, 3]


def _map_many(path: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    snapshot = Store.open(Path(path)).snapshot()
    held = [snapshot.feature_map(view.id) for view in snapshot.shards for _ in range(60)]
    assert len(held) == 120


def test_more_maps_can_be_held_than_the_soft_limit_of_open_files(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        writer.commit(contents(b"a"))
        writer.commit(contents(b"b"))
    child = multiprocessing.get_context("spawn").Process(target=_map_many, args=(str(store.path),))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_shadowed_rows_and_failures_are_not_seen(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        old = writer.commit(contents(b"a", b"b", failed=(b"c",)))
        writer.commit(
            contents(b"a", b"c", shadows=(Shadow(old.id, "images", 0), Shadow(old.id, "failures", 0)))
        )
    snapshot = store.snapshot()
    assert paths_of(store) == ["a", "b", "c"]
    assert snapshot.failures().num_rows == 0
    assert snapshot.positions(snapshot.everything).tolist() == [0, 1, 2]


def test_a_shadow_counts_when_its_shard_is_replaced_and_a_merge_inherits_it(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        old = writer.commit(contents(b"a", b"b"))
        new = writer.commit(contents(b"a", shadows=(Shadow(old.id, "images", 0),)))
        last = writer.commit(contents(b"z"))
        merged = merge_shards(writer, [new.id, last.id], rows=100)
    assert paths_of(store) == ["a", "b", "z"]
    store.disk.remove_folder(store.path / "shards" / new.id)  # as gc will
    assert paths_of(Store.open(store.path)) == ["a", "b", "z"]
    assert merged[0].tables["shadows"] == 1


def test_a_merge_sorts_rows_and_keeps_features_beside_them(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        ids = [writer.commit(contents(path, failed=(path + b"!",))).id for path in (b"ccc", b"a", b"bb")]
        (merged,) = merge_shards(writer, ids, rows=100)
    snapshot = store.snapshot()
    assert [view.id for view in snapshot.shards] == [merged.id]
    assert snapshot.images(["path"])["path"].to_pylist() == ["a", "bb", "ccc"]
    assert snapshot.feature_map(merged.id)[:, 0].tolist() == [1, 2, 3]
    assert snapshot.failures(["path"])["path"].to_pylist() == ["a!", "bb!", "ccc!"]


def test_merge_groups_stay_within_the_row_limit(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        ids = [writer.commit(contents(b"%d" % i, b"%d+" % i)).id for i in range(5)]
        merged = merge_shards(writer, ids, rows=4)
    assert [meta.tables["images"] for meta in merged] == [4, 4]
    assert [view.num_rows for view in store.snapshot().shards] == [2, 4, 4]


def test_a_folder_without_shard_json_is_not_committed(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a"))
    (store.path / "shards" / meta.id / "shard.json").unlink()
    assert paths_of(Store.open(store.path)) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "space"])
def test_a_damaged_shard_json_is_named(tmp_path: Path, damage: str) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a"))
    path = store.path / "shards" / meta.id / "shard.json"
    data = path.read_bytes()
    changed = {"flip": data.replace(b'"rows"', b'"rowz"').replace(b"1", b"2", 1), "truncate": data[:-30]}
    path.write_bytes(changed.get(damage, data.replace(b": ", b":  ", 1)))
    with pytest.raises(CorruptShardError, match=meta.id):
        Store.open(store.path).snapshot()


def test_truncated_features_are_named(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a", b"b"))
    path = store.path / "shards" / meta.id / "features.h5"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptShardError, match=r"features\.h5"):
        store.snapshot().feature_map(meta.id)


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    names = [b"\xff\xfe.png", b"new\nline.png", "ü 😀.png".encode(), b"-rf.png"]
    with store.writer() as writer:
        writer.commit(contents(*names))
    table = store.snapshot().images()
    assert [key_of(item).path for item in table.to_pylist()] == names
    assert table["path"].to_pylist()[0] == r"\xff\xfe.png"


def test_the_stable_order_is_root_then_path_bytes_then_member() -> None:
    keys = [("/r", b"a/b", None), ("/r", b"a.txt", None), ("/r", b"a", b"z"), ("/r", b"a", None)]
    keys += [("/q", b"z", None), ("/r", b"a", b""), ("/r", b"\xff", None)]
    table = images_table([row(path, root=root, member=member) for root, path, member in keys])
    got = [key_of(item) for item in table.take(stable_order(table)).to_pylist()]
    assert got == sorted(got, key=lambda key: key.order)
    assert [key.path for key in got] == [b"z", b"a", b"a", b"a", b"a.txt", b"a/b", b"\xff"]


def test_a_second_writer_is_refused_with_the_owners_pid(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer(), pytest.raises(StoreLockedError, match=r"process \d+ on"), store.writer():
        pass
    with store.writer():
        pass


def _hold_and_die(path: str, ready: Any) -> None:
    import os
    import signal

    with Store.open(Path(path)).writer():
        ready.set()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_writer_that_died_leaves_no_lock(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    child = context.Process(target=_hold_and_die, args=(str(store.path), ready))
    child.start()
    child.join(60)
    assert ready.is_set() and child.exitcode == -9
    with store.writer():
        pass


def test_leftovers_of_a_dead_writer_are_swept_by_the_next(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    Disk().temporary(store.path / "shards")
    (store.path / ".tmp-roots").write_bytes(b"half")
    with store.writer():
        assert [path.name for path in store.path.rglob(".tmp-*")] == []


def test_opening_what_is_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match="pfgdata ingest"):
        Store.open(tmp_path / "none")


def test_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    value = read_json(store.path / "store.json", advice="")
    (store.path / "store.json").write_bytes(canonical_json({**value, "format": 99}))
    with pytest.raises(StoreFormatError, match="upgrade"):
        Store.open(store.path)


def test_a_store_is_not_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "feats").mkdir()
    (tmp_path / "feats" / "thesis.doc").touch()
    with pytest.raises(StoreError, match="holds other files"):
        new_store(tmp_path / "feats")


def test_a_creation_cut_short_is_completed_by_the_next(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    (store.path / "store.json").unlink()
    assert new_store(tmp_path / "feats").snapshot().num_images == 0


def test_another_tagger_or_preprocessing_is_refused_by_name() -> None:
    ours, theirs = CheapTagger().identity, CheapTagger(preprocess="webui").identity
    require_same_tagger(ours, CheapTagger(name="another name for it").identity, where="feats")
    with pytest.raises(IdentityError, match="preprocessing kohya against webui"):
        require_same_tagger(ours, theirs, where="feats")


def test_another_vocabulary_under_the_same_store_json_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    other = tmp_path / "other"
    tagger = CheapTagger()
    identity = StoreIdentity(tagger=tagger.identity, vocabulary_digest="0" * 64, feature_dim=768)
    Store.create(other, identity=identity, vocabulary=tagger.vocabulary)
    with pytest.raises(StoreError, match="not the vocabulary"):
        Store.open(other)
    shutil.copy(store.path / "store.json", other / "store.json")
    assert Store.open(other).vocabulary.names == tagger.vocabulary.names


def test_every_flipped_byte_of_a_json_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    data = canonical_json({"b": [1.5, None, "ü"], "a": {"x": True}})
    path.write_bytes(data)
    assert json.loads(data) == read_json(path, advice="") | {"digest": json.loads(data)["digest"]}
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises(CorruptShardError):
            read_json(path, advice="")


def test_an_empty_store_has_the_full_schema(tmp_path: Path) -> None:
    snapshot = new_store(tmp_path / "feats").snapshot()
    table = snapshot.images()
    assert table.num_rows == 0 and table.schema.field("content_id").type == pa.uuid()
    assert len(snapshot.everything) == 0
    assert snapshot.features(snapshot.everything).shape == (0, 768)


class RecordingDisk(Disk):
    """The real disk, remembering each sync and rename in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def sync(self, path: Path) -> None:
        """Sync, and remember it."""
        super().sync(path)
        self.events.append(("sync", path.name))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and remember it."""
        super().rename(source, target)
        self.events.append(("rename", target.name))


def test_a_commit_syncs_files_then_their_folder_then_renames_then_syncs_the_parent(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    disk = RecordingDisk()
    store.disk = disk
    with store.writer() as writer:
        disk.events.clear()  # a writer begins by syncing what is there
        meta = writer.commit(contents(b"a", failed=(b"b",)))
    names = [name for kind, name in disk.events if kind == "sync"]
    rename = disk.events.index(("rename", meta.id))
    synced = {name for _, name in disk.events[: rename - 1]}
    assert synced == {"images.parquet", "features.h5", "failures.parquet", "shard.json"}
    assert names[4].startswith(".tmp-") and disk.events[rename - 1] == ("sync", names[4])
    assert disk.events[rename + 1 :] == [("sync", "shards")]


def test_a_merge_inherits_the_replaces_of_what_it_merges(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        ids = [writer.commit(contents(path)).id for path in (b"a", b"b")]
        (middle,) = merge_shards(writer, ids, rows=10)
        last = writer.commit(contents(b"c"))
        merge_shards(writer, [middle.id, last.id], rows=10)
    store.disk.remove_folder(store.path / "shards" / middle.id)  # as gc may, before the shards it replaced
    assert paths_of(Store.open(store.path)) == ["a", "b", "c"]


def test_a_merge_may_begin_with_a_shard_that_has_no_visible_row(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a"))
        second = writer.commit(contents(b"a", shadows=(Shadow(first.id, "images", 0),)))
        merge_shards(writer, [first.id, second.id], rows=10)
    assert paths_of(store) == ["a"]


def test_a_selection_of_another_snapshot_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        old = writer.commit(contents(b"a", b"b"))
        selection = store.snapshot().everything
        writer.commit(contents(b"a", shadows=(Shadow(old.id, "images", 0),)))
        hidden = store.snapshot()
        merge_shards(writer, [view.id for view in hidden.shards], rows=10)
    for snapshot in (hidden, store.snapshot()):
        with pytest.raises(StoreError, match="select again"):
            snapshot.positions(selection)


def test_a_store_is_not_made_over_the_shards_of_another(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        writer.commit(contents(b"a"))
    (store.path / "store.json").unlink()
    with pytest.raises(StoreError, match=r"restore its store\.json"):
        new_store(tmp_path / "feats", CheapTagger(preprocess="webui"))
    assert store.path.joinpath("roots.json").exists()


def test_roots_move_with_what_lies_below_them_and_never_onto_each_other(tmp_path: Path) -> None:
    roots = {"/all": "/all", "/all/images": "/all/images", "/b": "/b"}
    assert moved_roots(roots, "/all", "/new") == {"/all": "/new", "/all/images": "/new/images", "/b": "/b"}
    with pytest.raises(StoreError, match="one root"):
        moved_roots(roots, "/all", "/b")
    with pytest.raises(StoreError, match="its roots: /all"):
        moved_roots(roots, "/al", "/new")
    with pytest.raises(StoreError, match="UTF-8"):
        moved_roots(roots, "/b", os.fsdecode(b"/\xff"))


def test_fields_of_a_later_minor_version_are_passed_over(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        meta = writer.commit(contents(b"a"))
    for path in (store.path / "store.json", store.path / "shards" / meta.id / "shard.json"):
        value = read_json(path, advice="")
        for part in (value, value.get("tagger", {}), value.get("arrays", {}).get("feature", {})):
            part["later"] = 1
        path.write_bytes(canonical_json(value))
    assert paths_of(Store.open(store.path)) == ["a"]


def test_the_versions_on_record_may_lack_a_package() -> None:
    found = installed_versions(["numpy", "opencv-python-headless", "no-such-package"])
    assert found == {
        "numpy": version("numpy"),
        "opencv": version("opencv-python-headless"),
        "no-such-package": None,
    }


def test_json_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"[" * 100_000)
    with pytest.raises(StoreError, match="damaged"):
        read_json(tmp_path / "x.json", error=StoreError, advice="write it again")
