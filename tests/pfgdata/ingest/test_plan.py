"""The plan: the walk and the store's rows meet at every name, and what is left to do is held whole."""

from __future__ import annotations

import os
import pickle
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.corpus import Segment, WalkOptions, plan_segments
from pfgdata.ingest import IngestOptions, IngestReport, ingest
from pfgdata.ingest.plan import Planning, plan_batches
from pfgdata.ingest.tasks import Plan, Task
from pfgdata.ingest.waiting import Waiting
from pfgdata.records import Found, ImageKey, NoProgress
from pfgdata.store import Shadow, ShardContents, Store, failures_table, images_table, key_columns
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

# In the order of whole paths 'a-b' < 'a.png' < 'a/..': that of bytes, not that of folder by folder.
NASTY: tuple[bytes, ...] = (
    b"a-b.png",
    b"a.png",
    b"a/b.png",
    b"a-b/c.png",
    b"a/\xff\xfe.png",
    b"\xe9.png",
    "é.png".encode(),
)
NASTY += ("\U0001f600.png".encode(), "\uffee.png".encode(), b"a b\n.png", b"A.png", b"\\xe9.png")


class Counting(NoProgress):
    """A progress that adds up."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, count: int = 1, **figures: float) -> None:
        """Add `count`."""
        self.done += count


def planned(
    folder: Path, store: Store, options: IngestOptions | None = None
) -> tuple[list[Task], IngestReport]:
    """The tasks of a folder and the report of planning them."""
    report, progress = IngestReport(), Counting()
    planning = Planning(options or IngestOptions(), report, [])
    segments = plan_segments([folder], store.roots())
    plan = Plan(plan_batches(segments, store.snapshot(), planning, progress=progress))
    assert progress.done == report.found
    return list(plan), report


def fill(folder: Path, store: Store) -> None:
    """Ingest `folder`, a few rows a shard."""
    options = IngestOptions(batch_size=4, threads=1, shard_rows=4)
    ingest(plan_segments([folder], store.roots()), store, CheapTagger(), options=options)


def write(folder: Path, names: tuple[bytes, ...]) -> None:
    """One distinct image for each name."""
    sources = make_images(folder / ".sources", len(names))  # hidden, so never walked
    for name, source in zip(names, sources, strict=True):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())


def commit(store: Store, keys: list[ImageKey], *, size: int, mtime_ns: int) -> None:
    """One shard with a row for each key."""
    rows = [
        {**key_columns(key), "content_id": n.to_bytes(16, "big"), "size": size, "mtime_ns": mtime_ns}
        for n, key in enumerate(keys)
    ]
    contents = ShardContents(
        images=images_table(rows),
        features=np.zeros((len(rows), store.identity.feature_dim), np.float16),
        failures=failures_table([]),
    )
    with store.writer() as writer:
        writer.commit(contents)


def batch_of(tasks: list[Task]) -> pa.RecordBatch:
    """Tasks as a plan holds them."""
    nothing = (None, None, None)
    rows = [
        (
            task.segment,
            *(task.found.key.root, task.found.key.path, task.found.key.member),
            *(task.found.size, task.found.mtime_ns),
            *((task.old_image.shard, task.old_image.row) if task.old_image else nothing[:2]),
            *((task.old_failure.shard, task.old_failure.row) if task.old_failure else nothing[:2]),
            task.old_content,
            *(task.image_stat or nothing[:2]),
            *(task.failure_stat or nothing[:2]),
            task.access_reason,
        )
        for task in tasks
    ]
    named = [dict(zip(Plan.SCHEMA.names, row, strict=True)) for row in rows]
    return pa.RecordBatch.from_pylist(named, schema=Plan.SCHEMA)


@pytest.fixture
def nasty_corpus(tmp_path: Path) -> Path:
    """Names whose order is easily got wrong, some no UTF-8."""
    write(tmp_path / "images", NASTY)
    return tmp_path / "images"


def test_every_unchanged_row_is_found_whatever_its_name(nasty_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    fill(nasty_corpus, store)
    assert len(store.snapshot().shards) > 1
    tasks, report = planned(nasty_corpus, store)
    assert (tasks, report.unchanged, report.gone) == ([], len(NASTY), 0)


def test_what_differs_is_planned_in_the_stable_order_with_its_old_row(
    nasty_corpus: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    fill(nasty_corpus, store)
    for name in (b"a/\xff\xfe.png", b"a-b.png"):
        os.utime(os.fsencode(nasty_corpus) + b"/" + name, ns=(1, 1))
    write(nasty_corpus / "a", (b"new.png",))
    tasks, report = planned(nasty_corpus, store)
    assert [task.found.key.path for task in tasks] == [b"a-b.png", b"a/new.png", b"a/\xff\xfe.png"]
    assert report.unchanged == len(NASTY) - 2
    paths = {
        Shadow(row["shard"], "images", row["row"]): row["path_bytes"] or row["path"].encode()
        for row in store.snapshot().images(["path", "path_bytes"]).to_pylist()
    }
    assert [task.old_image and paths[task.old_image] for task in tasks] == [
        b"a-b.png",
        None,
        b"a/\xff\xfe.png",
    ]
    assert all(task.old_content is None and task.old_access is None for task in tasks)


def test_rehash_plans_every_file_with_the_content_of_its_row(nasty_corpus: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    fill(nasty_corpus, store)
    tasks, _ = planned(nasty_corpus, store, IngestOptions(rehash=True))
    rows = store.snapshot().images(["path", "path_bytes", "content_id"]).to_pylist()
    contents = {row["path_bytes"] or row["path"].encode(): row["content_id"].bytes for row in rows}
    assert {task.found.key.path: task.old_content for task in tasks} == contents


def test_rows_whose_files_are_gone_are_counted_inside_what_was_walked(
    nasty_corpus: Path, tmp_path: Path
) -> None:
    store = new_store(tmp_path / "feats")
    fill(nasty_corpus, store)
    for name in (b"A.png", b"a/b.png", b"\xe9.png"):
        (nasty_corpus / os.fsdecode(name)).unlink()
    tasks, report = planned(nasty_corpus, store)
    assert (tasks, report.gone, report.unchanged) == ([], 3, len(NASTY) - 3)
    assert planned(nasty_corpus / "a", store)[1].gone == 1


def test_only_what_a_walk_would_have_found_counts_as_gone(tmp_path: Path) -> None:
    folder, store = tmp_path / "images", new_store(tmp_path / "feats")
    write(folder, (b"a.png", b"b/c.png", b"b/d.png"))
    with tarfile.open(folder / "t.tar", "w") as tar:
        tar.add(folder / "a.png", "m.png")
    archives = WalkOptions(archives=True)

    def gone(*inputs: str, options: WalkOptions | None = None) -> int:
        segments = plan_segments([folder / name for name in inputs], store.roots(), options=options)
        report = IngestReport()
        planning = Planning(IngestOptions(), report, [])
        list(plan_batches(segments, store.snapshot(), planning, progress=NoProgress()))
        return report.gone

    ingest(plan_segments([folder], {}, options=archives), store, CheapTagger())
    assert store.snapshot().num_images == 4
    (folder / "list.txt").write_text("a.png\n")
    for name in ("b/c.png", "b/d.png"):
        (folder / name).unlink()
    assert (gone("."), gone(".", options=archives), gone("b")) == (2, 2, 2)
    assert (gone("list.txt"), gone("t.tar"), gone("a.png")) == (0, 0, 0)
    assert gone(".", options=WalkOptions(exclude=("c.png",))) == 1
    (folder / "t.tar").write_bytes(b"broken")
    assert gone(".", options=archives) == 2  # its members may be there
    (folder / "t.tar").unlink()
    assert (gone("."), gone(".", options=archives)) == (2, 3)


def test_members_of_archives_are_ingested_once_and_their_failures_named(tmp_path: Path) -> None:
    folder, store = tmp_path / "images", new_store(tmp_path / "feats")
    write(folder, (b"a.png", b"b.png", b"c.png"))
    with tarfile.open(folder / "t.tar", "w") as tar, zipfile.ZipFile(folder / "z.cbz", "w") as archive:
        for name in ("a.png", "b.png"):
            tar.add(folder / name, f"in/{name}")
        archive.write(folder / "c.png", "c.png")
        archive.writestr("no.png", b"no image")
    (folder / "broken.zip").write_bytes(b"PK")
    segments = plan_segments([folder / name for name in ("t.tar", "z.cbz", "broken.zip")], {})
    report = ingest(segments, store, CheapTagger())
    assert (report.found, report.tagged, report.failed) == (5, 3, 2)
    rows = store.snapshot().images(["path", "member"]).to_pylist()
    keys = [(row["path"], row["member"]) for row in rows]
    assert keys == [("t.tar", "in/a.png"), ("t.tar", "in/b.png"), ("z.cbz", "c.png")]
    failures = store.snapshot().failures().to_pylist()
    named = [(row["path"], row["member"], row["kind"]) for row in failures]
    assert named == [("broken.zip", None, "content"), ("z.cbz", "no.png", "content")]
    again = ingest(segments, store, CheapTagger())
    assert (again.found, again.unchanged, again.failed, again.failures) == (5, 3, 2, [])
    os.utime(folder / "t.tar", ns=(1, 1))
    touched = ingest(segments, store, CheapTagger())
    assert (touched.copied, touched.unchanged, touched.gone) == (2, 1, 0)


def test_an_archive_that_is_whole_again_has_no_failure_on_record(tmp_path: Path) -> None:
    folder, store = tmp_path / "images", new_store(tmp_path / "feats")
    write(folder, (b"a.png",))
    for name in ("one.zip", "two.zip"):
        (folder / name).write_bytes(b"PK")

    def failures(archives: bool = True) -> list[str]:
        options = WalkOptions(archives=archives)
        ingest(plan_segments([folder], store.roots(), options=options), store, CheapTagger())
        return store.snapshot().failures()["path"].to_pylist()

    assert failures() == ["one.zip", "two.zip"]
    with zipfile.ZipFile(folder / "one.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    assert failures(archives=False) == ["one.zip", "two.zip"]  # not looked at
    assert failures() == ["two.zip"]
    shards = len(store.snapshot().shards)
    assert failures() == ["two.zip"] and len(store.snapshot().shards) == shards


def test_rows_are_met_where_many_are_new_gone_and_of_other_roots(tmp_path: Path) -> None:
    folder, store = tmp_path / "images", new_store(tmp_path / "feats")
    folder.mkdir()
    root = os.path.realpath(folder)
    for number in range(3000):
        if number % 7:
            (folder / f"{number:04}.png").touch()
            os.utime(folder / f"{number:04}.png", ns=(1, 1))
    known = [ImageKey(root=root, path=b"%04d.png" % n) for n in range(3000) if n % 5]
    other = [ImageKey(root=place, path=b"x.png") for place in (root + "2", root[:-1])]
    commit(store, [*known[1000:], *other, *known[:1000]], size=0, mtime_ns=1)
    tasks, report = planned(folder, store)
    numbers = range(3000)
    assert [task.found.key.path for task in tasks] == [
        b"%04d.png" % n for n in numbers if n % 7 and not n % 5
    ]
    assert report.gone == sum(1 for n in numbers if n % 5 and not n % 7)
    assert report.unchanged == sum(1 for n in numbers if n % 5 and n % 7)


def test_a_member_with_an_empty_name_is_not_the_file_itself(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    write(tmp_path / "images", (b"a.png", b"b.png"))
    root = os.path.realpath(tmp_path / "images")
    stat = (tmp_path / "images" / "b.png").stat()
    os.utime(tmp_path / "images" / "a.png", ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    size = (tmp_path / "images" / "a.png").stat().st_size
    members = [ImageKey(root=root, path=b"a.png", member=name) for name in (b"", b"x")]
    commit(store, [*reversed(members)], size=size, mtime_ns=stat.st_mtime_ns)
    tasks, report = planned(tmp_path / "images", store)
    assert [task.old_image for task in tasks] == [None, None] and report.gone == 0
    commit(store, [ImageKey(root=root, path=b"a.png")], size=size, mtime_ns=stat.st_mtime_ns)
    tasks, report = planned(tmp_path / "images", store)
    assert [task.found.key.path for task in tasks] == [b"b.png"]
    assert (report.unchanged, report.gone) == (1, 0)


def test_an_old_access_failure_comes_with_its_stat_and_reason(small_corpus: Path, tmp_path: Path) -> None:
    (small_corpus / "0003.png").unlink()
    (small_corpus / "0003.png").symlink_to("nowhere.png")
    (small_corpus / "0004.png").write_bytes(b"no image")
    store = new_store(tmp_path / "feats")
    fill(small_corpus, store)
    failures = {row["path"]: row for row in store.snapshot().failures().to_pylist()}
    tasks, report = planned(small_corpus, store, IngestOptions(retry_failed=True))
    access, content = tasks
    old = failures["0003.png"]
    assert access.old_access == (old["size"], old["mtime_ns"], old["reason"])
    assert access.old_failure == Shadow(old["shard"], "failures", old["row"])
    assert content.old_access is None and content.old_failure is not None
    assert report.unchanged == 38
    tasks, report = planned(small_corpus, store)
    assert [task.old_access for task in tasks] == [access.old_access] and report.failed == 1


def test_a_stopped_walk_plans_what_it_saw_and_counts_nothing_as_gone(tmp_path: Path) -> None:
    folder, store = tmp_path / "images", new_store(tmp_path / "feats")
    folder.mkdir()
    for number in range(5000):
        (folder / f"{number:04}.png").touch()
    root = os.path.realpath(folder)
    commit(store, [ImageKey(root=root, path=b"0000-gone.png")], size=1, mtime_ns=1)
    report, progress = IngestReport(), Counting()
    segments = [Segment(root=root, location=folder)]
    planning = Planning(IngestOptions(), report, [])
    plan = Plan(
        plan_batches(segments, store.snapshot(), planning, progress=progress, stop=lambda: True),
    )
    assert report.interrupted
    assert (report.found, len(plan), report.pending, report.gone) == (4096, 4096, 4096, 0)
    assert progress.done == 4096


def test_a_plan_gives_back_what_was_added() -> None:
    plan = Plan()
    tasks = [
        Task(
            Found(key=ImageKey(root="/r", path=b"\xff%d" % n, member=member), size=2**40, mtime_ns=-n),
            n % 3,
            Shadow("s1", "images", n) if n % 2 else None,
            Shadow("s2", "failures", n) if n % 5 == 0 else None,
            bytes(16) if n % 2 else None,
            (n + 1, -n) if n % 2 else None,
            (n, -n) if n % 5 == 0 else None,
            "locked" if n % 10 == 0 else None,
        )
        for n, member in zip(range(9000), [None, b"", b"x"] * 3000, strict=True)
    ]
    for start in range(0, 9000, 4500):
        plan.add(batch_of(tasks[start : start + 4500]))
    assert len(plan) == 9000 and list(plan) == tasks


def test_a_slice_of_a_plan_is_a_plan_that_holds_only_its_own_rows() -> None:
    plan = Plan()
    tasks = [
        Task(
            Found(key=ImageKey(root="/r", path=b"%06d.png" % n), size=n, mtime_ns=n),
            *(0, None, Shadow("s2", "failures", n), None),
            *(None, (n, n), f"locked, says file {n}"),
        )
        for n in range(6000)
    ]
    for start in range(0, 6000, 2048):
        plan.add(batch_of(tasks[start : start + 2048]))
    for rows in (slice(0, 2048), slice(1000, 5000), slice(5990, None), slice(None, 7), slice(9, 9)):
        assert list(plan[rows]) == tasks[rows]
    part, whole = pickle.dumps(plan[4000:4100]), pickle.dumps(plan)
    assert list(pickle.loads(part)) == tasks[4000:4100]
    assert len(part) < len(whole) / 40
    assert b"says file 4000" in part and b"says file 3999" not in part and b"004100.png" not in part


@pytest.mark.parametrize("held", [0, 4000, 10_000])
def test_tasks_that_wait_come_out_as_they_went_in_and_leave_no_file(held: int, tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    tasks = [
        Task(
            Found(key=ImageKey(root=f"/r{n // 2500}", path=b"%06d.png" % n), size=n, mtime_ns=n),
            *(0, Shadow(f"s{n // 1000}", "images", n), None, None),
            *((n, n), None, f"locked, says {n}" if n % 3 == 0 else None),
        )
        for n in range(9000)
    ]
    with closing(Waiting(store.disk, store.path, held=held)) as waiting:
        for start in range(0, 9000, 1000):
            waiting.add(batch_of(tasks[start : start + 1000]))
        assert len(waiting) == 9000
        assert len(list(store.path.glob(".tmp-*/tasks.arrow"))) == (held < 9000)
        assert list(waiting) == tasks
    assert not list(store.path.glob(".tmp-*"))
    left = Waiting(store.disk, store.path, held=0)
    left.add(batch_of(tasks[:10]))  # by a process that dies
    with store.writer():
        assert not list(store.path.glob(".tmp-*"))
    left.close()
