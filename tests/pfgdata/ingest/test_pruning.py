"""Prune drops what is gone, and never takes an unmounted disk for that."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pfgdata.corpus import WalkOptions, plan_segments
from pfgdata.errors import StoreError, StoreLockedError
from pfgdata.ingest import IngestOptions, IngestReport, PruneReport, ingest, prune
from pfgdata.store import Store, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

OPTIONS = IngestOptions(batch_size=8, shard_rows=16)


def bring(images: Path, store: Store) -> IngestReport:
    """Ingest the folder into the store."""
    options = WalkOptions(archives=True)
    segments = plan_segments([images], store.roots(), options=options)
    return ingest(segments, store, CheapTagger(), options=OPTIONS)


def paths(store: Store) -> list[str]:
    return sorted(Store.open(store.path).snapshot().images(["path"])["path"].to_pylist())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """38 images and two files that are none, in a folder."""
    folder = tmp_path / "images"
    make_images(folder, 38)
    for name in ("broken1.png", "broken2.png"):
        (folder / name).write_bytes(b"no image " + name.encode())
    return folder


@pytest.fixture
def store(images: Path, tmp_path: Path) -> Store:
    """A store of those."""
    store = new_store(tmp_path / "feats")
    bring(images, store)
    return store


def test_rows_and_failures_of_files_that_are_gone_are_dropped(images: Path, store: Store) -> None:
    for name in ("0003.png", "0030.png", "broken1.png"):
        (images / name).unlink()
    assert bring(images, store).gone == 2
    report = prune(store)
    assert (report.checked, report.images, report.failures) == (40, 2, 1)
    assert sorted(report.files) == [str(images / name) for name in ("0003.png", "0030.png", "broken1.png")]
    assert len(paths(store)) == 36 and "0003.png" not in paths(store)
    assert store.snapshot().failures(["path"])["path"].to_pylist() == ["broken2.png"]
    again = bring(images, store)
    assert (again.gone, again.unchanged, again.failed) == (0, 36, 1)
    assert verify(store.path, deep=True) == []


def test_a_prune_of_nothing_writes_nothing(store: Store) -> None:
    before = store.snapshot().present
    assert prune(store).files == ()
    assert store.snapshot().present == before


def test_a_dry_run_names_what_would_go_and_changes_nothing(images: Path, store: Store) -> None:
    (images / "0003.png").unlink()
    with store.writer():  # it needs no lock
        report = prune(store, dry_run=True)
    assert report.files == (str(images / "0003.png"),) and report.refused == ()
    assert len(paths(store)) == 38


def take_away(images: Path) -> None:
    images.rename(images.parent / "elsewhere")


def unmount(images: Path) -> None:
    take_away(images)
    images.mkdir()


def replace_by_a_file(images: Path) -> None:
    take_away(images)
    images.write_bytes(b"")


def remove_many(images: Path) -> None:
    for index in range(9):
        (images / f"{index:04d}.png").unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (take_away, "no such file"),
        (unmount, "is empty"),
        (replace_by_a_file, "not a directory"),
        (remove_many, "9 of 40 rows of root .* over a fifth"),
    ],
)
def test_what_looks_like_a_missing_disk_needs_a_yes(
    images: Path, store: Store, harm: Callable[[Path], None], reason: str
) -> None:
    harm(images)
    with pytest.raises(StoreError, match=rf"{reason}.*--yes"):
        prune(store)
    assert len(paths(store)) == 38
    planned = prune(store, dry_run=True)
    assert len(planned.refused) == 1
    done = prune(store, yes=True)
    assert (done.images, done.failures) == (planned.images, planned.failures) != (0, 0)
    assert len(paths(store)) == 38 - done.images


def test_one_missing_root_does_not_keep_another_from_being_pruned(images: Path, store: Store) -> None:
    other = images.parent / "other"
    make_images(other, 10, seed=3)
    bring(other, store)
    (other / "0009.png").unlink()
    take_away(images)
    with pytest.raises(StoreError, match=str(images)):
        prune(store)
    report = prune(store, roots=[str(other)])
    assert report.files == (str(other / "0009.png"),) and report.checked == 10
    with pytest.raises(StoreError, match="no corpus root"):
        prune(store, roots=["/nowhere"])


def test_a_moved_root_is_looked_for_where_it_is_now(images: Path, store: Store) -> None:
    (images / "0003.png").unlink()
    images.rename(images.parent / "moved")
    store.move_root(str(images), str(images.parent / "moved"))
    assert prune(store).files == (str(images.parent / "moved" / "0003.png"),)


def test_a_file_that_cannot_be_looked_at_is_not_gone(closed_to_us: Path) -> None:
    make_images(closed_to_us / "images" / "shut", 4)
    make_images(closed_to_us / "images" / "open", 4, seed=1)
    store = new_store(closed_to_us / "feats")
    bring(closed_to_us / "images", store)
    (closed_to_us / "images" / "shut").chmod(0)
    try:
        assert prune(store).files == ()
    finally:
        (closed_to_us / "images" / "shut").chmod(0o700)


def test_a_root_of_which_nothing_can_be_told_stays_and_keeps_no_other_from_being_pruned(
    closed_to_us: Path,
) -> None:
    shut, other, store = closed_to_us / "shut", closed_to_us / "other", new_store(closed_to_us / "feats")
    for seed, folder in enumerate((shut, other)):
        make_images(folder, 10, seed=seed)
        bring(folder, store)
    (other / "0009.png").unlink()
    shut.chmod(0)
    try:
        assert prune(store, dry_run=True).refused == ()
        report = prune(store)
    finally:
        shut.chmod(0o700)
    assert report.unseen == (f"{shut}: permission denied; all 10 rows of root {shut} stay",)
    assert (report.files, report.checked) == ((str(other / "0009.png"),), 10)
    assert len(paths(store)) == 19


def test_a_folder_that_became_a_file_takes_what_was_in_it_along(images: Path, store: Store) -> None:
    make_images(images / "sub", 2, seed=5)
    bring(images, store)
    shutil.rmtree(images / "sub")
    (images / "sub").write_bytes(b"")
    assert prune(store).images == 2


def test_names_that_are_not_utf8_are_looked_for_by_their_bytes(images: Path, store: Store) -> None:
    odd = os.fsencode(images) + b"/\xff\xfe.png"
    shutil.copy(images / "0000.png", os.fsdecode(odd))
    bring(images, store)
    assert prune(store).files == ()
    os.unlink(odd)  # noqa: PTH108  (bytes)
    assert prune(store).files == (f"{images}/\\xff\\xfe.png",)


def pack(archive: Path, images: Sequence[Path]) -> None:
    """A zip of those images, by their names."""
    with zipfile.ZipFile(archive, "w") as file:
        for image in images:
            file.write(image, image.name)


def test_members_go_with_their_archive_and_where_it_has_changed_without_them(
    images: Path, store: Store
) -> None:
    members = make_images(images.parent / "packed", 6, seed=9)
    for name in ("whole.zip", "less.zip", "broken.zip"):
        pack(images / name, members[:2] if name == "whole.zip" else members)
    brought = bring(images, store)
    assert (brought.tagged, brought.copied) == (6, 8)
    assert prune(store).files == ()
    (images / "whole.zip").unlink()
    pack(images / "less.zip", members[1:])
    (images / "broken.zip").write_bytes((images / "broken.zip").read_bytes()[:-30])
    gone = ["less.zip!0000.png", "whole.zip!0000.png", "whole.zip!0001.png"]
    assert sorted(prune(store).files) == [str(images / name) for name in gone]


def test_a_prune_waits_for_nobody(store: Store) -> None:
    with store.writer(), pytest.raises(StoreLockedError):
        prune(store)


def test_a_report_of_nothing_is_all_zeros(tmp_path: Path) -> None:
    assert prune(new_store(tmp_path / "empty")) == PruneReport(checked=0, images=0, failures=0, files=())
