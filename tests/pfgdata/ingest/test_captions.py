"""Captions beside images: whose rows get them, what stays, what is reported."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pfgdata.corpus import WalkOptions, plan_segments
from pfgdata.errors import StoreError, StoreLockedError
from pfgdata.ingest import CaptionsReport, ingest, write_captions
from pfgdata.store import Store, unmatched_rows, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger


def ingested(folder: Path, store: Store | None = None) -> Store:
    """`folder` in a store, by default a new one beside it."""
    store = store or new_store(folder.parent / "feats")
    ingest(plan_segments([folder], store.roots()), store, CheapTagger())
    return store


def captioned(folder: Path, store: Store) -> CaptionsReport:
    """What reading the captions in `folder` reports."""
    return write_captions(store, plan_segments([folder], store.roots()))


def captions(store: Store) -> dict[str, str]:
    """The column, by path."""
    table = store.read_column("captions")
    return dict(zip(table["path"].to_pylist(), table["value"].to_pylist(), strict=True))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three images, two of them captioned, and two in a folder, one of them captioned."""
    make_images(tmp_path / "images", 3)
    make_images(tmp_path / "images" / "sub", 2, seed=1)
    (tmp_path / "images" / "0000.txt").write_text("1girl, solo")
    (tmp_path / "images" / "0001.png.json").write_text('{"tags": ["miku"]}')
    (tmp_path / "images" / "sub" / "0000.caption").write_text("a girl in the rain")
    return tmp_path / "images"


FIRST = {"0000.png": "1girl, solo", "0001.png": "miku", "sub/0000.png": "a girl in the rain"}


def test_captions_become_a_column_in_the_stable_order(corpus: Path) -> None:
    store = ingested(corpus)
    report = captioned(corpus, store)
    assert (report.captions, report.without, report.orphans, report.warnings) == (3, 2, [], [])
    assert list(captions(store).items()) == list(FIRST.items())
    snapshot = store.snapshot()
    values = store.column_values("captions", snapshot, snapshot.everything).to_pylist()
    assert values == ["1girl, solo", "miku", None, "a girl in the rain", None]
    assert (
        len(unmatched_rows(store.read_column("captions"), snapshot)) == 0
        and verify(store.path, deep=True) == []
    )


def test_a_second_run_without_change_writes_nothing(corpus: Path) -> None:
    store = ingested(corpus)
    first = captioned(corpus, store)
    path = store.path / "columns" / "captions.parquet"
    written = path.stat()
    assert captioned(corpus, store) == first
    assert path.stat().st_ino == written.st_ino and path.stat().st_mtime_ns == written.st_mtime_ns


def test_a_changed_a_new_and_a_removed_caption_are_taken_over(corpus: Path) -> None:
    store = ingested(corpus)
    captioned(corpus, store)
    (corpus / "0000.txt").write_text("2girls")
    (corpus / "0001.png.json").unlink()
    (corpus / "0002.txt").write_text("")
    report = captioned(corpus, store)
    assert (report.captions, report.without) == (3, 2)
    expected = {"0000.png": "2girls", "0002.png": "", "sub/0000.png": "a girl in the rain"}
    assert captions(store) == expected


def test_a_run_on_one_folder_leaves_the_captions_of_others(corpus: Path) -> None:
    store = ingested(corpus)
    captioned(corpus, store)
    other = corpus.with_name("other")
    make_images(other, 1, seed=5)
    (other / "0000.txt").write_text("other")
    ingested(other, store)
    (corpus / "0000.txt").unlink()
    (corpus / "sub" / "0000.caption").write_text("changed")
    report = captioned(corpus / "sub", store)
    assert (report.captions, report.without) == (1, 1)
    assert captions(store) == {**FIRST, "sub/0000.png": "changed"}
    assert captioned(other, store).captions == 1
    table = store.read_column("captions")
    assert table["value"].to_pylist() == ["1girl, solo", "miku", "changed", "other"]
    assert table["root"].to_pylist() == [str(corpus)] * 3 + [str(other)]


