"""Any sequence of what is done to a corpus and to its store leaves what a plain dict says.

The machine changes a corpus of six names, and after each step compares what readers see with the model.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest, prune
from pfgdata.records import content_id
from pfgdata.store import Store, compact, gc, repair, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.crash.life import NO_IMAGE, see

OPTIONS = IngestOptions(batch_size=2, threads=1, shard_rows=4, shard_seconds=0)
NAMES = st.sampled_from([f"{letter}.png" for letter in "abcdef"])
CONTENTS = st.integers(0, 3)  # few, so that copies and returns are common; one more of them is no image
DAY = 86_400.0

Stat = tuple[int, int]  # size, mtime_ns
SHORT = settings(max_examples=8, stateful_step_count=16)
LONG = settings(max_examples=120, stateful_step_count=40)


class Life(RuleBasedStateMachine):
    """A corpus, a store of it, and what the store should show."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp()).resolve()
        self.images = [path.read_bytes() for path in make_images(self.place / "contents", 4)]
        self.corpus = self.place / "images"
        self.corpus.mkdir()
        (self.corpus / "stays.png").write_bytes(self.images[0])  # prune takes an empty folder for a lost disk
        self.tagger = CheapTagger()
        self.store = new_store(self.place / "feats")
        self.rows: dict[str, tuple[bytes, Stat]] = {}
        self.failures: dict[str, Stat] = {}
        self.features: dict[bytes, npt.NDArray[np.float16]] = {}
        self.clock = 10**18  # ns; every write has its own moment, as a stat that differs has to be seen

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: int) -> None:
        self._put(name, self.images[content])

    @rule(name=NAMES)
    def spoil(self, name: str) -> None:
        self._put(name, NO_IMAGE)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if (self.corpus / name).exists():
            self._put(name, (self.corpus / name).read_bytes())

    @rule(name=NAMES, other=NAMES)
    def move(self, name: str, other: str) -> None:
        if (self.corpus / name).exists():
            (self.corpus / name).replace(self.corpus / other)

    @rule(name=NAMES, other=NAMES)
    def duplicate(self, name: str, other: str) -> None:
        if (self.corpus / name).exists() and name != other:
            shutil.copy2(self.corpus / name, self.corpus / other)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.corpus / name).unlink(missing_ok=True)

    @rule()
    def add(self) -> None:
        known = {content for content, _ in self.rows.values()}
        report = ingest(
            plan_segments(self.corpus, self.store.roots()), self.store, self.tagger, options=OPTIONS
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

    @rule()
    def drop_gone(self) -> None:
        prune(self.store, yes=True)
        files = self._files()
        self.rows = {name: row for name, row in self.rows.items() if name in files}
        self.failures = {name: stat for name, stat in self.failures.items() if name in files}

    @rule(rows=st.sampled_from([3, 6, 100]))
    def merge(self, rows: int) -> None:
        compact(self.store, rows=rows)

    @rule(older_than=st.sampled_from([0.0, 7 * DAY]))
    def collect(self, older_than: float) -> None:
        gc(self.store, older_than=older_than)

    @rule(where=st.floats(0, 1, exclude_max=True), which=st.floats(0, 1, exclude_max=True))
    @precondition(lambda self: self.rows or self.failures)
    def damage_and_repair(self, where: float, which: float) -> None:
        """A flipped byte anywhere in a shard is found; repaired, ingested and pruned, all is well again."""
        files = sorted((self.store.path / "shards").glob("0*/*"))
        if not files:
            return
        path = files[int(which * len(files))]
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 0x10
        path.write_bytes(data)
        problems = verify(self.store.path, deep=True)
        assert [problem.shard for problem in problems] == [path.parent]
        self.store = Store.open(self.store.path)  # nothing cached from before
        repair(self.store, problems)
        assert verify(self.store.path, deep=True) == []
        seen = see(self.store)
        self.rows = {name: self._row_of(row) for name, row in seen.rows.items()}
        self.add()
        self.drop_gone()

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.store.path)

    @invariant()
    def readers_see_what_the_model_says(self) -> None:
        seen = see(self.store)
        assert {name: self._row_of(row) for name, row in seen.rows.items()} == self.rows
        assert {name: (size, at) for name, (size, at, _) in seen.failures.items()} == self.failures
        for name, feature in seen.features.items():
            content = self.rows[name][0]
            np.testing.assert_allclose(feature, self.features.setdefault(content, feature), atol=1e-3)
        assert verify(self.store.path) == []

    def _put(self, name: str, data: bytes) -> None:
        self.clock += 1000
        (self.corpus / name).write_bytes(data)
        os.utime(self.corpus / name, ns=(self.clock, self.clock))

    def _files(self) -> dict[str, tuple[bytes, Stat]]:
        stats = {path: path.stat() for path in self.corpus.iterdir()}
        return {p.name: (p.read_bytes(), (s.st_size, s.st_mtime_ns)) for p, s in stats.items()}

    def _row_of(self, row: tuple[str, ...]) -> tuple[bytes, Stat]:
        return bytes.fromhex(row[0].replace("-", "")), (int(row[1]), int(row[2]))


def run(size: settings) -> None:
    """As many sequences as `size` says, the same ones each time."""
    quiet = settings(
        size, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Life, settings=quiet)


def test_short_sequences_of_changes_and_upkeep_leave_what_a_dict_says() -> None:
    run(SHORT)


@pytest.mark.crash
def test_long_sequences_of_changes_and_upkeep_leave_what_a_dict_says() -> None:
    run(LONG)
