"""A power cut behind each step of each kind of write leaves the old or the new: never half, never lost.

One of the states after each step is that in which all was written: what a kill of the process leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import StoreError
from pfgdata.files import CrashPoint, Disk
from pfgdata.ingest import ingest
from pfgdata.store import (
    Store,
    repair,
    verify,
)
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.crash.life import OPTIONS, open_or_make, see
from tests.pfgdata.crash.power import PowerCutDisk, cut_everywhere
from tests.pfgdata.crash.small_latents import encode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A disk: a folder with a store of 12 images in `feats`, and their corpus beside it."""
    make_images(tmp_path / "images", 12)
    (tmp_path / "disk").mkdir()
    store = new_store(tmp_path / "disk" / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=OPTIONS)
    return tmp_path / "disk"


def test_a_creation_cut_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()

    def check(copy: Path, point: CrashPoint) -> None:
        store = open_or_make(copy / "deep" / "feats", Disk())
        assert verify(store.path, deep=True) == [] and store.snapshot().num_images == 0

    def work(disk: Disk) -> None:
        open_or_make(tmp_path / "disk" / "deep" / "feats", disk)

    assert cut_everywhere(tmp_path / "disk", tmp_path / "cut", work, check) > 20


@pytest.mark.parametrize("first", [True, False])
def test_a_column_cut_anywhere_is_the_old_or_the_new_one(root: Path, tmp_path: Path, first: bool) -> None:
    def column(value: int) -> pa.Table:
        return pa.table({"path": ["0000.png", "0001.png"], "value": [value, value]})

    if not first:
        Store.open(root / "feats").write_column("liked", column(1))

    def check(copy: Path, point: CrashPoint) -> None:
        store = Store.open(copy / "feats")
        assert verify(store.path, deep=True) == []
        if store.columns() or not first:
            assert store.read_column("liked")["value"].to_pylist() in ([1, 1], [2, 2])
        store.write_column("liked", column(3), replace=True)
        assert store.read_column("liked")["value"].to_pylist() == [3, 3]

    def work(disk: Disk) -> None:
        Store.open(root / "feats", disk=disk).write_column("liked", column(2), replace=True)

    assert cut_everywhere(root, tmp_path / "cut", work, check) > 10


def test_a_root_moved_and_cut_anywhere_is_at_the_old_place_or_the_new(root: Path, tmp_path: Path) -> None:
    (old,) = Store.open(root / "feats").roots()

    def check(copy: Path, point: CrashPoint) -> None:
        store = Store.open(copy / "feats")
        assert store.roots() in ({old: old}, {old: "/elsewhere"})
        assert verify(store.path, deep=True) == [] and store.snapshot().num_images == 12

    def work(disk: Disk) -> None:
        Store.open(root / "feats", disk=disk).move_root(old, "/elsewhere")

    assert cut_everywhere(root, tmp_path / "cut", work, check) > 3


def test_latents_cut_anywhere_keep_what_was_committed_and_do_the_rest_once(
    root: Path, tmp_path: Path
) -> None:
    committed, completed = 0, set[tuple[CrashPoint, int]]()

    def check(copy: Path, point: CrashPoint) -> None:
        nonlocal committed
        committed = max(committed, len(list(copy.glob("feats/latents/*/shards/0*"))))
        store = Store.open(copy / "feats")
        assert verify(store.path, deep=True) == []
        before = sum(len(latents.index().rows) for latents in store.latent_sets())
        assert before // 3 in (committed, committed - 1)  # whole shards; the last may not be durable yet
        if (point, before) in completed:  # once behind each step, and for each number of shards found there
            return
        completed.add((point, before))
        latents = encode(store)
        index = latents.index()
        assert len({bytes(row) for row in index.content_ids}) == len(index.content_ids) == 6
        for number, shard in enumerate(index.shards):
            assert (latents.array_map(shard) == index.bucket[3 * number]).all()

    def work(disk: Disk) -> None:
        encode(Store.open(root / "feats", disk=disk))

    cuts = cut_everywhere(root, tmp_path / "cut", work, check)
    assert committed == 2 and cuts > 20


