"""Compact and gc: fewer shards, the same rows; nothing hidden comes back, no reader is hurt by default."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pfgdata.errors import CorruptShardError, StoreError, StoreLockedError
from pfgdata.store import Shadow, ShardMeta, Snapshot, Store, compact, gc, repair, verify
from tests.conftest import new_store
from tests.pfgdata.store.small_shards import contents, paths_of

WEEK = 7 * 86_400.0


@pytest.fixture
def many_shards(tmp_path: Path) -> Store:
    """Six shards of one row, the fifth hiding the first, the sixth only hiding a failure of the second."""
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a"))
        second = writer.commit(contents(b"bb", failed=(b"bad",)))
        writer.commit(contents(b"ccc"))
        writer.commit(contents(b"dddd", failed=(b"worse",)))
        writer.commit(contents(b"a", shadows=(Shadow(first.id, "images", 0),)))
        writer.commit(contents(shadows=(Shadow(second.id, "failures", 0),)))
    return store


def failures_of(store: Store) -> list[str]:
    return sorted(Store.open(store.path).snapshot().failures(["path"])["path"].to_pylist())


def shards_on_disk(store: Store) -> int:
    return len(list((store.path / "shards").iterdir()))


def test_compact_makes_one_shard_of_many_in_stable_order_with_features_beside_their_rows(
    many_shards: Store,
) -> None:
    report = compact(many_shards, rows=100)
    assert (report.shards_before, report.shards_after, report.rewritten) == (6, 1, 6)
    assert (report.rows, report.dropped) == (5, 2)
    snapshot = many_shards.snapshot()
    assert snapshot.images(["path"])["path"].to_pylist() == ["a", "bb", "ccc", "dddd"]
    assert snapshot.features(snapshot.everything)[:, 0].tolist() == [1, 2, 3, 4]
    assert failures_of(many_shards) == ["worse"]
    assert verify(many_shards.path, deep=True) == []


def test_compact_again_has_nothing_to_do(many_shards: Store) -> None:
    compact(many_shards, rows=100)
    before = shards_on_disk(many_shards)
    report = compact(many_shards, rows=100)
    assert report.rewritten == 0 and shards_on_disk(many_shards) == before


def test_a_dry_run_of_compact_and_gc_says_what_they_then_do(many_shards: Store) -> None:
    with many_shards.writer():  # it needs no lock
        planned = compact(many_shards, rows=3, dry_run=True)
    assert shards_on_disk(many_shards) == 6
    assert compact(many_shards, rows=3) == planned
    planned_gc = gc(many_shards, older_than=0, dry_run=True)
    assert planned_gc.removed and shards_on_disk(many_shards) > len(planned_gc.removed)
    assert gc(many_shards, older_than=0) == planned_gc


def test_compact_copies_no_damage_under_a_good_digest(many_shards: Store) -> None:
    file = next(many_shards.path.glob("shards/*/features.h5"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptShardError, match=r"features\.h5: .*; pfgdata verify --deep --repair"):
        compact(many_shards, rows=100)
    assert shards_on_disk(many_shards) == 6


def test_compacted_shards_stay_within_the_row_limit(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        for i in range(7):
            writer.commit(contents(b"%d" % i, b"%d+" % i))
    compact(store, rows=5)
    assert [view.num_rows for view in store.snapshot().shards] == [2, 4, 4, 4]


def test_a_large_shard_is_left_alone_until_a_fifth_of_it_is_hidden(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        large = writer.commit(contents(*(b"%02d" % i for i in range(10))))
        writer.commit(contents(shadows=tuple(Shadow(large.id, "images", row) for row in (0, 1))))
    assert compact(store, rows=12).rewritten == 0
    with store.writer() as writer:
        writer.commit(contents(shadows=(Shadow(large.id, "images", 9),)))
    report = compact(store, rows=12)
    assert report.dropped == 3 and report.shards_after == 1
    assert paths_of(store) == [f"{i:02d}" for i in range(2, 9)]


def test_what_compact_replaced_stays_for_a_week_and_older_readers_go_on(many_shards: Store) -> None:
    old = many_shards.snapshot()
    compact(many_shards, rows=100)
    report = gc(many_shards, now=time.time() + WEEK - 60)
    assert report.removed == () and report.young == 6
    assert len(old.features(old.everything)) == 4 and old.images().num_rows == 4
    report = gc(many_shards, now=time.time() + WEEK + 60)
    assert len(report.removed) == 6 and report.freed > 0 and shards_on_disk(many_shards) == 1
    assert paths_of(Store.open(many_shards.path)) == ["a", "bb", "ccc", "dddd"]
    assert failures_of(many_shards) == ["worse"]


def test_a_reader_whose_shards_were_removed_is_told_to_ask_again(many_shards: Store) -> None:
    old = many_shards.snapshot()
    compact(many_shards, rows=100)
    gc(many_shards, older_than=0)
    with pytest.raises(StoreError, match="ask again"):
        old.images()
    with pytest.raises(StoreError, match="ask again"):
        old.feature_map(old.shards[0].id)


class Meddler(dict[str, ShardMeta]):
    """A reader's cache of shards that lets `act` happen after the first few were read."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def __setitem__(self, name: str, meta: ShardMeta) -> None:
        super().__setitem__(name, meta)
        act = self._act
        if len(self) == 3 and act is not None:
            self._act = None
            act()


