"""What the system refuses while a store is written is one line, and leaves nothing half visible."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pfgdata.errors import StoreError
from pfgdata.files import explained
from pfgdata.store import Store, compact, gc, verify
from tests.conftest import make_images, new_store
from tests.pfgdata.store.small_shards import contents, paths_of

MANY = tuple(b"%03d" % index for index in range(400))  # 0.6 MB of features


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def leftovers(store: Store) -> list[Path]:
    return list(store.path.rglob(".tmp-*"))


def test_a_full_disk_is_one_line_and_the_same_again_goes_on(small_disk: Path) -> None:
    store = new_store(small_disk / "feats")
    with store.writer() as writer:
        writer.commit(contents(b"first"))
        fat = small_disk / "fat"
        fat.write_bytes(b"x" * 600_000)
        with pytest.raises(
            StoreError, match=r"no space left on the disk of .*feats; free some space and run"
        ):
            writer.commit(contents(*MANY))
    assert paths_of(store) == ["first"] and leftovers(store) == []
    assert verify(store.path, deep=True) == []
    fat.unlink()
    with store.writer() as writer:
        writer.commit(contents(*MANY))
    assert len(paths_of(store)) == 401


def test_every_way_to_write_says_that_the_disk_is_full(small_disk: Path) -> None:
    store = new_store(small_disk / "feats")
    with store.writer() as writer:
        for path in (b"a", b"b"):
            writer.commit(contents(path))
    (small_disk / "fat").write_bytes(b"")
    with pytest.raises(OSError, match="space"), (small_disk / "fat").open("ab") as fat:
        while True:
            os.write(fat.fileno(), b"x" * 4096)
    table = pa.table({"path": pa.array(["a"]), "value": pa.array([1])})

    def set_roots() -> None:
        with store.writer() as writer:
            writer.set_roots({"/r": "/r"})

    for write in (
        lambda: new_store(small_disk / "second"),
        lambda: store.write_column("split", table),
        lambda: compact(store),
        set_roots,
    ):
        with pytest.raises(StoreError, match="no space left"):
            write()
    assert paths_of(store) == ["a", "b"] and leftovers(store) == []


def test_gc_frees_a_disk_that_is_full(small_disk: Path) -> None:
    store = new_store(small_disk / "feats")
    with store.writer() as writer:
        for path in (b"a", b"b"):
            writer.commit(contents(path))
    compact(store)
    with pytest.raises(OSError, match="space"), (small_disk / "fat").open("ab") as fat:
        while True:
            os.write(fat.fileno(), b"x" * 4096)
    assert len(gc(store, older_than=0).removed) == 2
    with store.writer() as writer:
        writer.commit(contents(b"c"))
    assert paths_of(store) == ["a", "b", "c"]


def test_a_disk_mounted_read_only_is_named(small_disk: Path) -> None:
    store = new_store(small_disk / "feats")
    with store.writer() as writer:
        writer.commit(contents(b"a"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="mounted read-only"), store.writer():
        pass
    with pytest.raises(StoreError, match="mounted read-only"):
        new_store(small_disk / "second")
    assert paths_of(Store.open(store.path)) == ["a"]  # reading needs no right to write


def test_a_store_that_this_user_may_not_write_is_named_and_still_read(closed_to_us: Path) -> None:
    store = new_store(closed_to_us / "feats")
    with store.writer() as writer:
        writer.commit(contents(b"a"))
    (store.path / "shards").chmod(0o500)
    try:
        with store.writer() as writer, pytest.raises(StoreError, match="no permission to write"):
            writer.commit(contents(b"b"))
        assert paths_of(Store.open(store.path)) == ["a"]
    finally:
        (store.path / "shards").chmod(0o700)


def commit_many_under(limit: str, path: str, said: Any) -> None:
    """Under a limit of this process, commit MANY, and send what was said."""
    store = Store.open(Path(path))
    with store.writer() as writer:
        writer.commit(contents(b"warm"))  # imports are done, from here on only files count
        if limit == "files":
            free = os.dup(0)  # the lowest number that is free, and from now on not allowed
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            writer.commit(contents(*MANY))
        except StoreError as problem:
            said.send(str(problem))


@pytest.mark.parametrize(("limit", "expected"), [("files", "too many files open"), ("size", "larger than")])
def test_a_limit_of_the_process_is_named(tmp_path: Path, limit: str, expected: str) -> None:
    store = new_store(tmp_path / "feats")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=commit_many_under, args=(limit, str(store.path), theirs))
    child.start()
    assert ours.poll(60) and expected in ours.recv()
    child.join(60)
    assert paths_of(store) == ["warm"] and leftovers(store) == []


def commit_on_full_disks(path: str) -> None:
    """Commit shards of several sizes where each file may have some bytes less than their arrays need."""
    store = Store.open(Path(path))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.writer() as writer:
        for rows in (10, 30, 100, len(MANY)):
            for short in (1, 10_000, rows * 1536):  # bytes; the last leaves room for the header alone
                resource.setrlimit(resource.RLIMIT_FSIZE, (2048 + rows * 1536 - short, most))
                try:
                    writer.commit(contents(*MANY[:rows]))
                except StoreError as problem:
                    print(str(problem).partition(": ")[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        writer.commit(contents(*MANY))


def test_a_process_whose_arrays_found_no_room_says_so_goes_on_and_ends_well(tmp_path: Path) -> None:
    """HDF5 itself keeps what it could not write, and crashes with it at the end of the process."""
    store = new_store(tmp_path / "feats")
    script = f"from {__name__} import commit_on_full_disks; commit_on_full_disks({str(store.path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 12 and all(line.startswith("a file would be larger than") for line in said)
    assert len(paths_of(store)) == len(MANY) and leftovers(store) == []
    assert verify(store.path, deep=True) == []


def test_a_process_that_met_a_full_disk_ends_well(small_disk: Path) -> None:
    """As above, with what an array lacks being room on the disk."""
    images, store = small_disk.parent / "images", small_disk / "feats"
    make_images(images, 30)
    command = [sys.executable, "-m", "pfgdata", "ingest", str(images), "--store", str(store)]
    make = [*command, "--tagger", "demo", "--min-side", "1000"]  # of no image: only the store is made
    assert subprocess.run(make, capture_output=True, check=False).returncode == 0
    free = shutil.disk_usage(small_disk).free
    (small_disk / "fat").write_bytes(b"x" * (free - 40_960))  # tables fit, 30 features of 1,536 bytes do not
    done = subprocess.run([*command, "--retry-failed"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no space left on the disk" in done.stderr, done.stderr


def test_an_error_that_is_no_trouble_of_the_disk_passes() -> None:
    with pytest.raises(FileNotFoundError), explained(Path("feats")):
        raise FileNotFoundError(errno.ENOENT, "no such file")
