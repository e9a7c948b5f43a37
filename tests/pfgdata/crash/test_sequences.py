"""Any sequence of what is done to a corpus and to its store leaves what a plain dict says.

The machine changes a corpus of eight names, and after each step compares what readers see with the model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pfgdata.corpus import plan_segments
from pfgdata.files import ObjectDisk
from pfgdata.ingest import IngestOptions, ingest, prune
from pfgdata.records import content_id
from pfgdata.store import Problem, Store, compact, gc, repair, verify
from pfgdata.urls import UrlPath
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger, bucket_in_memory
from tests.pfgdata.crash.life import NO_IMAGE, see

OPTIONS = IngestOptions(batch_size=1, threads=1, shard_rows=6, shard_seconds=0)
NAMES = st.sampled_from([f"{letter}.png" for letter in "abcdefgh"])
CONTENTS = st.integers(0, 11)  # few, so that copies and returns are common too
KINDS = st.sampled_from(["write", "write", "write", "spoil", "touch", "move", "duplicate", "delete"])
CHANGES = st.lists(st.tuples(KINDS, NAMES, NAMES, CONTENTS), min_size=2, max_size=6)
DAY = 86_400.0
URL = UrlPath("s3://bucket/feats")

Change = tuple[str, str, str, int]  # what, to which, from or to which other, with which content
Stat = tuple[int, int]  # size, mtime_ns
SHORT = settings(max_examples=6, stateful_step_count=16)
MIDDLE = settings(max_examples=20, stateful_step_count=30)
LONG = settings(max_examples=80, stateful_step_count=40)


class Life(RuleBasedStateMachine):
    """A corpus, a store of it, and what the store should show."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp()).resolve()
        self.images = [path.read_bytes() for path in make_images(self.place / "contents", 12)]
        self.corpus = self.place / "images"
        self.corpus.mkdir()
        (self.corpus / "stays.png").write_bytes(self.images[0])  # prune takes an empty folder for a lost disk
        self.tagger = CheapTagger()
        self.store = self._make()
        self.rows: dict[str, tuple[bytes, Stat]] = {}
        self.failures: dict[str, Stat] = {}
        self.features: dict[bytes, npt.NDArray[np.float16]] = {}
        self.done = set[str]()  # since the last change: a second time it would do nothing
        self.clock = 10**18  # ns; every write has its own moment, as a stat that differs has to be seen

    @initialize()
    def begin(self) -> None:
        for number, name in enumerate("abcdefgh"):
            self._put(self.corpus / f"{name}.png", self.images[number])
        self.add()

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @rule(changes=CHANGES)
    def change_and_add(self, changes: list[Change]) -> None:
        self._change(changes)
        self.add()

    @rule(changes=CHANGES)
    def change_and_drop_gone(self, changes: list[Change]) -> None:
        self._change(changes)
        self.drop_gone()

    def add(self) -> None:
        known = {content for content, _ in self.rows.values()}
        report = ingest(
            plan_segments([self.corpus], self.store.roots()), self.store, self.tagger, options=OPTIONS
        )
        files = self._files()
        assert report.found == len(files)
        assert report.found == report.tagged + report.copied + report.unchanged + report.failed
        for name, (data, stat) in files.items():
            self.failures.pop(name, None)
            self.rows.pop(name, None)
            if data == NO_IMAGE:
                self.failures[name] = stat
            else:
                self.rows[name] = (content_id(data), stat)
        needed = {content_id(data) for data, _ in files.values() if data != NO_IMAGE}
        assert report.tagged == len(needed - known), "tagged twice, or not at all"

    def drop_gone(self) -> None:
        prune(self.store, yes=True)
        files = self._files()
        self.rows = {name: row for name, row in self.rows.items() if name in files}
        self.failures = {name: stat for name, stat in self.failures.items() if name in files}

    @rule(rows=st.sampled_from([3, 8, 100]))
    @precondition(lambda self: "merge" not in self.done)
    def merge(self, rows: int) -> None:
        self.done = {"merge"}
        compact(self.store, rows=rows)

    @rule(older_than=st.sampled_from([0.0, 0.0, 7 * DAY]))
    @precondition(lambda self: "collect" not in self.done)
    def collect(self, older_than: float) -> None:
        self.done.add("collect")
        gc(self.store, older_than=older_than)

    @rule(where=st.floats(0, 1, exclude_max=True), which=st.floats(0, 1, exclude_max=True))
    @precondition(lambda self: self.rows or self.failures)
    def damage_and_repair(self, where: float, which: float) -> None:
        """A flipped byte anywhere in a shard is found; repaired, ingested and pruned, all is well again."""
        files = self._shard_files()
        if not files:
            return
        self.done = set()
        path = files[int(which * len(files))]
        self._flip(path, where)
        problems = self._verify(deep=True)
        assert [problem.shard for problem in problems] == [path.parent]
        self.store = self._open()  # nothing cached from before
        repair(self.store, problems)
        assert self._verify(deep=True) == []
        seen = see(self.store)
        self.rows = {name: self._row_of(row) for name, row in seen.rows.items()}
        self.add()
        self.drop_gone()

    @rule()
    @precondition(lambda self: "reopen" not in self.done)
    def reopen(self) -> None:
        self.done.add("reopen")
        self.store = self._open()

    @invariant()
    def readers_see_what_the_model_says(self) -> None:
        seen = see(self.store)
        assert {name: self._row_of(row) for name, row in seen.rows.items()} == self.rows
        assert {name: (size, at) for name, (size, at, _) in seen.failures.items()} == self.failures
        for name, feature in seen.features.items():
            content = self.rows[name][0]
            np.testing.assert_allclose(feature, self.features.setdefault(content, feature), atol=1e-3)
        assert self._verify() == []

    def _make(self) -> Store:
        return new_store(self.place / "feats")

    def _open(self) -> Store:
        return Store.open(self.store.path)

    def _verify(self, *, deep: bool = False) -> list[Problem]:
        return verify(self.store.path, deep=deep)

    def _shard_files(self) -> list[Path]:
        return sorted((self.store.path / "shards").glob("0*/*"))

    def _flip(self, path: Path, where: float) -> None:
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 0x10
        path.write_bytes(data)

    def _change(self, changes: list[Change]) -> None:
        self.done = set()
        for kind, name, other, content in changes:
            path = self.corpus / name
            if kind == "write":
                self._put(path, self.images[content])
            elif kind == "spoil":
                self._put(path, NO_IMAGE)
            elif kind == "delete":
                path.unlink(missing_ok=True)
            elif path.exists() and kind == "touch":
                self._put(path, path.read_bytes())
            elif path.exists() and kind == "move":
                path.replace(self.corpus / other)
            elif path.exists() and name != other:
                shutil.copy2(path, self.corpus / other)

    def _put(self, path: Path, data: bytes) -> None:
        self.clock += 1000
        path.write_bytes(data)
        os.utime(path, ns=(self.clock, self.clock))

    def _files(self) -> dict[str, tuple[bytes, Stat]]:
        stats = {path: path.stat() for path in self.corpus.iterdir()}
        return {p.name: (p.read_bytes(), (s.st_size, s.st_mtime_ns)) for p, s in stats.items()}

    def _row_of(self, row: tuple[str, ...]) -> tuple[bytes, Stat]:
        return bytes.fromhex(row[0].replace("-", "")), (int(row[1]), int(row[2]))