def test_the_last_caption_removed_leaves_an_empty_column(corpus: Path) -> None:
    store = ingested(corpus)
    captioned(corpus, store)
    for path in (corpus / "0000.txt", corpus / "0001.png.json", corpus / "sub" / "0000.caption"):
        path.unlink()
    assert captioned(corpus, store).without == 5
    assert captions(store) == {} and verify(store.path, deep=True) == []


def test_without_any_caption_no_column_is_made(small_corpus: Path) -> None:
    store = ingested(small_corpus)
    assert captioned(small_corpus, store).without == 40
    assert store.columns() == []


def test_images_of_one_stem_share_a_caption_that_is_read_and_warned_of_once(corpus: Path) -> None:
    (corpus / "0002.webp").write_bytes((corpus / "0002.png").read_bytes())
    (corpus / "0002.txt").write_text("shared")
    store = ingested(corpus)
    assert captioned(corpus, store).captions == 5
    assert (captions(store)["0002.png"], captions(store)["0002.webp"]) == ("shared", "shared")
    (corpus / "0002.txt").write_bytes(b"\x83~\x83N")
    report = captioned(corpus, store)
    assert report.warnings == [(f"{corpus}/0002.txt", "a caption that is not UTF-8; save it as UTF-8")]
    assert captions(store) == FIRST


def test_orphans_are_named_and_the_caption_of_a_broken_image_is_none(corpus: Path) -> None:
    (corpus / "0003.png").write_bytes(b"no image")
    for name in ("0003.txt", "orphan.txt"):
        (corpus / name).write_text("solo")
    report = captioned(corpus, ingested(corpus))
    assert report.orphans == [f"{corpus}/orphan.txt"] and report.captions == 3


def test_what_cannot_be_read_this_time_keeps_its_caption(closed_to_us: Path) -> None:
    corpus = closed_to_us / "images"
    make_images(corpus / "sub", 2)
    for path in (corpus / "0000.png", corpus / "sub" / "0000.png"):
        path.write_bytes((corpus / "sub" / "0001.png").read_bytes())
        path.with_suffix(".txt").write_text("solo")
    store = ingested(corpus)
    captioned(corpus, store)
    segments = plan_segments([corpus], store.roots())
    (corpus / "0000.txt").chmod(0)
    (corpus / "sub").chmod(0)
    try:
        report = write_captions(store, segments)
    finally:
        (corpus / "sub").chmod(0o755)
    assert report.warnings == [
        (f"{corpus}/0000.txt", "permission denied"),
        (f"{corpus}/sub", "permission denied"),
    ]
    assert captions(store) == {"0000.png": "solo", "sub/0000.png": "solo"}


def test_nothing_outside_the_corpus_becomes_a_caption(corpus: Path) -> None:
    (corpus.parent / "secret.txt").write_text("secret")
    (corpus / "0002.txt").symlink_to("../secret.txt")
    os.mkfifo(corpus / "sub" / "0001.txt")
    store = ingested(corpus)
    report = captioned(corpus, store)
    assert [reason for _, reason in report.warnings] == [
        "a link out of the corpus",
        "a named pipe, no plain file",
    ]
    assert captions(store) == FIRST


