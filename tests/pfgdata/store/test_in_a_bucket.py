"""A store in a bucket: it answers as one on disk, and of two writers one wins, whatever the lease says."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import CorruptShardError, PlaceError, StoreError, StoreLockedError
from pfgdata.files import FileCache, ObjectDisk, ObjectInfo, ObjectPlace
from pfgdata.files.object_reads import ReadingDisk
from pfgdata.images import BucketPolicy
from pfgdata.ingest import IngestOptions, ingest, write_captions
from pfgdata.latents import LatentOptions, LatentPass
from pfgdata.query import Session, Thresholds, run_query
from pfgdata.store import SavedSelection, Store, compact, gc, index_tags, repair, verify
from pfgdata.urls import UrlPath
from pfgdata.vaes import Vae
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger, bucket_in_memory

URL = UrlPath("s3://bucket/feats")
OPTIONS = IngestOptions(batch_size=4, threads=1, shard_rows=8)
AtMachine = Callable[[str], ObjectDisk]


@dataclass(frozen=True, slots=True)
class Counting(ObjectPlace):
    """A place that counts what is asked of it, by method."""

    asked: Counter[str] = field(default_factory=Counter)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.asked["list"] += 1
        return ObjectPlace.list(self, prefix)

    def read_known(self, key: str) -> tuple[bytes, ObjectInfo]:
        self.asked["read"] += 1
        return ObjectPlace.read_known(self, key)

    def info(self, key: str) -> ObjectInfo:
        self.asked["info"] += 1
        return ObjectPlace.info(self, key)

    def fetch(self, key: str, file: Path) -> str:
        self.asked["fetch"] += 1
        return ObjectPlace.fetch(self, key, file)


@dataclass(frozen=True, slots=True)
class Heedless(ObjectPlace):
    """A server that ignores conditions, as some do."""

    def put(
        self, key: str, data: bytes | Path, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        return ObjectPlace.put(self, key, data)


@pytest.fixture
def at(tmp_path: Path) -> AtMachine:
    """The bucket's disk at a machine, by that machine's name."""
    bucket = bucket_in_memory(str(URL))
    return lambda machine: bucket(tmp_path / machine)


@pytest.fixture
def store(at: AtMachine, small_corpus: Path) -> Store:
    """A store of 40 images in 5 shards."""
    made = new_store(URL, disk=at("maker"))
    ingest(plan_segments([small_corpus], {}), made, CheapTagger(), options=OPTIONS)
    return made


def keys(place: ObjectPlace, below: str) -> list[str]:
    return [one.key for one in place.list(below)]


def test_a_store_in_a_bucket_answers_as_one_on_disk(
    store: Store, at: AtMachine, small_corpus: Path, tmp_path: Path
) -> None:
    near = new_store(tmp_path / "near")
    ingest(plan_segments([small_corpus], {}), near, CheapTagger(), options=OPTIONS)
    far = Store.open(URL, disk=at("reader"))
    assert far.roots() == near.roots() and str(far.path) == "s3://bucket/feats"
    ours, theirs = near.snapshot(), far.snapshot()
    drop = ["shard", "row"]
    assert theirs.images().drop_columns(drop).equals(ours.images().drop_columns(drop))
    np.testing.assert_array_equal(theirs.features(theirs.everything), ours.features(ours.everything))
    for expression in (None, "has('smile')", "width = 24 and score('solo') > 0.5"):
        wanted, found = (
            run_query(snapshot, expression, thresholds=Thresholds(), columns=["path"], roots={})
            for snapshot in (ours, theirs)
        )
        assert found.equals(wanted)
    placed = run_query(theirs, None, thresholds=Thresholds(), columns=["path", "shard", "row"], roots={})
    assert placed.to_pylist() == theirs.images(["path"]).to_pylist()


def test_the_views_of_a_store_in_a_bucket_join_by_shard_and_row(at: AtMachine, tmp_path: Path) -> None:
    (one,) = make_images(tmp_path / "one", 1)
    store = new_store(URL, disk=at("maker"))
    for folder in ("one", "again"):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(one, tmp_path / folder / "copy.png")
        ingest(plan_segments([tmp_path / folder], store.roots()), store, CheapTagger(), options=OPTIONS)
    with Session(store.snapshot()) as session:
        (tags, joined) = (
            session.sql(f"SELECT count(*) AS n FROM {views}")["n"].to_pylist()
            for views in ("tags", "images JOIN tags USING (content_id, shard, row)")
        )
    assert tags == joined != [0]


def test_what_was_read_once_is_not_asked_for_again(store: Store, at: AtMachine, tmp_path: Path) -> None:
    plain = at("reader").place
    place = Counting(plain.url, plain.store, plain.prefix)

    def look() -> Counter[str]:
        place.asked.clear()
        disk = ObjectDisk(URL, place=place, cache=FileCache(tmp_path / "cache"))
        snapshot = Store.open(URL, disk=disk).snapshot()
        assert snapshot.features(snapshot.everything).shape == (40, 768)
        return Counter(place.asked)

    assert look()["fetch"] == 1 + 5 * 3  # vocabulary; shard.json, images, features
    assert look() == {"info": 2, "read": 1, "list": 2}  # store.json, vocabulary; commits, twice


def test_few_rows_are_asked_for_by_ranges_and_many_by_the_file(
    at: AtMachine, small_corpus: Path, tmp_path: Path
) -> None:
    made = new_store(URL, disk=at("maker"))
    ingest(
        plan_segments([small_corpus], {}), made, CheapTagger(), options=IngestOptions(batch_size=4, threads=1)
    )
    snapshot = Store.open(URL, disk=at("reader")).snapshot()
    (view,) = snapshot.shards
    two = snapshot.everything.take(np.array([31, 7]))
    few = snapshot.features(two)
    digest = view.meta.files["features.h5"]["blake3"]
    assert not FileCache(tmp_path / "reader").has(digest)
    everything = snapshot.features(snapshot.everything)
    assert FileCache(tmp_path / "reader").has(digest)
    np.testing.assert_array_equal(few, everything[[31, 7]])
    np.testing.assert_array_equal(snapshot.features(two), few)


def test_a_store_in_a_bucket_is_changed_compacted_and_collected(
    store: Store, at: AtMachine, small_corpus: Path
) -> None:
    os.utime(small_corpus / "0003.png", ns=(1, 1))
    (small_corpus / "0004.png").write_bytes(b"no image")
    (small_corpus / "0005.txt").write_text("a caption")
    segments = plan_segments([small_corpus], store.roots())
    report = ingest(segments, store, CheapTagger(), options=OPTIONS)
    assert (report.copied, report.failed, report.unchanged) == (1, 1, 38)
    assert write_captions(store, segments).captions == 1
    other = Store.open(URL, disk=at("other"))
    assert other.read_column("captions")["value"].to_pylist() == ["a caption"]
    other.remove_column("captions")
    assert other.columns() == store.columns() == []
    other.write_selection(SavedSelection(name="all", text=None))
    assert store.selections() == ["all"] and store.read_selection("all").text is None
    compacted = compact(other)
    assert (compacted.shards_before, compacted.shards_after, compacted.indexed) == (6, 1, 1)
    assert compact(other).indexed == 0
    collected = gc(other, older_than=0)
    assert len(collected.removed) == 6 and len(keys(other.disk.place, "shards")) == 5  # type: ignore[attr-defined]
    assert verify(URL, deep=True, disk=at("judge")) == []
    assert store.snapshot().num_images == 39


def test_latents_are_kept_in_the_bucket(store: Store, at: AtMachine) -> None:
    snapshot, vae = store.snapshot(), Vae.load("demo", device="cpu")
    policy, options = BucketPolicy.derive(resolution=64, step=16), LatentOptions(batch_size=4, threads=1)
    LatentPass(store=store, vae=vae, policy=policy, options=options).run(snapshot, snapshot.everything)
    (latent_set,) = Store.open(URL, disk=at("other")).latent_sets()
    index = latent_set.index()
    assert len(index.rows) == 40 and len(latent_set.array_map(index.shards[0])) == 40
    assert verify(URL, deep=True, disk=at("judge")) == []


def test_a_writer_of_a_set_inside_one_of_the_store_lets_no_other_be_written_over(
    store: Store, at: AtMachine
) -> None:
    with store.writer() as writer:
        roots = store.roots()
        at("other").place.put("roots.json", b"of another")
        with store.disk.exclusive(URL / "latents" / "ab" / "lock", what="latent set"):
            pass
        with pytest.raises(StoreLockedError, match="another process has just written it"):
            writer.set_roots(roots)


def test_a_second_writer_is_told_who_writes(store: Store, at: AtMachine) -> None:
    other = Store.open(URL, disk=at("other"))
    with store.writer(), pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"), other.writer():
        pass
    with other.writer():
        pass


def taken_over(at: AtMachine) -> Store:
    """The store as opened by one for whom every lease has ended."""
    disk = at("second")
    disk._lease_seconds = -1.0
    return Store.open(URL, disk=disk)


def test_a_writer_who_slept_while_another_committed_loses_and_harms_nothing(
    store: Store, at: AtMachine, small_corpus: Path
) -> None:
    for number in range(4):
        (small_corpus / f"000{number}.png").unlink()
        (small_corpus / f"000{number}.png").write_bytes(b"no image")
    segments = plan_segments([small_corpus], store.roots())
    second = taken_over(at)
    with store.writer() as sleeper:
        assert ingest(segments, second, CheapTagger(), options=OPTIONS).failed == 4
        before = {one.key: one.etag for one in second.disk.place.list()}  # type: ignore[attr-defined]
        with pytest.raises(StoreLockedError, match="another process has written here since"):
            compact_nothing(sleeper.store)
        with pytest.raises(StoreLockedError, match="has written here since"):
            sleeper.store.disk.remove_folder(URL / "shards" / store.snapshot().shards[0].id)
        second.move_root(str(small_corpus), "/moved")
        with pytest.raises(StoreLockedError, match=r"roots.json: another process has just written it"):
            sleeper.set_roots({})
    after = {one.key: one.etag for one in second.disk.place.list()}  # type: ignore[attr-defined]
    assert {key for key in before if after.get(key) != before[key]} <= {"roots.json", "lock"}
    assert second.roots() == {str(small_corpus): "/moved"}
    assert verify(URL, deep=True, disk=at("judge")) == [] and second.snapshot().num_images == 36


def compact_nothing(store: Store) -> None:
    """Commit a shard as the holder of a lock does."""
    from pfgdata.store import ShardContents, StoreWriter

    hiding = ShardContents.hiding([], feature_dim=768, what="test")
    StoreWriter(store).commit(hiding)


def test_an_upload_that_was_never_committed_is_swept_once_it_never_can_be(
    store: Store, at: AtMachine
) -> None:
    place = at("any").place
    place.put("shards/00000006-deadbeef/images.parquet", b"half")
    place.put("shards/00000002-deadbeef/images.parquet", b"half")
    sleeper, other = Store.open(URL, disk=at("sleeper")), taken_over(at)
    with sleeper.writer():  # it would commit number 6, which is given up with what lies there
        assert keys(place, "shards/00000006-deadbeef") == keys(place, "shards/00000002-deadbeef") == []
        with other.writer():
            pass
        compact_nothing(sleeper)
    assert sorted(store.snapshot().present[-1].id.split("-"))[0] == "00000007"


def test_a_missing_or_damaged_record_stops_readers_and_is_put_right(store: Store, at: AtMachine) -> None:
    place = at("any").place
    images = store.snapshot().images().drop_columns(["shard", "row"])
    place.delete("commits/00000002.json")
    place.put("commits/00000004.json", b"{}")
    fresh = Store.open(URL, disk=at("reader"))
    with pytest.raises(CorruptShardError, match=r"commits/00000002.json: is missing; run: pfgdata verify"):
        fresh.snapshot()
    problems = verify(URL, disk=at("judge"))
    assert [(one.path.name, one.shard) for one in problems] == [
        ("00000002.json", None),
        ("00000004.json", None),
    ]
    repair(fresh, problems)
    assert verify(URL, deep=True, disk=at("judge")) == []
    assert fresh.snapshot().images().drop_columns(["shard", "row"]).equals(images)


def test_a_store_in_a_folder_named_shards_is_there_after_its_next_writer(
    at: AtMachine, small_corpus: Path, tmp_path: Path
) -> None:
    url, place = UrlPath("s3://bucket/feats/shards"), at("any").place.below("shards")

    def disk(machine: str) -> ObjectDisk:
        return ObjectDisk(url, place=place, cache=FileCache(tmp_path / machine))

    made = new_store(url, disk=disk("maker"))
    ingest(plan_segments([small_corpus], {}), made, CheapTagger(), options=OPTIONS)
    made.write_selection(SavedSelection(name="all", text=None))
    fresh = Store.open(url, disk=disk("reader"))
    assert fresh.snapshot().images().num_rows == 40 and fresh.selections() == ["all"]
    assert verify(url, deep=True, disk=fresh.disk) == []


def copied(folder: Path, place: ObjectPlace) -> None:
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        place.put(path.relative_to(folder).as_posix(), path.read_bytes())


def test_a_store_copied_there_by_other_means_is_not_swept_and_is_put_right(
    at: AtMachine, small_corpus: Path, tmp_path: Path
) -> None:
    near = new_store(tmp_path / "near")
    ingest(plan_segments([small_corpus], {}), near, CheapTagger(), options=OPTIONS)
    everything, vae = near.snapshot(), Vae.load("demo", device="cpu")
    policy = BucketPolicy.derive(resolution=64, step=16)
    small = LatentOptions(batch_size=4, threads=1, shard_bytes=1)
    LatentPass(store=near, vae=vae, policy=policy, options=small).run(everything, everything.everything)
    copied(near.path, at("any").place)
    far = Store.open(URL, disk=at("reader"))
    with pytest.raises(CorruptShardError, match=r"commits: says nothing of 5 shards.* run: pfgdata verify"):
        far.snapshot()
    with far.writer(), pytest.raises(CorruptShardError):
        far.snapshot()
    repair(far, verify(URL, disk=at("judge")))
    assert verify(URL, deep=True, disk=at("judge")) == []
    assert far.snapshot().images().equals(near.snapshot().images())
    assert len(far.latent_sets()[0].index().shards) > 1
    compact(far)
    assert far.snapshot().images().num_rows == 40


def test_a_copied_store_of_one_shard_is_not_swept(at: AtMachine, small_corpus: Path, tmp_path: Path) -> None:
    near = new_store(tmp_path / "near")
    ingest(plan_segments([small_corpus], {}), near, CheapTagger())
    copied(near.path, at("any").place)
    far = Store.open(URL, disk=at("writer"))
    with far.writer():
        assert far.snapshot().images().equals(near.snapshot().images())
        compact_nothing(far)
    assert verify(URL, deep=True, disk=at("judge")) == []


def test_a_server_that_ignores_conditions_is_refused_at_first_use(tmp_path: Path) -> None:
    from obstore.store import MemoryStore

    place = Heedless("s3://heedless/feats", MemoryStore(), "feats")
    disk = ObjectDisk(UrlPath(place.url), place=place, cache=FileCache(tmp_path))
    with pytest.raises(StoreError, match="its server ignores conditions"):
        new_store(UrlPath(place.url), disk=disk)
    assert list(place.list()) == []


def test_a_copy_that_is_not_what_was_written_is_named(store: Store, at: AtMachine) -> None:
    place, shard = at("any").place, store.snapshot().shards[0].id
    data = bytearray(place.read(f"shards/{shard}/features.h5"))
    data[-1] ^= 1
    place.put(f"shards/{shard}/features.h5", bytes(data))
    snapshot = Store.open(URL, disk=at("reader")).snapshot()
    with pytest.raises(CorruptShardError, match=r"features.h5: unreadable \(its bytes are not those"):
        snapshot.features(snapshot.everything)
    (problem,) = verify(URL, deep=True, disk=at("maker"))  # who has a good copy looks there all the same
    assert problem.path == URL / "shards" / shard / "features.h5"


@pytest.mark.parametrize("file", ["images.parquet", "shadows.parquet"])
def test_a_table_that_is_not_what_was_written_is_named(
    store: Store, at: AtMachine, small_corpus: Path, file: str
) -> None:
    os.utime(small_corpus / "0003.png", ns=(1, 1))
    ingest(plan_segments([small_corpus], store.roots()), store, CheapTagger(), options=OPTIONS)
    shard = store.snapshot().shards[-1].id
    place = at("any").place
    data = bytearray(place.read(f"shards/{shard}/{file}"))
    data[5] ^= 1
    place.put(f"shards/{shard}/{file}", bytes(data))
    with pytest.raises(CorruptShardError, match=f"{file}: .*its bytes are not those"):
        snapshot = Store.open(URL, disk=at("reader")).snapshot()
        run_query(snapshot, "has('smile')", thresholds=Thresholds(), columns=["path"], roots={})
    if file == "images.parquet":
        assert index_tags(Store.open(URL, disk=at("indexer")).snapshot(), deep=True) <= 5


class Unreachable(ReadingDisk):
    """A place whose server stops to answer once files are fetched."""

    def local(self, path: Path) -> Path:
        raise PlaceError("its server does not answer")


def test_a_vocabulary_that_cannot_be_had_is_no_damage(store: Store, at: AtMachine) -> None:
    plain = at("any")
    with pytest.raises(PlaceError, match=r"^its server does not answer$"):
        Store.open(URL, disk=Unreachable(URL, place=plain.place, cache=plain.cache))


def test_a_server_that_is_gone_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with pytest.raises(PlaceError, match="does not answer"):
        verify(URL)
