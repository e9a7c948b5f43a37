"""Builders and a committer put together otherwise than ingest does: as a cluster will."""

from __future__ import annotations

import os
import pickle
import shutil
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.corpus import Segment, plan_segments
from pfgdata.ingest import IngestOptions, IngestReport, ingest
from pfgdata.ingest.builder import filled
from pfgdata.ingest.committer import Committer
from pfgdata.ingest.outcomes import KnownContents, Scored
from pfgdata.ingest.plan import Planning, plan_batches
from pfgdata.ingest.prepare import PixelWork, Preparer
from pfgdata.ingest.run import builders
from pfgdata.ingest.stages import Stages
from pfgdata.ingest.tasks import Plan
from pfgdata.records import NoProgress
from pfgdata.store import Store, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

OPTIONS = IngestOptions(batch_size=4, threads=2)


def at_a_worker(job: bytes) -> bytes:
    """What a worker makes of its part of a plan; it reads the store by itself and writes nothing."""
    path, segments, plan = pickle.loads(job)
    store, tagger = Store.open(path), CheapTagger()
    known = KnownContents(store.snapshot())
    preparer = Preparer(segments, known, PixelWork.of(tagger, OPTIONS), OPTIONS)
    builder = builders(store, tagger, known, options=OPTIONS)()
    with closing(Stages(plan, preparer, tagger, known, batch_size=4, threads=2)) as stages:
        for batch in stages:
            builder.add(batch)
    assert stages.error is None
    return pickle.dumps(builder.build())


def ingest_by_workers(store: Store, segments: list[Segment], *, cut: int) -> IngestReport:
    """As `ingest` does, but that the tasks before and from `cut` on are built elsewhere and come back."""
    report = IngestReport()
    with store.writer() as writer:
        committer = Committer(writer, KnownContents(store.snapshot()), report)
        planning = Planning(OPTIONS, report, [])
        plan = Plan(plan_batches(segments, store.snapshot(), planning, progress=NoProgress()))
        with closing(committer):
            built = [
                at_a_worker(pickle.dumps((store.path, segments, part))) for part in (plan[:cut], plan[cut:])
            ]
            for one in built:
                committer.commit(partial(pickle.loads, one))
            committer.settle()
    return report


def content(store: Store) -> tuple[list[tuple[Any, ...]], Any, list[dict[str, Any]]]:
    """Every visible row as its place and its values, the features, and the failures; in the stable order."""
    snapshot = store.snapshot()
    rows = snapshot.images().drop_columns(["shard", "row"]).to_pylist()
    order = sorted(range(len(rows)), key=lambda at: rows[at]["path"])
    features = snapshot.features(snapshot.everything).astype(np.float32)[order]
    failures = snapshot.failures().drop_columns(["shard", "row"]).to_pylist()
    return [tuple(map(str, rows[at].values())) for at in order], features, failures


@pytest.fixture
def changed_corpus(tmp_path: Path) -> Path:
    """A corpus with a store `feats` beside it, in which much has happened since."""
    folder = tmp_path / "images"
    make_images(folder, 30)
    (folder / "0009.png").write_bytes(b"no image")
    ingest(plan_segments([folder], {}), new_store(tmp_path / "feats"), CheapTagger(), options=OPTIONS)
    make_images(folder / "new", 25, seed=3)
    shutil.copy(folder / "0003.png", folder / "0000-copy.png")  # of a row that the store has
    shutil.copy(folder / "new" / "0001.png", folder / "new" / "0002-copy.png")  # of one of the same slice
    shutil.copy(folder / "new" / "0002.png", folder / "new" / "9999.png")  # of one of the other slice
    shutil.copy(folder / "new" / "0005.png", folder / "0009.png")  # no longer a failure
    (folder / "0011.png").write_bytes(b"no longer an image")
    os.utime(folder / "0012.png", ns=(1, 1))
    (folder / "0013.png").rename(folder / "new" / "moved.png")
    return folder


def test_two_builders_over_slices_of_a_plan_and_one_committer_give_the_store_that_ingest_gives(
    changed_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "feats", tmp_path / "by_workers")
    plain, other = Store.open(tmp_path / "feats"), Store.open(tmp_path / "by_workers")
    segments = plan_segments([changed_corpus], plain.roots())
    expected = ingest(segments, plain, CheapTagger(), options=OPTIONS)
    report = ingest_by_workers(other, segments, cut=17)
    rows, features, failures = content(plain)
    their_rows, their_features, their_failures = content(other)
    assert len(rows) == 58 and their_rows == rows and their_failures == failures
    np.testing.assert_allclose(their_features, features, atol=1e-6)
    assert verify(other.path, deep=True) == [] and report.pending == 0
    assert (report.found, report.failed, report.unchanged) == (expected.found, 1, expected.unchanged)
    twice = report.tagged - expected.tagged  # what stands in both slices is tagged in both
    assert (twice, report.copied) == (1, expected.copied - 1)
    assert ingest(segments, other, CheapTagger(), options=OPTIONS).unchanged == 57


def test_builders_are_full_at_so_many_rows_or_at_an_age_by_the_clock_that_is_passed_in(
    tmp_path: Path,
) -> None:
    store, now = new_store(tmp_path / "feats"), [0.0]
    begin = builders(store, CheapTagger(), KnownContents(store.snapshot()), options=OPTIONS)

    def batches() -> Any:
        for _ in range(3):
            now[0] += 100
            yield Scored([], np.zeros((0, 15), np.float32), np.zeros((0, 768), np.float32), {"read": 1.0})

    (only,) = filled(batches(), begin, rows=1, seconds=1, clock=lambda: now[0])
    built = only.build()
    assert built.is_empty and (built.seconds["total"], built.seconds["read"]) == (300, 3)