class LifeInABucket(Life):
    """The same with the store in a bucket; who opens it anew has nothing of it yet."""

    def _make(self) -> Store:
        self.bucket, self.caches = bucket_in_memory(), 0
        return new_store(URL, disk=self._disk())

    def _disk(self) -> ObjectDisk:
        self.caches += 1
        return self.bucket(self.place / f"cache{self.caches}")

    def _open(self) -> Store:
        return Store.open(URL, disk=self._disk())

    def _verify(self, *, deep: bool = False) -> list[Problem]:
        return verify(URL, deep=deep, disk=self.store.disk)

    def _shard_files(self) -> list[Path]:
        place = self._disk().place
        return sorted(URL / one.key for one in place.list("shards"))

    def _flip(self, path: Path, where: float) -> None:
        place, key = self._disk().place, path.relative_to(URL).as_posix()
        data = bytearray(place.read(key))
        data[int(where * len(data))] ^= 0x10
        place.put(key, bytes(data))


def run(life: type[Life], size: settings) -> None:
    """As many sequences as `size` says, the same ones each time."""
    quiet = settings(
        size, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(life, settings=quiet)


def test_short_sequences_of_changes_and_upkeep_leave_what_a_dict_says() -> None:
    run(Life, SHORT)


def test_short_sequences_in_a_bucket_leave_what_a_dict_says() -> None:
    run(LifeInABucket, SHORT)


@pytest.mark.crash
def test_long_sequences_of_changes_and_upkeep_leave_what_a_dict_says() -> None:
    run(Life, LONG)


@pytest.mark.crash
def test_long_sequences_in_a_bucket_leave_what_a_dict_says() -> None:
    run(LifeInABucket, MIDDLE)
