"""A power cut behind every step of a store's life: what was acknowledged is there, the rest is done once."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from pfgdata.files import CrashPoint, Disk
from pfgdata.store import Store, verify
from tests.pfgdata.crash.life import Corpora, Seen, live, make_corpora, open_or_make, require_equal, see
from tests.pfgdata.crash.power import PowerCutDisk, State, write_state

IMAGES = 12  # each step has up to nine states, and each is opened
LIVED_ON = 20  # of so many distinct states one is lived on to the end, beside the first behind each point


class CutLife(PowerCutDisk):
    """A power cut behind each step of a life under `root`, whose store is `root`/feats."""

    def __init__(self, root: Path, scratch: Path, corpora: Corpora) -> None:
        super().__init__(root, at=self._cut)
        self.scratch, self.corpora = scratch, corpora
        self.shards: dict[str, str] = {}  # acknowledged, and not since removed: name, digest of shard.json
        self.moments: list[Seen | None] = [None]  # what is seen after each acknowledged shard
        self.found: list[tuple[int, CrashPoint, Seen]] = []  # after which of them, where, and what
        self.lived_on: list[Seen] = []
        self._states: set[int] = set()
        self._points: set[CrashPoint] = set()
        self._chance = random.Random(11)

    def commit_folder(self, fresh: Path, final: Path) -> None:
        """Commit, and then hold the store to it, where it is a shard: an index in cache/ is no promise."""
        super().commit_folder(fresh, final)
        if final.parent.name != "shards":
            return
        self.shards[final.name] = blake3((final / "shard.json").read_bytes()).hexdigest()
        self.moments.append(see(Store.open(self.root / "feats")))

    def remove_folder(self, path: Path) -> None:
        """Remove, and not ask for it any more."""
        if path.parent.name == "shards":
            del self.shards[path.name]
        super().remove_folder(path)

    def _cut(self, point: CrashPoint) -> None:
        for state in self.states(self._chance):
            digest = hash(tuple(sorted(state.items())))
            if digest not in self._states:
                self._states.add(digest)
                self._check(point, state)

    def _check(self, point: CrashPoint, state: State) -> None:
        copy = self.scratch / str(len(self._states))
        write_state(state, copy)
        if (copy / "feats" / "store.json").exists():
            for shard, digest in self.shards.items():
                data = (copy / "feats" / "shards" / shard / "shard.json").read_bytes()
                assert blake3(data).hexdigest() == digest
            assert verify(copy / "feats", deep=True) == []
            self.found.append((len(self.moments) - 1, point, see(Store.open(copy / "feats"))))
        else:
            assert not self.shards
            open_or_make(copy / "feats", Disk())
        if point not in self._points or len(self._states) % LIVED_ON == 0:
            self._points.add(point)
            live(self.corpora, copy / "feats", Disk())
            self.lived_on.append(see(Store.open(copy / "feats")))
        shutil.rmtree(copy)


@pytest.mark.crash
def test_a_power_cut_behind_any_step_leaves_all_that_was_acknowledged_and_nothing_twice(
    tmp_path: Path,
) -> None:
    corpora = make_corpora(tmp_path, count=IMAGES)
    for folder in ("disk", "cut"):
        (tmp_path / folder).mkdir()
    disk = CutLife(tmp_path / "disk", tmp_path / "cut", corpora)
    try:
        live(corpora, tmp_path / "disk" / "feats", disk)
        assert not disk.uncertain()
    finally:
        disk.close()
    final = see(Store.open(tmp_path / "disk" / "feats"))
    for after, point, seen in disk.found:
        allowed = [moment.rows if moment else {} for moment in disk.moments[after : after + 2]]
        assert seen.rows in allowed, f"cut behind {point}, after {after} shards"
    for seen in disk.lived_on:
        require_equal(seen, final)
    assert len(disk.found) > 300 and len(disk.lived_on) > 30
