"""Numbers and archives of others: no time, size or end of theirs stops an ingest or costs a row."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pfgdata.corpus import WalkOptions, plan_segments
from pfgdata.ingest import IngestReport, ingest, plan_ingest, prune
from pfgdata.store import Store, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

DAY = 86_400_000_000_000
YEARS = {"1601": -134_774 * DAY, "1677": -(2**63), "2262": 2**63 - 1, "2300": 120_530 * DAY}
OPEN = WalkOptions(archives=True)


def bring(images: Path, store: Store) -> IngestReport:
    """Ingest the folder, and what is in its archives, into the store."""
    return ingest(plan_segments([images], store.roots(), options=OPEN), store, CheapTagger())


def pack(path: Path, images: Sequence[Path], links: Sequence[tuple[str, str]] = ()) -> bytes:
    """A tar of the images by their names, and of hard links."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for image in images:
            info = tarfile.TarInfo(image.name)
            info.size = image.stat().st_size
            tar.addfile(info, io.BytesIO(image.read_bytes()))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return path.read_bytes()


@pytest.mark.parametrize("year", list(YEARS))
def test_a_file_of_any_year_is_a_row_and_unchanged_the_next_time(tmp_path: Path, year: str) -> None:
    images = tmp_path / "images"
    first, second, third = make_images(images, 3)
    pack(images / "a.tar", [third])
    third.unlink()
    for path in (second, images / "a.tar"):
        os.utime(path, ns=(0, YEARS[year]))
    (images / "link.png").symlink_to(second)
    store = new_store(tmp_path / "feats")
    segments = plan_segments([images], {}, options=OPEN)
    assert plan_ingest(segments, store).pending == 4
    report = bring(images, store)
    assert (report.tagged, report.copied, report.failed) == (3, 1, 0)
    times = store.snapshot().images(["mtime_ns"])["mtime_ns"].to_pylist()
    kept = max(-(2**63), min((images / "a.tar").stat().st_mtime_ns, 2**63 - 1))
    assert times == [first.stat().st_mtime_ns, kept, kept, kept]
    assert (bring(images, store).unchanged, plan_ingest(segments, store).unchanged) == (4, 4)
    assert prune(store).files == () and verify(store.path, deep=True) == []


@pytest.mark.parametrize("size", [2**63, 2**64, 2**80])
def test_a_member_of_an_impossible_size_is_a_failure_and_the_rest_is_done(tmp_path: Path, size: int) -> None:
    images = tmp_path / "images"
    packed = pack(tmp_path / "whole.tar", make_images(tmp_path / "plain", 3))
    images.mkdir()
    header = tarfile.TarInfo("huge.png")
    header.size = size
    (images / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + packed)
    store = new_store(tmp_path / "feats")
    segments = plan_segments([images], {}, options=OPEN)
    assert plan_ingest(segments, store).pending == 5
    report = bring(images, store)
    reasons = {Path(one.file).name: one.reason for one in report.failures}
    assert report.tagged == 3 and set(reasons) == {"a.tar", "a.tar!huge.png"}
    assert "over the limit" in reasons["a.tar!huge.png"]
    assert reasons["a.tar"] == "damaged or cut off after 1 images"
    again = bring(images, store)
    assert (again.unchanged, again.failed, again.gone) == (3, 2, 0)
    failed = store.snapshot().failures(["size"])["size"].to_pylist()
    assert min(size, 2**64 - 1) in failed


def test_a_cut_tar_is_named_and_costs_no_row_until_it_is_whole_again(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    whole = pack(images / "a.tar", make_images(tmp_path / "plain", 20))
    store = new_store(tmp_path / "feats")
    assert bring(images, store).tagged == 20
    with tarfile.open(images / "a.tar") as tar:
        edge = tar.getmembers()[17].offset
    (images / "a.tar").write_bytes(whole[:edge])
    report = bring(images, store)
    assert (report.found, report.failed, report.gone) == (18, 1, 0)
    assert report.failures[0].reason == "cut off after 17 images: the block that ends a tar is missing"
    assert prune(store, yes=True).files == () and store.snapshot().num_images == 20
    (images / "a.tar").write_bytes(whole)
    report = bring(images, store)
    assert (report.found, report.failed) == (20, 0) and store.snapshot().failures().num_rows == 0


def test_a_hard_link_in_a_tar_is_a_row_copied_from_its_target(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    pack(images / "a.tar", make_images(tmp_path / "plain", 2), [("z.png", "0000.png"), ("y.png", "gone.png")])
    store = new_store(tmp_path / "feats")
    report = bring(images, store)
    assert (report.tagged, report.copied, report.failed, report.ignored) == (2, 1, 1, 0)
    rows = {row["member"]: row for row in store.snapshot().images().to_pylist()}
    assert rows["z.png"]["content_id"] == rows["0000.png"]["content_id"]
    assert [one.reason for one in report.failures] == ["a hard link to what its archive does not hold"]