def test_a_repair_cut_anywhere_loses_no_healthy_row_and_the_next_completes_it(
    root: Path, tmp_path: Path
) -> None:
    make_images(tmp_path / "images", 3, seed=4)  # the first three change: a shard with shadows
    store = Store.open(root / "feats")
    ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger(), options=OPTIONS)
    whole, (*_, last) = see(store), store.snapshot().shards
    lost = set(store.snapshot().images(["path"], shards=[last.id])["path"].to_pylist())
    broken = last.path / "features.h5"
    broken.write_bytes(broken.read_bytes()[:-1])
    healthy = {path: row for path, row in whole.rows.items() if path not in lost}

    def check(copy: Path, point: CrashPoint) -> None:
        store = Store.open(copy / "feats")
        repair(store, verify(store.path))
        assert see(store).rows == healthy and verify(store.path, deep=True) == []

    def work(disk: Disk) -> None:
        store = Store.open(root / "feats", disk=disk)
        repair(store, verify(store.path))

    assert cut_everywhere(root, tmp_path / "cut", work, check) > 10
    assert len(healthy) == 12 - len(lost) == 9


class Stopped(BaseException):
    """Ends a writer in the middle, as a kill would."""


UNSYNCED: dict[CrashPoint, Callable[[Store, Path], object]] = {  # done but not durable: by what
    "folder made": lambda store, images: encode(store),
    "shard renamed": lambda store, images: add_all(store, images),
    "replaced": lambda store, images: store.move_root(next(iter(store.roots())), "/elsewhere"),
}


def add_all(store: Store, images: Path) -> None:
    """Ingest `images`."""
    ingest(plan_segments([images], store.roots()), store, CheapTagger(), options=OPTIONS)


@pytest.mark.parametrize("point", UNSYNCED)
def test_what_a_killed_writer_did_not_sync_is_durable_when_the_next_has_ended(
    root: Path, tmp_path: Path, point: CrashPoint
) -> None:
    make_images(tmp_path / "images" / "more", 4, seed=3)  # one shard, so that nothing is left for the next

    def at(reached: CrashPoint) -> None:
        if reached == point:
            disk.at = lambda point: None
            raise Stopped

    disk = PowerCutDisk(root, at=at)
    store, work = Store.open(root / "feats", disk=disk), UNSYNCED[point]
    with pytest.raises(Stopped):
        work(store, tmp_path / "images")
    if point == "replaced":
        with store.writer():
            pass
    else:
        work(store, tmp_path / "images")
    uncertain = disk.uncertain()
    disk.close()
    assert not uncertain


def test_leftovers_of_dead_writers_are_swept_everywhere_and_links_are_not_followed(root: Path) -> None:
    store, outside = Store.open(root / "feats"), root / "outside"
    latents = encode(store)
    outside.mkdir()
    (outside / "mine").write_bytes(b"x")
    folders = [
        store.path,
        store.path / "shards",
        store.path / "columns",
        latents.path,
        latents.path / "shards",
    ]
    for folder in folders:
        (folder / ".tmp-folder" / "inner").mkdir(parents=True)
        (folder / ".tmp-folder" / "inner" / "images.parquet").write_bytes(b"half")
        (folder / ".tmp-file").write_bytes(b"half")
        (folder / ".tmp-link").symlink_to(outside)
        (folder / ".tmp-folder" / "link").symlink_to(outside)
    assert see(store).rows and len(latents.index().rows) == 6  # readers do not mind
    with store.writer(), latents.writer():
        assert not list(root.rglob(".tmp-*"))
    assert (outside / "mine").exists()


def test_a_store_that_lost_its_store_json_is_not_made_anew_over_its_shards(root: Path) -> None:
    (root / "feats" / "store.json").unlink()
    with pytest.raises(StoreError, match=r"store\.json"):
        open_or_make(root / "feats", Disk())
