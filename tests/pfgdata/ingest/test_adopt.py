"""Parts made anywhere and adopted are what one ingest makes; adopting is exact, whatever came meanwhile."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import ConfigError, IdentityError, StoreError
from pfgdata.ingest import (
    AdoptReport,
    IngestJob,
    IngestOptions,
    IngestReport,
    PartWork,
    PlanOut,
    RangePlan,
    Share,
    adopt,
    ingest,
    make_parts,
    plan_adoption,
    plan_parts,
    write_failed,
    write_plan,
)
from pfgdata.ingest.ranges import cut, plan_bytes, plan_from
from pfgdata.ingest.tasks import Plan
from pfgdata.store import PartWriter, Span, Store, gc, list_parts, verify
from pfgdata.urls import UrlPath
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger, Watched, bucket_in_memory
from tests.pfgdata.crash.life import IDENTITY, Seen, require_equal

OPTIONS = IngestOptions(batch_size=4, threads=2)
JOB = IngestJob(batch_size=4, threads=2, archives=True)


def planned(store: Store, images: Path, folder: Path, *, rows: int = 8, job: IngestJob = JOB) -> RangePlan:
    """A plan of what is to do below `images`."""
    segments = plan_segments([images], store.roots(), options=job.walk)
    plan, report = write_plan(segments, store, job, out=PlanOut(folder=folder, rows=rows))
    assert plan is not None and sum(plan.rows) == report.pending
    return plan


def made(
    plan: RangePlan,
    *,
    shares: Sequence[tuple[int, int]] = ((1, 1),),
    folder: Path | None = None,
    store: Store | None = None,
    options: IngestOptions = OPTIONS,
) -> list[IngestReport]:
    """Do the shares; parts go to the plan's store, or to `folder`."""
    works = [
        PartWork(plan=plan, share=Share(*share), folder=folder or plan.store / "parts", store=store)
        for share in shares
    ]
    return [make_parts(work, CheapTagger(), options=options) for work in works]


def test_parts_go_into_a_store_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bucket, url = bucket_in_memory(), UrlPath("s3://bucket/feats")
    far, near = new_store(url, disk=bucket(tmp_path / "driver")), new_store(tmp_path / "near")
    images = make_images(tmp_path / "images", 30)[0].parent
    ingest(plan_segments([images], {}), near, CheapTagger(), options=OPTIONS)
    plan = planned(far, images, tmp_path / "plan")
    assert plan.store == url
    seen = Store.open(url, disk=bucket(tmp_path / "worker"))
    made(plan, folder=seen.parts, store=seen, shares=((1, 2),))
    again = PartWork(plan=plan, share=Share(1, 2), folder=seen.parts, store=seen)
    assert plan_parts(again).pending == 0, "what lies there is seen"
    made(plan, folder=seen.parts, store=seen, shares=((2, 2),))
    span, tasks = Span(plan.id, 0, 0, 1), plan.read(0)[0:1]
    writer, words = PartWriter(far.parts, plan.identity, disk=far.disk), far.vocabulary
    far.disk.remove_folder(far.parts / span.name)
    write_failed(plan, span, tasks, into=writer, vocabulary=words, reason="kills")
    assert adopted(far).failed == 1
    assert far.snapshot().images().num_rows + 8 == near.snapshot().images().num_rows == 30
    assert not (tmp_path / "s3:").exists()


def adopted(store: Store, *folders: Path) -> AdoptReport:
    """Adopt; the report adds up, and nothing is refused."""
    report = adopt(store, folders)
    assert report.refused == [] and report.pending >= 0
    return report


def ingested(images: Path, path: Path, *, job: IngestJob = JOB) -> Store:
    """What one ingest makes of `images`."""
    store = new_store(path)
    ingest(plan_segments([images], {}, options=job.walk), store, CheapTagger(), options=job)
    return store


