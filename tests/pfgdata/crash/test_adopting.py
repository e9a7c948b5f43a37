"""Parts and their adoption, cut anywhere or mixed with everything else: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pfgdata.corpus import plan_segments
from pfgdata.files import CrashPoint, Disk
from pfgdata.ingest import (
    IngestJob,
    PartWork,
    PlanOut,
    RangePlan,
    Share,
    adopt,
    ingest,
    make_parts,
    prune,
    write_plan,
)
from pfgdata.store import Part, PartWriter, ShardContents, Store, compact, gc, list_parts, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.crash.life import NO_IMAGE, OPTIONS, Seen, require_equal, see
from tests.pfgdata.crash.power import PowerCutDisk, cut_everywhere

JOB = IngestJob(batch_size=4, threads=2)


def plan_of(store: Store, images: Path, folder: Path, *, rows: int = 5) -> RangePlan:
    """A plan of what is to do below `images`."""
    segments = plan_segments([images], store.roots())
    plan, _ = write_plan(segments, store, JOB, out=PlanOut(folder=folder, rows=rows))
    assert plan is not None
    return plan


def whole(images: Path, path: Path) -> Store:
    """What one ingest makes of `images`."""
    store = new_store(path)
    ingest(plan_segments([images], {}), store, CheapTagger(), options=OPTIONS)
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A disk: a store of 8 images in `feats`, parts of what has changed in it since; the corpus beside it."""
    images = tmp_path / "images"
    paths = make_images(images, 8)
    (tmp_path / "disk").mkdir()
    store = whole(images, tmp_path / "disk" / "feats")
    shutil.copy2(make_images(tmp_path / "fresh", 1, seed=9)[0], paths[1])
    os.utime(paths[2], ns=(10**18, 10**18))
    paths[3].write_bytes(NO_IMAGE)
    make_images(images / "more", 6, seed=3)
    plan = plan_of(store, images, tmp_path / "plan")
    make_parts(PartWork(plan=plan, share=Share(), folder=store.parts), CheapTagger(), options=OPTIONS)
    return tmp_path / "disk"


@pytest.mark.crash
def test_an_adoption_cut_anywhere_is_completed_by_the_next_and_adds_nothing_twice(
    root: Path, tmp_path: Path
) -> None:
    expected = see(whole(tmp_path / "images", tmp_path / "one"))
    before = see(Store.open(root / "feats"))
    completed = set[tuple[CrashPoint, int, int]]()

    def check(copy: Path, point: CrashPoint) -> None:
        store = Store.open(copy / "feats")
        assert verify(store.path, deep=True) == []
        now = see(store)
        assert all(row in (before.rows.get(path), expected.rows.get(path)) for path, row in now.rows.items())
        found = (point, len(store.snapshot().present), len(list_parts(store.disk, store.parts)))
        if found in completed:  # once behind each step, and for each number of shards and parts found there
            return
        completed.add(found)
        report = adopt(store)
        assert report.refused == [] and report.pending == 0
        require_equal(see(store), expected)
        assert verify(store.path, deep=True) == [] and list_parts(store.disk, store.parts) == []

    def work(disk: Disk) -> None:
        adopt(Store.open(root / "feats", disk=disk))

    assert cut_everywhere(root, tmp_path / "cut", work, check) > 40


def test_a_part_cut_anywhere_is_whole_or_not_there(root: Path, tmp_path: Path) -> None:
    paths = list_parts(Disk(), root / "feats" / "parts")
    part = Part.read(Disk(), paths[0])
    kept = shutil.copytree(part.path, tmp_path / "kept" / part.path.name)
    part = replace(part, path=kept)
    shutil.rmtree(paths[0])
    store = Store.open(root / "feats")
    contents = ShardContents(
        images=part.images(store.snapshot().images().drop_columns(["shard", "row"]).column_names),
        features=part.features(),
        failures=part.failures(),
    )
    facts = {"unchanged": part.unchanged, "failed": part.failed, "plan": part.plan}

    def write(folder: Path, disk: Disk) -> None:
        PartWriter(folder, part.identity, disk=disk).write(
            part.span, contents, planned=part.planned(), facts=facts
        )

    def check(copy: Path, point: CrashPoint) -> None:
        folder = copy / "feats" / "parts"
        for path in list_parts(Disk(), folder):
            Part.read(Disk(), path).require_whole()
        write(folder, Disk())
        assert len(list_parts(Disk(), folder)) == len(paths)
        assert adopt(Store.open(copy / "feats")).pending == 0

    def work(disk: Disk) -> None:
        write(root / "feats" / "parts", disk)

    assert cut_everywhere(root, tmp_path / "cut", work, check) > 10


