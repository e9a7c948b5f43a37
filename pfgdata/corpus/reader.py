"""The bytes of one image of a corpus, read so that no file can harm or stall a run.

A pipe would block, a device could be endless, and any folder on the way may have become a link out of the
corpus since the walk: the file is judged before it is opened, and again by what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pfgdata.errors import AccessError, ContentError
from pfgdata.records import ImageKey

__all__ = ["MAX_BYTES", "ReadResult", "read"]

MAX_BYTES = 2 << 30  # 200 megapixels of uncompressed 16-bit RGBA are 1.6 GB

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """A file's bytes, and the size and mtime_ns it had both before and after they were read."""

    data: bytes
    size: int
    mtime_ns: int


def read(location: Path, key: ImageKey, *, max_bytes: int = MAX_BYTES) -> ReadResult:
    """Read the image `key` of a corpus root that is now at `location`.

    Raises AccessError where there is no whole file to be had this time: gone, no permission, changed while
    read, no plain file, a link out of the root; ContentError where it has over `max_bytes`.
    """
    if key.member is not None:
        raise AccessError("a member of an archive, which this version does not read")
    try:
        return _read(os.fsencode(location), key.path, max_bytes)
    except OSError as problem:
        raise AccessError(_reason(problem)) from problem


def _read(base: bytes, path: bytes, max_bytes: int) -> ReadResult:
    target = _target(base, path)
    _require_plain(os.lstat(target))
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(file.fileno())
        _require_plain(before)
        if before.st_size > max_bytes:
            raise ContentError(f"{before.st_size:,} bytes, over the limit of {max_bytes:,}")
        data = file.read(before.st_size + 1)  # and no more, however fast it grows
        after = os.fstat(file.fileno())
    if _version(before) != _version(after) or len(data) != before.st_size:
        raise AccessError("changed while it was read")
    return ReadResult(data=data, size=before.st_size, mtime_ns=before.st_mtime_ns)


def _target(base: bytes, path: bytes) -> bytes:
    """The file behind every link of the path, which must be inside the root."""
    target = os.path.realpath(base + b"/" + path, strict=True)
    if not target.startswith(os.path.realpath(base).rstrip(b"/") + b"/"):
        raise AccessError("a link out of the corpus")
    return target


def _require_plain(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise AccessError(f"{_KINDS.get(stat.S_IFMT(state.st_mode), 'something else')}, no plain file")


def _version(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _reason(problem: OSError) -> str:
    if problem.errno == errno.ENOENT:
        return "gone, or a link to nothing"
    if problem.errno == errno.ELOOP:
        return "a link to itself"
    return (problem.strerror or type(problem).__name__).lower()