def test_names_that_are_no_utf8_keep_their_captions(tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "images", 1)
    image.rename(os.fsdecode(os.fsencode(tmp_path) + b"/images/bad_\xff.png"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/images/bad_\xff.txt")).write_text("solo")
    store = ingested(tmp_path / "images")
    assert captioned(tmp_path / "images", store).captions == 1
    snapshot = store.snapshot()
    assert store.column_values("captions", snapshot, snapshot.everything).to_pylist() == ["solo"]


def test_a_column_of_that_name_that_was_made_by_hand_is_not_replaced(corpus: Path) -> None:
    store = ingested(corpus)
    store.write_column("captions", pa.table({"path": ["0000.png"], "value": ["mine"]}))
    with pytest.raises(StoreError, match="was not made from files beside images"):
        captioned(corpus, store)
    assert captions(store) == {"0000.png": "mine"}


def test_captions_are_not_written_while_another_process_writes(corpus: Path) -> None:
    store = ingested(corpus)
    with store.writer(), pytest.raises(StoreLockedError):
        captioned(corpus, Store.open(store.path))


def test_captions_of_folders_read_at_once_are_all_kept(tmp_path: Path) -> None:
    for number in range(6):
        for image in make_images(tmp_path / "images" / str(number), 2, seed=number):
            image.with_suffix(".txt").write_text("solo")
    store = ingested(tmp_path / "images")

    def read(number: int) -> CaptionsReport:
        mine = Store.open(store.path)
        return write_captions(
            mine, plan_segments([tmp_path / "images" / str(number)], mine.roots()), wait=True
        )

    with ThreadPoolExecutor(6) as pool:
        assert [report.captions for report in pool.map(read, range(6))] == [2] * 6
    assert len(captions(store)) == 12


def webdataset(path: Path, images: list[Path], captions: dict[str, bytes]) -> None:
    """A tar of images, each with its caption beside it."""
    with tarfile.open(path, "w") as tar:
        for image in images:
            tar.add(image, f"part/{image.name}")
        for name, data in captions.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_members_of_archives_have_their_captions_beside_them(tmp_path: Path) -> None:
    images = make_images(tmp_path / "plain", 3)
    texts = {"part/0000.txt": b"1girl", "part/0001.json": b'{"caption": "a girl"}', "part/0002.txt": b"\x83~"}
    (tmp_path / "images").mkdir()
    webdataset(tmp_path / "images" / "0.tar", images, {**texts, "0002.txt": b"elsewhere", "part/9.txt": b""})
    with zipfile.ZipFile(tmp_path / "images" / "1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(images[0], "../../0000.png")
        archive.writestr("../../0000.txt", "solo")
    (tmp_path / "0000.txt").write_text("never read")
    store, options = new_store(tmp_path / "feats"), WalkOptions(archives=True)
    segments = plan_segments([tmp_path / "images"], {}, options=options)
    ingest(segments, store, CheapTagger())
    report = write_captions(store, segments)
    assert (report.captions, report.without) == (3, 1)
    place = f"{tmp_path}/images/0.tar"
    assert report.orphans == [f"{place}!0002.txt", f"{place}!part/9.txt"]
    assert report.warnings == [(f"{place}!part/0002.txt", "a caption that is not UTF-8; save it as UTF-8")]
    table = store.read_column("captions")
    assert table["member"].to_pylist() == ["part/0000.png", "part/0001.png", "../../0000.png"]
    assert table["value"].to_pylist() == ["1girl", "a girl", "solo"]
    assert write_captions(store, segments) == report


def test_an_archive_that_is_gone_keeps_its_captions(tmp_path: Path) -> None:
    webdataset(tmp_path / "0.tar", make_images(tmp_path / "plain", 1), {"part/0000.txt": b"1girl"})
    store = new_store(tmp_path / "feats")
    segments = plan_segments([tmp_path / "0.tar"], {})
    ingest(segments, store, CheapTagger())
    write_captions(store, segments)
    (tmp_path / "0.tar").unlink()
    report = write_captions(store, segments)
    assert report.warnings == [(f"{tmp_path}/0.tar", "gone, or a link to nothing")]
    assert store.read_column("captions")["value"].to_pylist() == ["1girl"]


def test_captions_that_a_cut_archive_no_longer_shows_are_kept(tmp_path: Path) -> None:
    images = make_images(tmp_path / "plain", 3)
    webdataset(tmp_path / "0.tar", images, {f"part/{n:04d}.txt": b"tag %d" % n for n in range(3)})
    store = new_store(tmp_path / "feats")
    segments = plan_segments([tmp_path / "0.tar"], {})
    ingest(segments, store, CheapTagger())
    write_captions(store, segments)
    with tarfile.open(tmp_path / "0.tar") as tar:
        edge = tar.getmembers()[-1].offset
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:edge])
    report = write_captions(store, segments)
    assert [place for place, _ in report.warnings] == [f"{tmp_path}/0.tar"]
    assert report.warnings[0][1].startswith("cut off after ")
    assert store.read_column("captions")["value"].to_pylist() == ["tag 0", "tag 1", "tag 2"]
