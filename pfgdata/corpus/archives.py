"""Archives read in place: where each image of a tar or zip lies, and its bytes.

A member's name is only a name and never becomes a path. An archive may be hostile: nothing is unpacked beyond
the size its header states, and only plain and deflated members are read (bzip2 turns 1 KB into gigabytes).
"""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO

from pfgdata.corpus.members import Index, Member
from pfgdata.corpus.names import ArchiveKind
from pfgdata.corpus.tar_index import HEADER, require_header
from pfgdata.corpus.tars import index_tar
from pfgdata.corpus.zips import LOCAL_HEADER, index_zip
from pfgdata.errors import AccessError, ContentError

__all__ = ["Index", "IndexCache", "Member", "index_archive", "member_bytes", "member_of", "read_at"]

_HEADER = 30  # bytes of a zip's local header before the name, whose length stands at 26, that of extra at 28
_PACKED_HEADS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_NO_SEEKING = "a compressed tar, in which no image can be reached alone; unpack it to .tar or to a folder"


def index_archive(file: BinaryIO, kind: ArchiveKind) -> Index:
    """The images of an open archive. Of several with one name the last counts.

    What is damaged, cut off or joined is indexed so far, with a `problem`. Raises ContentError where there is
    nothing to be had: no archive of that kind, a zip without its end, a compressed tar.
    """
    if kind == "packed":
        raise ContentError(_NO_SEEKING)
    index = Index()
    try:
        found = (index_tar if kind == "tar" else index_zip)(file, index)
    except MemoryError:
        raise ContentError(f"a {kind} whose headers do not fit into memory") from None
    if not found:
        raise ContentError(_what_is_wrong(file, kind))
    return index


def _what_is_wrong(file: BinaryIO, kind: ArchiveKind) -> str:
    file.seek(0)
    head = file.read(8)
    if head.startswith(_PACKED_HEADS):
        return _NO_SEEKING if kind == "tar" else f"no {kind} archive but another format; rename or repack it"
    if kind == "zip" and head.startswith(LOCAL_HEADER):
        return "cut off or damaged: a zip's list of members, at its end, is missing; fetch it again"
    return f"no {kind} archive, or a damaged one"


ReadAt = Callable[[int, int], bytes]  # so many bytes at an offset; raises ContentError where it ends first


def member_bytes(read: ReadAt, member: Member, *, max_bytes: int) -> bytes:
    """The unpacked bytes of a member of the archive that `read` reads.

    Raises ContentError where it has over `max_bytes`, is cut off, damaged, encrypted or packed otherwise than
    stored or deflated; AccessError where it is not where the index of its tar says.
    """
    if member.problem:
        raise ContentError(member.problem)
    if max(member.size, member.packed) > max_bytes:
        raise ContentError(f"{member.size:,} bytes, over the limit of {max_bytes:,}")
    if member.listed:
        data = read(HEADER + member.packed, member.offset - HEADER)
        require_header(data[:HEADER], member.size)
        return data[HEADER:]
    offset = member.offset if member.method is None else _data_offset(read, member)
    data = read(member.packed, offset)
    if member.method == zipfile.ZIP_DEFLATED:
        data = _inflate(data, member.size)
    if len(data) != member.size or (member.method is not None and zlib.crc32(data) != member.crc):
        raise ContentError("damaged in its archive: not the bytes that were packed")
    return data


def member_of(index: Index, name: bytes | None) -> Member:
    """The member called `name`. Raises AccessError where there is none; for None what is wrong with all."""
    if name is None:
        raise ContentError(index.problem) if index.problem else AccessError("changed since it was listed")
    member = index.members.get(name) or index.sidecars.get(name)
    if member is None:
        raise AccessError("no longer in its archive")
    return member


def _data_offset(read: ReadAt, member: Member) -> int:
    header = read(_HEADER, member.offset)
    if not header.startswith(LOCAL_HEADER):
        raise ContentError("damaged in its archive: no header where it should begin")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.offset + _HEADER + lengths


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes at `offset`; threads may share the file. Raises ContentError where it ends first."""
    if offset < 0 or offset + size > os.fstat(descriptor).st_size:
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
        self._members = members
        self._archives = archives

    def get(self, version: tuple[object, ...], build: Callable[[], Index]) -> Index:
        """The index of `version`, built if it is not here."""
        with self._lock:
            if version in self._indexes:
                self._indexes.move_to_end(version)
                return self._indexes[version]
            index = self._indexes[version] = build()
            held = sum(len(one.members) for one in self._indexes.values())
            while len(self._indexes) > 2 and (held > self._members or len(self._indexes) > self._archives):
                held -= len(self._indexes.popitem(last=False)[1].members)
            return index
