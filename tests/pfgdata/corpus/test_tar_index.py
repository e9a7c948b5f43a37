"""Tars with an index beside them: listed from it, read by it, and never believed against the tar."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pfgdata.corpus import list_sidecars
from pfgdata.errors import AccessError
from tests.pfgdata.corpus.packing import found_in, make_tar, members_of, read_member

MEMBERS = [(b"b.jpg", b"bytes of b"), (b"a/a.jpg", b"a"), (b"b.txt", b"1girl, solo"), (b"notes.md", b"no")]


def write_index(tar: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """The index that hfutils writes of a tar, with a `change`."""
    with tarfile.open(tar) as members:
        files = {one.name: {"offset": one.offset_data, "size": one.size, "sha256": "0"} for one in members}
    value = {"filesize": tar.stat().st_size, "hash": "0", "hash_lfs": "0", "files": files}
    change(value)
    path = tar.with_suffix(".json")
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def indexed_tar(tmp_path: Path) -> Path:
    """A tar with an index that is right."""
    tar = make_tar(tmp_path / "0000.tar", MEMBERS)
    write_index(tar)
    return tar


def cut(tar: Path) -> None:
    """Leave nothing of the tar's headers; its size stays, so that only an index can list it."""
    data = bytearray(tar.read_bytes())
    data[:512] = b"\xff" * 512
    tar.write_bytes(data)


def test_an_indexed_tar_is_listed_as_by_itself(indexed_tar: Path) -> None:
    by_index = found_in(indexed_tar)
    sidecars = list_sidecars(indexed_tar.parent, b"0000.tar")
    indexed_tar.with_suffix(".json").unlink()
    assert by_index == found_in(indexed_tar)
    assert sidecars == list_sidecars(indexed_tar.parent, b"0000.tar")


def test_an_indexed_tar_is_not_read_to_be_listed(indexed_tar: Path) -> None:
    cut(indexed_tar)
    assert members_of(indexed_tar) == [b"a/a.jpg", b"b.jpg"]


def test_members_are_read_by_the_index(indexed_tar: Path) -> None:
    assert read_member(indexed_tar, b"a/a.jpg") == b"a"
    assert read_member(indexed_tar, b"b.jpg") == b"bytes of b"
    assert read_member(indexed_tar, b"b.txt") == b"1girl, solo"


def test_where_the_tar_has_something_else_than_its_index_says_the_member_is_refused(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "0000.tar", MEMBERS)
    write_index(tar, lambda value: value["files"]["b.jpg"].update(offset=1024 + 512 + 100))
    with pytest.raises(AccessError, match="index beside it says; write the index anew"):
        read_member(tar, b"b.jpg")
    write_index(tar, lambda value: value["files"]["b.jpg"].update(size=4))
    with pytest.raises(AccessError, match="index beside it says"):
        read_member(tar, b"b.jpg")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(filesize=7),  # of another tar
        lambda value: value["files"]["b.jpg"].update(offset=1 << 40),
        lambda value: value["files"]["b.jpg"].update(size=-1),
        lambda value: value["files"]["b.jpg"].update(offset=True),
        lambda value: value["files"].update({"c.jpg": None}),
        lambda value: value.update(files=["b.jpg"]),
        lambda value: value.pop("files"),
    ],
)
def test_what_cannot_be_the_index_of_this_tar_is_none(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    tar = make_tar(tmp_path / "0000.tar", MEMBERS)
    write_index(tar, change)
    assert members_of(tar) == [b"a/a.jpg", b"b.jpg"]
    assert read_member(tar, b"b.jpg") == b"bytes of b"


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_file_beside_a_tar_that_is_no_index_changes_nothing(tmp_path: Path, data: bytes) -> None:
    tar = make_tar(tmp_path / "0000.tar", MEMBERS)
    tar.with_suffix(".json").write_bytes(data)
    assert members_of(tar) == [b"a/a.jpg", b"b.jpg"]


def test_an_index_that_is_written_while_a_process_reads_is_taken(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "0000.tar", MEMBERS)
    assert read_member(tar, b"b.jpg") == b"bytes of b"
    write_index(tar, lambda value: value["files"].pop("b.jpg"))
    with pytest.raises(AccessError, match="no longer in its archive"):
        read_member(tar, b"b.jpg")