def collect_all(store: Store) -> None:
    compact(store, rows=100)
    gc(store, older_than=0)


def change_twice(store: Store) -> None:
    with store.writer() as writer:
        old = next(view for view in store.snapshot().shards if view.num_rows and not len(view.hidden))
        new = writer.commit(contents(b"bb", shadows=(Shadow(old.id, "images", 0),)))
        writer.commit(contents(b"bb", shadows=(Shadow(new.id, "images", 0),)))


@pytest.mark.parametrize("act", [collect_all, change_twice])
def test_a_snapshot_is_of_one_moment_also_where_shards_come_and_go_while_it_is_taken(
    many_shards: Store, act: Callable[[Store], None]
) -> None:
    cache = Meddler(lambda: act(many_shards))
    snapshot = Snapshot(
        many_shards.path,
        identity=many_shards.identity,
        vocabulary=many_shards.vocabulary,
        cache=cache,
        disk=many_shards.disk,
    )
    assert sorted(snapshot.images(["path"])["path"].to_pylist()) == ["a", "bb", "ccc", "dddd"]
    assert [meta.id for meta in snapshot.present] == [meta.id for meta in many_shards.snapshot().present]


def test_chains_of_merges_are_collected_in_any_order(many_shards: Store) -> None:
    compact(many_shards, rows=2)
    compact(many_shards, rows=4)
    with many_shards.writer() as writer:
        shadow = Shadow(many_shards.snapshot().shards[0].id, "images", 0)
        writer.commit(contents(b"bb", shadows=(shadow,)))
    compact(many_shards, rows=100)
    expected, failed = paths_of(many_shards), failures_of(many_shards)
    doomed = gc(many_shards, older_than=0, dry_run=True).removed
    for name in np.random.default_rng(0).permutation(doomed).tolist():
        many_shards.disk.remove_folder(many_shards.path / "shards" / name)  # a gc killed after each
        assert paths_of(Store.open(many_shards.path)) == expected
        assert failures_of(many_shards) == failed
    assert len(doomed) >= 8 and shards_on_disk(many_shards) == 1


def test_shards_that_show_and_hide_nothing_are_collected_at_last(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a", b"b"))
        writer.commit(contents(shadows=(Shadow(first.id, "images", 0), Shadow(first.id, "images", 1))))
    assert paths_of(store) == []
    assert gc(store, older_than=0).removed == (first.id,)
    assert gc(store, older_than=0, dry_run=True).removed != ()
    gc(store, older_than=0)
    assert shards_on_disk(store) == 0 and paths_of(Store.open(store.path)) == []


def test_a_shard_hidden_row_by_row_is_kept_for_readers_as_a_replaced_one_is(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a"))
        writer.commit(contents(b"a", shadows=(Shadow(first.id, "images", 0),)))
    assert gc(store).young == 1
    assert gc(store, now=time.time() + 2 * WEEK).removed == (first.id,)
    assert paths_of(Store.open(store.path)) == ["a"]


def test_gc_sweeps_what_dead_writers_left_and_quarantine_only_when_asked(many_shards: Store) -> None:
    many_shards.disk.temporary(many_shards.path / "shards")
    many_shards.disk.temporary(many_shards.path / "latents" / "some" / "shards")
    (many_shards.path / "latents" / "some" / "lock").touch()
    victim = many_shards.snapshot().shards[2].path
    (victim / "features.h5").unlink()
    repair(many_shards, verify(many_shards.path))
    many_shards.disk.temporary(many_shards.path / "shards")
    assert gc(many_shards).swept == 2
    assert not list(many_shards.path.rglob(".tmp-*"))
    assert len(list((many_shards.path / "quarantine").iterdir())) == 1
    report = gc(many_shards, quarantine=True)
    assert report.quarantined == 1 and report.freed > 0
    assert list((many_shards.path / "quarantine").iterdir()) == []


def test_compact_and_gc_wait_for_nobody(many_shards: Store) -> None:
    with many_shards.writer():
        with pytest.raises(StoreLockedError):
            compact(many_shards)
        with pytest.raises(StoreLockedError):
            gc(many_shards)


@pytest.fixture
def hollow_store(tmp_path: Path) -> Store:
    """A shard of which every row is hidden by the next one."""
    store = new_store(tmp_path / "feats")
    with store.writer() as writer:
        first = writer.commit(contents(b"a", b"b", failed=(b"c",)))
        hide = [Shadow(first.id, "images", 0), Shadow(first.id, "images", 1), Shadow(first.id, "failures", 0)]
        writer.commit(contents(b"z", shadows=tuple(hide)))
    return store


def test_a_shard_without_a_visible_row_joins_its_neighbours(hollow_store: Store) -> None:
    assert compact(hollow_store, rows=100).shards_after == 1
    gc(hollow_store, older_than=0)
    assert paths_of(Store.open(hollow_store.path)) == ["z"] and failures_of(hollow_store) == []