def test_what_an_adoption_has_told_is_durable_when_it_returns(root: Path) -> None:
    disk = PowerCutDisk(root)
    report = adopt(Store.open(root / "feats", disk=disk))
    uncertain = disk.uncertain()
    disk.close()
    assert report.tagged + report.copied == 8 and not uncertain


class _Mixed:
    """A corpus and its store, to which anything may happen."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place, self.chance, self.number = place, chance, 0
        self.images = place / "images"
        make_images(self.images, 8, seed=chance.randrange(1000))
        self.store = new_store(place / "feats")
        self.plans: list[RangePlan] = []

    def change(self) -> None:
        """A file is new, other, touched, broken or gone."""
        paths = sorted(self.images.glob("*.png"))
        self.number += 1
        path = self.chance.choice(paths)
        match self.chance.randrange(5):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(NO_IMAGE + b"%d" % self.number)
            case 2:
                os.utime(path, ns=(10**18 + self.number, 10**18 + self.number))
            case _:
                (fresh,) = make_images(self.place / f"fresh{self.number}", 1, seed=self.number)
                other = self.images / f"n{self.number}.png"
                shutil.copy2(fresh, self.chance.choice([path, other]))

    def plan(self) -> None:
        """Plan what there is to do."""
        self.number += 1
        self.plans.append(
            plan_of(
                self.store, self.images, self.place / f"plan{self.number}", rows=self.chance.choice([2, 4])
            )
        )

    def make(self) -> None:
        """Make some parts of a plan, maybe an old one; the store may be out of sight."""
        if self.plans:
            share = Share(self.chance.choice([1, 2]), 2)
            plan, store = self.chance.choice(self.plans), self.chance.choice([None, self.store])
            work = PartWork(plan=plan, share=share, folder=self.store.parts, store=store)
            make_parts(work, CheapTagger(), options=OPTIONS)

    def adopt(self) -> None:
        """Adopt, and the report adds up."""
        report = adopt(self.store, shard_rows=self.chance.choice([3, 100]))
        assert report.refused == [] and report.pending >= 0

    def ingest(self) -> None:
        """Ingest as ever."""
        segments = plan_segments([self.images], self.store.roots())
        ingest(segments, self.store, CheapTagger(), options=OPTIONS)

    def upkeep(self) -> None:
        """Compact, gc or prune."""
        match self.chance.randrange(3):
            case 0:
                compact(self.store, rows=20)
            case 1:
                gc(self.store, older_than=0.0 if self.chance.random() < 0.3 else 3600.0)
            case _ if self.store.roots():
                prune(self.store, yes=True)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.crash) for seed in range(4, 12))]
)
def test_parts_mixed_with_changes_ingests_and_upkeep_end_as_one_ingest_would(
    seed: int, tmp_path: Path
) -> None:
    mixed = _Mixed(tmp_path, random.Random(seed))
    steps = [mixed.change, mixed.change, mixed.plan, mixed.make, mixed.make, mixed.adopt]
    for _ in range(25):
        mixed.chance.choice([*steps, mixed.ingest, mixed.upkeep])()
        see(mixed.store)  # no path twice
    assert verify(mixed.store.path, deep=True) == []
    mixed.ingest()
    mixed.adopt()  # whatever is late
    require_equal(without_gone(mixed), see(whole(mixed.images, tmp_path / "one")))


def without_gone(mixed: _Mixed) -> Seen:
    """What is visible once the rows of files that are gone are pruned."""
    prune(mixed.store, yes=True)
    return see(mixed.store)
