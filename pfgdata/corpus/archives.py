"""Archives read in place: where each image of a tar or zip lies, and its bytes.

A member's name is only a name and never becomes a path. An archive may be hostile: nothing is unpacked beyond
the size its header states, and only plain and deflated members are read (bzip2 turns 1 KB into gigabytes).
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from pfgdata.corpus.names import ArchiveKind, is_image, is_passed_over
from pfgdata.errors import ContentError

__all__ = ["Index", "IndexCache", "Member", "index_archive", "member_bytes"]

_BLOCK = 512  # of a tar
_UTF8_NAME = 0x800  # flag bits of a zip entry
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30  # bytes before the name, whose length stands at 26 and that of the extra field at 28
_PACKED_HEADS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_NO_SEEKING = "a compressed tar, in which no image can be reached alone; unpack it to .tar or to a folder"
# What the two modules raise for bytes that are no archive; an OSError is the disk's and passes.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
    *(EOFError, ValueError, OverflowError, IndexError, KeyError, RecursionError, MemoryError),
)


class Member(NamedTuple):
    """Where the bytes of one image lie."""

    size: int  # unpacked
    offset: int  # of the bytes in a tar, of the local header in a zip
    packed: int  # bytes in the archive
    method: int | None = None  # of a zip: stored, deflated, others; None in a tar
    crc: int = 0
    encrypted: bool = False


@dataclass(slots=True)
class Index:
    """The images of one archive by name; `problem` says why there may be more."""

    members: dict[bytes, Member] = field(default_factory=dict)
    ignored: int = 0  # files that are no images by name, links, devices
    problem: str | None = None


def index_archive(file: BinaryIO, kind: ArchiveKind) -> Index:
    """The images of an open archive. Of several with one name the last counts.

    A tar that breaks off is indexed so far, with a `problem`. Raises ContentError where there is nothing to
    be had: no archive of that kind, a damaged one, a compressed tar.
    """
    if kind == "packed":
        raise ContentError(_NO_SEEKING)
    index = Index()
    try:
        if kind == "tar":
            _index_tar(file, index)
        else:
            _index_zip(file, index)
    except _BROKEN as problem:
        if not index.members:
            raise ContentError(_what_is_wrong(file, kind, problem)) from problem
        index.problem = f"damaged or cut off after {len(index.members):,} images"
    return index


def _index_tar(file: BinaryIO, index: Index) -> None:
    last = -1
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (entry := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else every entry is kept, 1 KB each
            if entry.offset <= last or entry.size < 0:
                raise tarfile.ReadError("an entry that leads back")
            last = entry.offset
            name = entry.name.encode("utf-8", "surrogateescape")
            if entry.isreg() and not entry.issparse() and is_image(name) and not is_passed_over(name):
                index.members[name] = Member(entry.size, entry.offset_data, entry.size)
            elif not entry.isdir():
                index.ignored += 1
        file.seek(tar.offset)
        if file.read(_BLOCK).strip(b"\0"):  # the module takes whatever is no header for the end
            raise tarfile.ReadError("no header")


def _index_zip(file: BinaryIO, index: Index) -> None:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            flags = entry.flag_bits
            name = entry.orig_filename.encode("utf-8" if flags & _UTF8_NAME else "cp437")  # as it stands
            if entry.is_dir():
                continue
            if stat.S_ISLNK(entry.external_attr >> 16) or not is_image(name) or is_passed_over(name):
                index.ignored += 1
                continue
            index.members[name] = Member(
                *(entry.file_size, entry.header_offset, entry.compress_size),
                *(entry.compress_type, entry.CRC, bool(flags & _ENCRYPTED)),
            )


def _what_is_wrong(file: BinaryIO, kind: str, problem: BaseException) -> str:
    if isinstance(problem, MemoryError):
        return f"a {kind} whose headers do not fit into memory"
    file.seek(0)
    if file.read(8).startswith(_PACKED_HEADS):
        return _NO_SEEKING if kind == "tar" else f"no {kind} archive but another format; rename or repack it"
    return f"no {kind} archive, or a damaged one"


def member_bytes(descriptor: int, member: Member, *, max_bytes: int) -> bytes:
    """The unpacked bytes of a member of the archive open at `descriptor`.

    Raises ContentError where it has over `max_bytes`, is cut off, damaged, encrypted or packed otherwise than
    stored or deflated.
    """
    if max(member.size, member.packed) > max_bytes:
        raise ContentError(f"{member.size:,} bytes, over the limit of {max_bytes:,}")
    if member.encrypted:
        raise ContentError("encrypted; unpack the archive with its password")
    if member.method not in (None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ContentError(f"packed by zip method {member.method}; repack it stored or deflated")
    offset = member.offset if member.method is None else _data_offset(descriptor, member)
    data = _read_at(descriptor, member.packed, offset)
    if member.method == zipfile.ZIP_DEFLATED:
        data = _inflate(data, member.size)
    if len(data) != member.size or (member.method is not None and zlib.crc32(data) != member.crc):
        raise ContentError("damaged in its archive: not the bytes that were packed")
    return data


def _data_offset(descriptor: int, member: Member) -> int:
    header = _read_at(descriptor, _LOCAL_HEADER, member.offset)
    if not header.startswith(b"PK\x03\x04"):
        raise ContentError("damaged in its archive: no header where it should begin")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.offset + _LOCAL_HEADER + lengths


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes at `offset`; threads may share the file. Raises ContentError where it ends first."""
    if offset + size > os.fstat(descriptor).st_size:
        raise ContentError("cut off: its archive ends within it")
    parts: list[bytes] = []
    while size:
        part = os.pread(descriptor, size, offset)  # the kernel gives at most 2 GiB less a page at once
        if not part:
            raise ContentError("cut off: its archive ends within it")
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)  # one more shows a lie
    except zlib.error:
        raise ContentError("damaged in its archive: cannot be inflated") from None


class IndexCache:
    """Indexes by the version of the archive they are of, the oldest dropped; safe for threads.

    The latest two always stay. One being built makes all wait: they mostly want the same one.
    """

    def __init__(self, *, members: int, archives: int) -> None:
        """Hold at most so many `members` in so many `archives`."""
        self._indexes: OrderedDict[tuple[object, ...], Index] = OrderedDict()
        self._lock = threading.Lock()
        self._members, self._archives = members, archives

    def get(self, version: tuple[object, ...], build: Callable[[], Index]) -> Index:
        """The index of `version`, built if it is not here."""
        with self._lock:
            index = self._indexes.get(version) or build()
            self._indexes[version] = index
            self._indexes.move_to_end(version)
            held = sum(len(one.members) for one in self._indexes.values())
            while len(self._indexes) > 2 and (held > self._members or len(self._indexes) > self._archives):
                held -= len(self._indexes.popitem(last=False)[1].members)
            return index