def see(store: Store) -> Seen:
    """All that is visible, by path and member; one twice fails."""
    snapshot = store.snapshot()
    rows, failures = snapshot.images().to_pylist(), snapshot.failures().to_pylist()
    names = [f"{row['path']}!{row['member']}" for row in rows]
    features = snapshot.features(snapshot.everything)
    assert len(set(names)) == len(names) and len({row["path"] for row in failures}) == len(failures)
    scores = np.zeros((len(rows), len(store.vocabulary.names)), np.float32)
    for at, row in enumerate(rows):
        scores[at, row["tag_ids"]] = row["tag_scores"]
    return Seen(
        {name: tuple(str(row[one]) for one in IDENTITY) for name, row in zip(names, rows, strict=True)},
        dict(zip(names, scores, strict=True)),
        dict(zip(names, features, strict=True)),
        {row["path"]: (row["size"], row["mtime_ns"], row["kind"]) for row in failures},
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """30 images, a copy of one, two that are broken, and an archive of 12."""
    folder = (tmp_path / "images").resolve()
    paths = make_images(folder, 30)
    shutil.copy2(paths[0], folder / "twin.png")
    for name in ("broken.png", "zz.png"):
        (folder / name).write_bytes(b"this is no image")
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        for path in make_images(tmp_path / "packed", 12, seed=5):
            archive.write(path, path.name)
    return folder


def test_parts_of_two_workers_make_the_store_that_one_ingest_makes(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    one, two = made(plan, shares=[(1, 2), (2, 2)])
    assert one.pending == two.pending == 0 and one.found + two.found == 45
    report = adopted(store)
    assert (report.found, report.failed, report.pending) == (45, 2, 0)
    assert report.tagged + report.copied == 43 and report.unchanged == 0
    assert [Path(one.file).name for one in report.failures] == ["broken.png", "zz.png"]
    require_equal(see(store), see(ingested(images, tmp_path / "one")))
    assert verify(store.path, deep=True) == [] and list_parts(store.disk, store.parts) == []
    again = ingest(
        plan_segments([images], store.roots(), options=JOB.walk), store, CheapTagger(), options=JOB
    )
    assert (again.unchanged, again.tagged, again.failed) == (43, 0, 2)


def test_an_archive_is_one_range_and_files_are_cut_by_count(images: Path, tmp_path: Path) -> None:
    plan = planned(new_store(tmp_path / "feats"), images, tmp_path / "plan", rows=10)
    assert sum(plan.rows) == 45 and 12 in plan.rows
    for number, rows in enumerate(plan.rows):
        tasks = list(plan.read(number))
        assert len(tasks) == rows
        assert {task.found.key.path for task in tasks if task.found.key.member} <= {b"m.zip"}
        assert rows <= 10 or all(task.found.key.member for task in tasks)


def test_only_a_very_long_archive_is_cut(images: Path, tmp_path: Path) -> None:
    plan = planned(new_store(tmp_path / "feats"), images, tmp_path / "plan", rows=100)
    (whole,) = (plan.read(number) for number in range(len(plan.rows)))
    assert plan_from(plan_bytes(whole)).as_batch() == whole.as_batch()
    assert [len(part) for part in cut(whole, rows=100)] == [45]
    members = whole[31:43]
    assert all(task.found.key.member for task in members)
    short = [len(part) for part in cut(members, rows=1)]
    assert short == [12]  # up to 16 times as long
    twice = Plan()
    for _ in range(2):
        twice.add(members.as_batch())
    assert [len(part) for part in cut(twice, rows=1)] == [16, 8]
    assert list(cut(Plan(), rows=5)) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_that_comes_in_pieces_is_cut_as_one_that_is_whole(seed: int) -> None:
    chance = np.random.default_rng(seed)
    whole = Plan()
    for number in range(60):
        members = int(chance.integers(1, 90)) if chance.random() < 0.1 else 0
        file = {"segment": 0, "root": "/r", "path": b"%04d" % number}
        unit = [{**file, "member": b"%04d" % one} for one in range(members)] or [file]
        whole.add(pa.RecordBatch.from_pylist(unit, schema=Plan.SCHEMA))
    at, pieces = 0, []
    while at < len(whole):
        size = int(chance.integers(1, 50))
        pieces.append(whole[at : at + size].as_batch())
        at += size
    rows = int(chance.integers(1, 20))
    parts = [list(part) for part in cut([whole.as_batch()], rows=rows)]
    assert [list(part) for part in cut(iter(pieces), rows=rows)] == parts
    assert [task for part in parts for task in part] == list(whole)
    for part in parts:  # as long as can be without cutting an archive, and only such are longer
        assert len(part) <= rows or len({task.found.key.path for task in part}) == 1
        assert len(part) <= 16 * rows


def test_a_plan_whose_walk_is_stopped_leaves_nothing_behind(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(5000):
        (many / f"{number:04}.png").touch()
    segments, out = plan_segments([many], {}), PlanOut(folder=tmp_path / "plan", rows=100)
    plan, report = write_plan(segments, store, JOB, out=out, stop=lambda: True)
    assert plan is None and report.interrupted and report.found == 4096
    assert not (tmp_path / "plan").exists()
    assert sum(planned(store, images, tmp_path / "plan").rows) == 45


def test_a_range_that_is_done_is_skipped_and_a_stop_costs_the_open_batch(
    images: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan", rows=20)
    asked = iter([False, False, False, True])
    work = PartWork(plan=plan, share=Share(), folder=store.parts)
    report = make_parts(work, CheapTagger(), options=OPTIONS, stop=lambda: next(asked, True))
    assert report.interrupted and 0 < report.pending < 45
    assert plan_parts(work).pending == report.pending
    partly = adopted(store)
    assert partly.pending == report.pending and partly.tagged == report.tagged
    work = replace(work, store=store)  # which knows what it has adopted
    rest = make_parts(work, CheapTagger(), options=OPTIONS)
    assert (rest.found, rest.unchanged, rest.pending) == (45, 45 - report.pending, 0)
    done = make_parts(work, CheapTagger(), options=OPTIONS)
    assert (done.found, done.unchanged, done.tagged) == (45, 45, 0)
    whole = adopted(store)
    assert whole.found == 45 and whole.pending == 0 and whole.failed == 2
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_a_copy_of_an_image_of_an_earlier_part_of_the_range_is_no_second_inference(
    images: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan", rows=100)
    (report,) = made(plan, options=replace(OPTIONS, shard_rows=5))
    assert (report.tagged, report.copied) == (42, 1)
    assert len(list_parts(store.disk, store.parts)) > 5
    assert adopted(store).copied == 1
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_what_the_store_has_is_copied_where_it_can_be_read(images: Path, tmp_path: Path) -> None:
    store = ingested(images, tmp_path / "feats")
    for path in images.glob("000*.png"):
        os.utime(path, ns=(10**18, 10**18))
    plan = planned(store, images, tmp_path / "plan")
    near, far = tmp_path / "near", tmp_path / "far"
    (with_store,) = made(plan, folder=near, store=store)
    assert (with_store.copied, with_store.tagged) == (10, 0)
    (without,) = made(plan, folder=far)
    assert (without.copied, without.tagged) == (0, 10)
    report = adopted(store, near)
    assert (report.copied, report.tagged, report.unchanged, report.failed) == (10, 0, 33, 2)
    late = adopted(store, far)
    assert (late.copied, late.tagged, late.unchanged, late.again) == (0, 0, 43, late.parts)
    assert see(store).rows.keys() == see(ingested(images, tmp_path / "one")).rows.keys()


def test_adopting_a_part_twice_adds_nothing_even_after_compact_and_gc(images: Path, tmp_path: Path) -> None:
    store, place = new_store(tmp_path / "feats"), tmp_path / "share"
    plan = planned(store, images, tmp_path / "plan")
    made(plan, folder=place)
    assert adopted(store, place).pending == 0
    before = see(store)
    gc(store, older_than=0.0)  # with the records of what was adopted
    assert not any(store.parts.iterdir())
    shards = len(store.snapshot().present)
    report = adopted(store, place)
    assert (report.tagged, report.copied, report.unchanged, report.failed) == (0, 0, 43, 2)
    assert report.again == report.parts and len(store.snapshot().present) == shards
    require_equal(see(store), before)


def test_changed_touched_mended_and_broken_files_hide_what_they_were(images: Path, tmp_path: Path) -> None:
    store = ingested(images, tmp_path / "feats")
    fresh = make_images(tmp_path / "fresh", 4, seed=9)
    shutil.copy2(fresh[0], images / "0003.png")
    shutil.copy2(fresh[1], images / "broken.png")
    (images / "0004.png").write_bytes(b"no image any more")
    os.utime(images / "0005.png", ns=(10**18, 10**18))
    made(planned(store, images, tmp_path / "plan"), store=store)
    report = adopted(store)
    assert (report.tagged, report.copied, report.failed, report.pending) == (2, 1, 2, 0)
    require_equal(see(store), see(ingested(images, tmp_path / "one")))
    assert verify(store.path, deep=True) == []


def test_a_late_part_does_not_undo_what_was_ingested_since_it_was_planned(
    images: Path, tmp_path: Path
) -> None:
    store = ingested(images, tmp_path / "feats")
    first, second = make_images(tmp_path / "fresh", 2, seed=9)
    shutil.copy2(first, images / "0003.png")
    plan = planned(store, images, tmp_path / "plan")
    made(plan)
    shutil.copy2(second, images / "0003.png")
    os.utime(images / "0003.png", ns=(10**18, 10**18))
    ingest(plan_segments([images], store.roots(), options=JOB.walk), store, CheapTagger(), options=JOB)
    now = see(store)
    report = adopted(store)
    assert (report.tagged, report.again) == (0, 1)
    require_equal(see(store), now)


def test_a_part_of_which_some_is_there_brings_the_rest(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan", rows=100)
    made(plan)
    few = tmp_path / "few.txt"
    few.write_text("\n".join(str(images / f"{number:04}.png") for number in (2, 7, 11)))
    ingest(plan_segments([few], store.roots()), store, CheapTagger(), options=OPTIONS)
    report = adopted(store)
    assert (report.found, report.tagged + report.copied, report.unchanged, report.failed) == (45, 40, 3, 2)
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_a_damaged_part_is_refused_by_name_and_made_again(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    made(plan)
    parts = list_parts(store.disk, store.parts)
    for path, name in ((parts[0], "features.h5"), (parts[1], "images.parquet"), (parts[2], "shard.json")):
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)
    report = adopt(store)
    assert {Path(part).name for part, _ in report.refused} == {path.name for path in parts[:3]}
    assert all("make it again" in why and part in why for part, why in report.refused)
    assert report.pending == sum(plan.rows[:3]) and len(list_parts(store.disk, store.parts)) == 3
    said = Watched()
    work = PartWork(plan=plan, share=Share(), folder=store.parts, store=store)
    again = make_parts(work, CheapTagger(), options=OPTIONS, progress=said)
    assert sum(line.startswith("done again: ") for line in said.said) == 3
    assert again.unchanged == 45 - sum(plan.rows[:3])
    assert adopted(store).pending == 0
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_parts_and_workers_of_another_tagger_precision_or_plan_are_refused(
    images: Path, tmp_path: Path
) -> None:
    store, place = new_store(tmp_path / "feats"), tmp_path / "share"
    plan = planned(store, images, tmp_path / "plan")
    work = PartWork(plan=plan, share=Share(), folder=place)
    with pytest.raises(IdentityError, match="preprocessing"):
        make_parts(work, CheapTagger(preprocess="webui"), options=OPTIONS)
    half = CheapTagger()
    half.precision = "float16"
    with pytest.raises(ConfigError, match="precision float32, this is float16"):
        make_parts(work, half, options=OPTIONS)
    with pytest.raises(ConfigError, match="use the same on every machine"):
        make_parts(replace(work, plan=replace(plan, version="0.0")), CheapTagger(), options=OPTIONS)
    assert not place.exists()
    made(plan, folder=place)
    other = new_store(tmp_path / "other", CheapTagger(preprocess="webui"))
    report = adopt(other, [place])
    assert len(report.refused) == len(plan.rows) and "preprocessing" in report.refused[0][1]
    assert other.snapshot().num_images == 0


def test_plans_are_refused_where_something_lies_and_say_what_is_wrong_with_them(
    images: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    with pytest.raises(ConfigError, match="holds a plan"):
        planned(store, images, tmp_path / "plan")
    with pytest.raises(ConfigError, match="--plan-out"):
        RangePlan.open(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="I/N"):
        Share(3, 2)
    path = tmp_path / "plan" / "ranges" / "00000.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="make the plan again"):
        plan.read(0)
    (tmp_path / "plan" / "plan.json").unlink()
    assert planned(store, images, tmp_path / "plan").rows == plan.rows  # one cut short is completed


def test_a_corpus_may_lie_elsewhere_on_a_worker(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    moved = tmp_path / "mounted"
    images.rename(moved)
    made(plan.moved([(str(images), str(moved))]))
    moved.rename(images)
    assert adopted(store).failed == 2
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_limits_are_the_plan_s(images: Path, tmp_path: Path) -> None:
    job = replace(JOB, min_side=30, max_megapixels=float("inf"))  # the images are 24 wide
    plan = planned(new_store(tmp_path / "feats"), images, tmp_path / "plan", job=job)
    options = plan.options_for(OPTIONS)
    assert (options.min_side, options.max_megapixels, options.batch_size) == (30, float("inf"), 4)
    assert made(plan)[0].failed == 45


def test_gc_sweeps_what_nobody_adopts_by_age_but_nothing_of_a_plan_at_work(
    images: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    made(plan)
    unfinished = store.parts / ".tmp-0"
    unfinished.mkdir()
    parts = list_parts(store.disk, store.parts)
    old = parts[0].stat().st_mtime - 10 * 86_400
    for path in [unfinished, *parts[:-1]]:
        os.utime(path, (old, old))
    with store.writer():
        assert unfinished.exists()  # its maker holds no lock
    assert gc(store, dry_run=True).parts == 1 and unfinished.exists()
    assert gc(store).parts == 1 and list_parts(store.disk, store.parts) == parts
    os.utime(parts[-1], (old, old))
    report = gc(store)
    assert report.parts == len(parts) and report.freed > 0 and not any(store.parts.iterdir())


def test_a_dry_adoption_says_what_is_there_and_writes_nothing(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    made(plan, shares=[(1, 2)])
    report = plan_adoption(store)
    assert (report.found, report.pending, report.parts) == (45, 45, len(range(0, len(plan.rows), 2)))
    assert store.snapshot().num_images == 0


def test_features_of_parts_are_those_of_one_ingest_to_the_bit(mini: Path, tmp_path: Path) -> None:
    job = IngestJob(batch_size=16, threads=2)
    store = new_store(tmp_path / "feats")
    made(planned(store, mini, tmp_path / "plan", rows=48, job=job), shares=[(1, 3), (3, 3), (2, 3)])
    adopted(store)
    ours, theirs = see(store), see(ingested(mini, tmp_path / "one", job=job))
    assert ours.rows == theirs.rows and len(ours.rows) == 200
    for path, feature in theirs.features.items():
        np.testing.assert_array_equal(ours.features[path], feature)
        np.testing.assert_array_equal(ours.scores[path], theirs.scores[path])


def test_a_part_that_goes_while_others_are_adopted_ends_nothing(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    made(planned(store, images, tmp_path / "plan"))
    (tmp_path / "link").symlink_to(store.path)
    report = adopted(Store.open(tmp_path / "link"), store.parts)  # each is there under two names
    assert (report.parts, report.pending) == (6, 0)
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_a_part_that_lacks_a_file_says_to_make_it_again(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    made(planned(store, images, tmp_path / "plan"))
    (list_parts(store.disk, store.parts)[0] / "features.h5").unlink()
    (_, why), *more = adopt(store).refused
    assert not more and why.endswith("make it again by the command that made it")


def test_a_worker_without_the_corpus_is_refused_and_makes_no_failures(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    plan = planned(store, images, tmp_path / "plan")
    images.rename(tmp_path / "away")
    with pytest.raises(ConfigError, match=f"nothing is there; .* --root {images}=FOLDER"):
        made(plan)
    images.mkdir()  # as where a share is not mounted
    with pytest.raises(ConfigError, match="nothing is there"):
        made(plan)
    assert list_parts(store.disk, store.parts) == []


def test_parts_of_a_corpus_that_the_store_does_not_know_are_refused(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    made(planned(store, images, tmp_path / "plan"), folder=tmp_path / "share")
    shutil.rmtree(store.path)
    store = new_store(store.path)
    refused = adopt(store, [tmp_path / "share"]).refused
    assert len(refused) == 6 and f"is of {images}, which this store does not know" in refused[0][1]
    assert store.snapshot().num_images == 0
    planned(store, images, tmp_path / "again")
    adopted(store, tmp_path / "share")
    require_equal(see(store), see(ingested(images, tmp_path / "one")))


def test_a_part_that_stays_where_it_is_may_be_written_over(images: Path, tmp_path: Path) -> None:
    store, share = new_store(tmp_path / "feats"), tmp_path / "share"
    made(planned(store, images, tmp_path / "plan"), folder=share)
    adopted(store, share)
    for file in share.rglob("*.*"):
        if file.is_file():
            file.write_bytes(b"the same part, as another worker has made it")
    assert verify(store.path, deep=True) == []


def test_a_part_whose_files_are_links_is_taken_whole(images: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    made(planned(store, images, tmp_path / "plan", rows=100))
    for part in list_parts(store.disk, store.parts):
        shutil.move(part / "features.h5", tmp_path / part.name)
        (part / "features.h5").symlink_to(tmp_path / part.name)
    adopted(store)
    for file in tmp_path.glob("*-00000-*"):
        file.unlink()
    assert verify(store.path, deep=True) == [] and store.snapshot().num_images == 43
