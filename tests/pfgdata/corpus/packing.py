"""Archives and folders that tests make, and what a walk finds in them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from pfgdata.corpus import WalkCounts, WalkOptions, plan_segments, read, walk
from pfgdata.records import Found, ImageKey

__all__ = ["TREE", "found_in", "make_tar", "make_tree", "make_zip", "members_of", "read_member"]

OPEN = WalkOptions(archives=True)

TREE = ("a/1.jpg", "a/2.png", "a/b/3.jpg", "a-b/4.jpg", "a.jpg", "z.jpg")


def make_tree(folder: Path, names: tuple[str, ...] = TREE) -> Path:
    """Files called so, each with its name as content."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def make_tar(path: Path, members: Iterable[tuple[bytes, bytes]], kind: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, members: Iterable[tuple[str, bytes]], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def found_in(path: Path, options: WalkOptions = OPEN, counts: WalkCounts | None = None) -> list[Found]:
    counts = counts or WalkCounts()
    segments = plan_segments([path], {}, options=options)
    found = [one for segment in segments for one in walk(segment, counts=counts)]
    assert counts.found == len(found)
    return found


def members_of(path: Path) -> list[bytes | None]:
    return [one.key.member for one in found_in(path)]


def read_member(path: Path, name: bytes | None, *, max_bytes: int = 1 << 20) -> bytes:
    key = ImageKey(root="/r", path=os.fsencode(path.name), member=name)
    return read(path.parent, key, max_bytes=max_bytes).data
