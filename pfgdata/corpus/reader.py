"""The bytes of one image of a corpus, read so that no file can harm or stall a run.

A pipe would block, a device could be endless, and any folder on the way may have become a link out of the
corpus since the walk: the file is judged before it is opened, and again by what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pfgdata.corpus.archives import Index, IndexCache, index_archive, member_bytes, member_of, read_at
from pfgdata.corpus.names import ArchiveKind, archive_kind
from pfgdata.corpus.remote import read_remote, remote_index
from pfgdata.corpus.tar_index import MAX_INDEX_BYTES, index_beside, index_from_json
from pfgdata.errors import AccessError, ContentError, ImageError
from pfgdata.paths import Place, Url
from pfgdata.records import ImageKey

__all__ = [
    "MAX_BYTES",
    "Archive",
    "ReadResult",
    "file_time",
    "index_of",
    "member_names",
    "open_plain",
    "read",
    "read_file",
]

MAX_BYTES = 2 << 30  # 200 megapixels of uncompressed 16-bit RGBA are 1.6 GB

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_CHANGED = "changed while it was read"
_INDEXES = IndexCache(members=300_000, archives=256)  # some 75 MB and the names


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """An image's bytes, their number, and the mtime_ns its file had both before and after they were read."""

    data: bytes
    size: int
    mtime_ns: int


def read(
    location: Place, key: ImageKey, *, max_bytes: int = MAX_BYTES, follow_links: bool = False
) -> ReadResult:
    """Read the image `key` of a corpus root that is now at `location`.

    Raises AccessError where there is no whole file to be had this time: gone, no permission, changed while
    read, no plain file, a link out of the root unless `follow_links`; ContentError where it has over
    `max_bytes`, or is a member that its archive cannot give. The key of an archive itself raises what is
    wrong with it.
    """
    if isinstance(location, Url):
        file, data = read_remote(location, key, max_bytes=max_bytes)
        return ReadResult(data=data, size=len(data), mtime_ns=file.mtime_ns)
    kind, base = archive_kind(key.path), os.fsencode(location)

    def content(file: BinaryIO, state: os.stat_result) -> bytes:
        if kind is None and key.member is None:
            return _whole(file, state, max_bytes)
        if kind is None:
            raise AccessError("no archive by its name")
        index = _index(Archive(base, key.path, kind, follow_links), file, state)
        return member_bytes(
            partial(read_at, file.fileno()), member_of(index, key.member), max_bytes=max_bytes
        )

    return _read(base, key.path, content, follow_links=follow_links)


def read_file(path: Path) -> ReadResult:
    """Read a file that a user names, links followed, whatever its name says it is. Raises as `read`."""
    base, name = os.fsencode(path.parent), os.fsencode(path.name)
    return _read(base, name, lambda file, state: _whole(file, state, MAX_BYTES), follow_links=True)


def file_time(state: os.stat_result) -> int:
    """The mtime_ns of a file within int64, as a row holds it: years before 1677 and after 2262 are those."""
    return max(-(2**63), min(state.st_mtime_ns, 2**63 - 1))


def member_names(
    location: Place, path: bytes, *, follow_links: bool = False
) -> tuple[list[bytes], str | None]:
    """The images and their sidecars in the archive at `path`, and why there may be more. Raises as `read`."""
    kind = archive_kind(path)
    if kind is None:
        raise AccessError("no archive by its name")
    if isinstance(location, Url):
        index = remote_index(location, path, kind)
        return [*index.members, *index.sidecars], index.problem
    try:
        base = os.fsencode(location)
        with open_plain(base, path, follow_links=follow_links) as (file, state):
            index = _index(Archive(base, path, kind, follow_links), file, state)
    except OSError as problem:
        raise AccessError(_reason(problem)) from problem
    return [*index.members, *index.sidecars], index.problem


@contextmanager
def open_plain(base: bytes, path: bytes, *, follow_links: bool) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """The plain file at `path` below `base`, open, and its stat. Raises AccessError, OSError as `read`."""
    target = _target(base, path, follow_links)
    _require_plain(os.lstat(target))
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        _require_plain(state)
        yield file, state


def _read(
    base: bytes,
    path: bytes,
    content: Callable[[BinaryIO, os.stat_result], bytes],
    *,
    follow_links: bool,
) -> ReadResult:
    """What `content` gives of the plain file at `path` below `base`. Raises as `read`."""
    try:
        with open_plain(base, path, follow_links=follow_links) as (file, before):
            data = content(file, before)
            after = os.fstat(file.fileno())
    except OSError as problem:
        raise AccessError(_reason(problem)) from problem
    except MemoryError:
        raise AccessError("out of memory while reading") from None
    if _version(before) != _version(after):
        raise AccessError(_CHANGED)
    return ReadResult(data=data, size=len(data), mtime_ns=file_time(before))


def _whole(file: BinaryIO, state: os.stat_result, max_bytes: int) -> bytes:
    size = state.st_size
    if size > max_bytes:
        raise ContentError(f"{size:,} bytes, over the limit of {max_bytes:,}")
    data = file.read(size + 1)  # and no more, however fast it grows
    if len(data) != size:
        raise AccessError(_CHANGED)
    return data


class Archive(NamedTuple):
    """An archive by its place."""

    base: bytes
    path: bytes
    kind: ArchiveKind
    follow_links: bool


def index_of(archive: Archive, file: BinaryIO, state: os.stat_result) -> Index:
    """The images of an open archive, by the index beside it, if it has one. Raises as `index_archive`."""
    beside = index_beside(archive.path)
    if beside is not None:
        try:
            with open_plain(archive.base, beside, follow_links=archive.follow_links) as (listing, listed):
                if listed.st_size <= MAX_INDEX_BYTES:
                    found = index_from_json(listing.read(listed.st_size), tar_size=state.st_size)
                    if found is not None:
                        return found
        except (ImageError, OSError):
            pass  # none that can be read: the tar is
    return index_archive(file, archive.kind)


def _index(archive: Archive, file: BinaryIO, state: os.stat_result) -> Index:
    version = (archive.kind, state.st_dev, state.st_ino, *_version(state), *_version_beside(archive))
    return _INDEXES.get(version, lambda: index_of(archive, file, state))


def _version_beside(archive: Archive) -> tuple[int, ...]:
    beside = index_beside(archive.path)
    try:
        return _version(os.stat(archive.base + b"/" + beside)) if beside else ()  # noqa: PTH116  (bytes)
    except OSError:
        return ()


def _target(base: bytes, path: bytes, follow_links: bool) -> bytes:
    """The file behind every link of the path, which must be inside the root."""
    target = os.path.realpath(base + b"/" + path, strict=True)
    if not follow_links and not target.startswith(os.path.realpath(base).rstrip(b"/") + b"/"):
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
