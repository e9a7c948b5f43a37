"""Corpora in a bucket of a real S3 server, ingested, planned, moved, pruned and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pfgdata.cli import app
from pfgdata.corpus import far_readers, plan_segments, read_images
from pfgdata.files import ObjectPlace
from pfgdata.ingest import (
    IngestJob,
    IngestOptions,
    IngestReport,
    PartWork,
    PlanOut,
    Share,
    adopt,
    ingest,
    make_parts,
    prune,
    write_captions,
    write_plan,
)
from pfgdata.paths import Place, Url
from pfgdata.screen import run_app
from pfgdata.store import IMAGE_COLUMNS, Store, keys_of, stored_image
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.corpus.packing import make_tar
from tests.pfgdata.corpus.test_buckets import bucket, upload
from tests.pfgdata.corpus.test_tar_index import write_index
from tests.seaweed import S3Server

__all__ = ["bucket"]

Captured = pytest.CaptureFixture[str]
pytestmark = pytest.mark.cluster
OPTIONS = IngestOptions(batch_size=8)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """20 images in folders, a tar of 5 with an index and one of 5 without."""
    folder = tmp_path / "corpus"
    make_images(folder / "a", 12)
    make_images(folder / "b", 8, seed=1)
    for number, name in enumerate(("indexed", "plain")):
        images = make_images(tmp_path / name, 5, seed=2 + number)
        members = [(path.name.encode(), path.read_bytes()) for path in images]
        members.append((b"0000.txt", b"1girl, solo"))
        make_tar(folder / f"{name}.tar", members)
    write_index(folder / "indexed.tar")
    return folder


def ingested(store: Store, place: Place) -> IngestReport:
    walk = IngestJob(archives=True).walk
    segments = plan_segments([place], store.roots(), options=walk)
    return ingest(segments, store, CheapTagger(), options=OPTIONS)


def counts(report: IngestReport) -> tuple[int, ...]:
    return (report.found, report.tagged, report.copied, report.unchanged, report.failed, report.gone)


def contents(store: Store) -> dict[str, bytes]:
    """What each image below its root is, and its feature."""
    snapshot = store.snapshot()
    table = snapshot.images(IMAGE_COLUMNS)
    out = {}
    places = zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True)
    for key, (shard, row) in zip(keys_of(table), places, strict=True):
        out[key.name] = snapshot.feature_map(shard)[row].tobytes()
    return out


def test_a_bucket_gives_the_store_that_the_folder_gives(corpus: Path, bucket: str, tmp_path: Path) -> None:
    upload(corpus, bucket)
    here, there = new_store(tmp_path / "here"), new_store(tmp_path / "there")
    assert counts(ingested(here, corpus)) == counts(ingested(there, Url(bucket))) == (30, 30, 0, 0, 0, 0)
    assert contents(here) == contents(there)
    assert there.roots() == {bucket: bucket}
    rows = there.snapshot().images(["size", "mtime_ns"])
    assert rows["mtime_ns"].to_numpy().min() >= 0


def test_what_is_unchanged_is_left_unread(corpus: Path, bucket: str, tmp_path: Path) -> None:
    upload(corpus, bucket)
    store, place = new_store(tmp_path / "feats"), ObjectPlace.at(bucket)
    ingested(store, Url(bucket))
    assert counts(ingested(store, Url(bucket))) == (30, 0, 0, 30, 0, 0)
    place.put("a/0003.png", (corpus / "a" / "0004.png").read_bytes())  # known under another name
    place.put("b/0000.png", make_images(tmp_path / "new", 1, seed=9)[0].read_bytes())
    place.delete("a/0000.png", "plain.tar")
    assert counts(ingested(store, Url(bucket))) == (24, 1, 1, 22, 0, 6)
    report = prune(store, yes=True)
    assert (report.images, report.failures) == (6, 0)
    assert sorted(contents(store))[0] == "a/0001.png"


def test_nothing_is_pruned_of_a_root_that_cannot_be_asked(
    corpus: Path, bucket: str, tmp_path: Path, capsys: Captured
) -> None:
    upload(corpus, bucket)
    store = new_store(tmp_path / "feats")
    ingested(store, Url(bucket))
    with store.writer() as writer:
        writer.set_roots({bucket: "s3://no-such-bucket-1/x"})
    for report in (prune(store, dry_run=True), prune(store, yes=True), prune(store)):
        (said,) = report.unseen
        assert "there is no bucket" in said and "all 30 rows" in said
        assert (report.refused, report.checked, report.images) == ((), 0, 0)
    run(["prune", str(store.path)])
    assert "not looked at  s3://no-such-bucket-1/x: there is no bucket" in capsys.readouterr().err


def test_a_corpus_moves_into_a_bucket_and_back(
    corpus: Path, bucket: str, tmp_path: Path, capsys: Captured
) -> None:
    upload(corpus, bucket)
    store = new_store(tmp_path / "feats")
    root = str(corpus.resolve())
    ingested(store, corpus)
    store.move_root(root, bucket)
    assert counts(ingested(store, Url(bucket))) == (30, 0, 30, 0, 0, 0)
    assert counts(ingested(store, Url(bucket))) == (30, 0, 0, 30, 0, 0)
    command = ["ingest", bucket, "--archives", "--store", str(tmp_path / "feats")]
    run([*command, "--root", f"{root}={bucket}x"], code=1)
    assert f"{bucket}x: nothing lies there; check the name" in capsys.readouterr().err
    store.move_root(root, root)
    assert counts(ingested(store, corpus)) == (30, 0, 30, 0, 0, 0)


def run(arguments: list[str], *, code: int = 0) -> None:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=arguments, name="pfgdata")
    assert caught.value.code == code


def test_the_images_of_a_store_are_read_from_a_bucket(corpus: Path, bucket: str, tmp_path: Path) -> None:
    upload(corpus, bucket)
    store = new_store(tmp_path / "feats")
    ingested(store, Url(bucket))
    rows = store.snapshot().images(IMAGE_COLUMNS).drop_columns(["shard", "row"]).to_pylist()
    images = [stored_image(row) for row in rows]
    read = read_images(images, lambda one: one.pixels.shape, roots=store.roots(), threads=2, ahead=40)
    assert [shape for _, shape in read] == [(32, 24, 3)] * 30
    assert far_readers(2, store.roots().values()) == 32


def test_captions_come_from_tars_in_a_bucket(corpus: Path, bucket: str, tmp_path: Path) -> None:
    upload(corpus, bucket)
    ObjectPlace.at(bucket).put("a/0002.txt", b"smile, glasses")
    store = new_store(tmp_path / "feats")
    ingested(store, Url(bucket))
    segments = plan_segments([Url(bucket)], store.roots(), options=IngestJob(archives=True).walk)
    report = write_captions(store, segments)
    assert (report.captions, report.without, report.warnings) == (3, 27, [])
    texts = store.read_column("captions")["value"].to_pylist()
    assert sorted(texts) == ["1girl, solo", "1girl, solo", "smile, glasses"]


def test_ranges_of_a_plan_are_done_from_a_bucket(corpus: Path, bucket: str, tmp_path: Path) -> None:
    upload(corpus, bucket)
    whole, store = new_store(tmp_path / "whole"), new_store(tmp_path / "feats")
    ingested(whole, Url(bucket))
    job = IngestJob(archives=True, batch_size=8)
    segments = plan_segments([Url(bucket)], {}, options=job.walk)
    plan, _ = write_plan(segments, store, job, out=PlanOut(folder=tmp_path / "plan", rows=6))
    assert plan is not None
    assert [segment.location for segment in plan.segments] == [Url(bucket)]
    for index in (2, 1):
        work = PartWork(plan=plan, share=Share(index, 2), folder=store.parts)
        assert make_parts(work, CheapTagger(), options=OPTIONS).failed == 0
    assert adopt(store).tagged == 30
    assert contents(store) == contents(whole)


def test_an_object_that_cannot_be_read_is_tried_again(bucket: str, tmp_path: Path) -> None:
    upload(make_images(tmp_path / "c", 3)[0].parent, bucket)
    store, place = new_store(tmp_path / "feats"), ObjectPlace.at(bucket)
    segments = plan_segments([Url(bucket)], {})
    gone = place.read("0001.png")

    job = IngestJob(batch_size=8)
    plan, _ = write_plan(segments, store, job, out=PlanOut(folder=tmp_path / "plan"))
    assert plan is not None
    place.delete("0001.png")
    work = PartWork(plan=plan, share=Share(), folder=store.parts)
    report = make_parts(work, CheapTagger(), options=OPTIONS)
    assert [(one.kind, one.reason) for one in report.failures] == [("access", "gone, or never there")]
    adopt(store)
    place.put("0001.png", gone)
    assert counts(ingested(store, Url(bucket))) == (3, 1, 0, 2, 0, 0)


def test_no_secret_is_kept_or_said(
    s3: S3Server, corpus: Path, bucket: str, tmp_path: Path, capsys: Captured
) -> None:
    upload(corpus, bucket)
    secret = s3.environment()["AWS_SECRET_ACCESS_KEY"]
    here = ["--store", str(tmp_path / "feats")]
    run(["ingest", bucket, "--tagger", "demo", "--batch-size", "4", "--json", *here])
    told = capsys.readouterr()
    assert json.loads(told.out)["tagged"] == 20
    run(["query", "true", "--store", str(tmp_path / "feats"), "--columns", "file", "--csv"])
    assert f"{bucket}/a/0000.png" in capsys.readouterr().out
    run(["ingest", bucket.replace("s3://", f"s3://key:{secret}@"), *here], code=1)
    told_too = capsys.readouterr()
    for text in (told.out, told.err, told_too.out, told_too.err):
        assert secret not in text
    for path in (tmp_path / "feats").rglob("*.json"):
        assert secret not in path.read_text()


def test_a_store_in_the_same_bucket_below_its_corpus(bucket: str, tmp_path: Path, capsys: Captured) -> None:
    upload(make_images(tmp_path / "c", 3)[0].parent, bucket)
    for expected in ("3 = 3 tagged", "3 = 0 tagged + 0 copied + 3 unchanged"):
        run(["ingest", bucket, "--store", f"{bucket}/feats", "--tagger", "demo", "--batch-size", "4"])
        assert expected in " ".join(capsys.readouterr().err.split())
    run(["ingest", bucket, "--store", f"{bucket}/feats", "--dry-run", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["found"], report["ignored"]) == (3, 0)
