"""The index of a zip, read from the list of members at its end: what stands nowhere in it is not found.

The standard library gives up a whole archive for one name that is not UTF-8, one field too short or one newer
version of the format; here such a member is read as far as it can be.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from typing import BinaryIO, NamedTuple

from pfgdata.corpus.members import SYMBOLIC_LINK, Index, Member, left_over
from pfgdata.errors import ContentError

__all__ = ["LOCAL_HEADER", "index_zip"]

LOCAL_HEADER = b"PK\x03\x04"
_END = struct.Struct("<4x4H2LH")  # disk, disk of the list, members here and in all, size, offset, comment
_END64 = struct.Struct("<4xQ2H2L4Q")  # ... disk, disk of the list, members here and in all, size, offset
_LOCATOR64 = struct.Struct("<4xLQL")  # ..., disks
_ENTRY = struct.Struct("<4x6H3L5H2L")
_SIGNATURE = b"PK\x05\x05"  # may follow the last entry
_LARGE = 0xFFFFFFFF  # stands for a number of 64 bits among the extra fields
_ENCRYPTED = 0x1  # a flag bit
_FAR = (1 << 16) + _END.size  # how far the end may be from the file's, for a comment
_SPLIT = "one part of a split zip; join its parts (zip -s 0 IN.zip --out OUT.zip)"
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _List(NamedTuple):
    """Where the list of members is, and the end of all."""

    start: int
    size: int
    members: int  # in small ones modulo 65,536
    shift: int  # bytes before the archive, of a program that unpacks itself
    end: int


def index_zip(file: BinaryIO, index: Index) -> bool:
    """Fill in the `index` of an open zip, with a problem where it is damaged; False where it has no list.

    Raises ContentError for a part of a split one.
    """
    listed = _find_list(file)
    if listed is None:
        return False
    file.seek(listed.start)
    left, count, first = listed.size, 0, listed.start
    while left >= _ENTRY.size:
        head = file.read(_ENTRY.size)
        if not head.startswith(b"PK\x01\x02") or len(head) < _ENTRY.size:
            left = 0 if head.startswith(_SIGNATURE) else left
            break
        fields = _ENTRY.unpack(head)
        lengths = fields[9:12]
        name, extra, _ = (file.read(length) for length in lengths)
        member, mode = _member(fields, extra, listed.shift)
        first = min(first, member.offset)
        if not (name.endswith(b"/") or stat.S_ISDIR(mode)):
            index.add(name, member)
        count, left = count + 1, left - _ENTRY.size - sum(lengths)
    if left or (count - listed.members) % (1 << 16):
        index.say(f"damaged: its list of members breaks off after {len(index.members):,} images")
    _look_around(file, index, first, listed.end)
    return True


def _find_list(file: BinaryIO) -> _List | None:
    size = file.seek(0, os.SEEK_END)
    far = max(0, size - _FAR)
    file.seek(far)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        return None
    disk, _, _, count, length, offset, comment = _END.unpack_from(tail, at)
    at += far
    end = at + _END.size + comment
    locator = _at(file, at - _LOCATOR64.size, _LOCATOR64, b"PK\x06\x07")
    if locator:
        disk = locator[2] > 1
        at -= _LOCATOR64.size + _END64.size
        large = _at(file, at, _END64, b"PK\x06\x06")
        if not large:
            return None
        count, length, offset = large[6:9]
    if disk:
        raise ContentError(_SPLIT)
    start = at - length
    return _List(start, length, count, start - offset, end) if start >= 0 else None


def _at(file: BinaryIO, at: int, record: struct.Struct, mark: bytes) -> tuple[int, ...]:
    """The fields of the record that begins with `mark` at `at`, none where it is not there."""
    file.seek(max(at, 0))
    data = file.read(record.size)
    return record.unpack(data) if data.startswith(mark) and len(data) == record.size else ()


def _member(fields: tuple[int, ...], extra: bytes, shift: int) -> tuple[Member, int]:
    """A member and its mode in Unix, 0 where that is not given."""
    _, _, flags, method, _, _, crc, packed, size, *_, attributes, offset = fields
    size, packed, offset = _large([size, packed, offset], extra)
    mode = attributes >> 16
    return Member(size, offset + shift, packed, method, crc, _problem(flags, method, mode)), mode


def _problem(flags: int, method: int, mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return SYMBOLIC_LINK
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "a device or pipe in its archive, no plain file"
    if flags & _ENCRYPTED:
        return "encrypted; unpack the archive with its password"
    if method not in _READ:
        return f"packed by zip method {method}; repack it stored or deflated"
    return None


def _large(numbers: list[int], extra: bytes) -> list[int]:
    """The numbers, those that are too large for 32 bits from the extra fields: id, length, data of each."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            data = extra[at + 4 : at + 4 + length]
            values = iter(struct.unpack_from(f"<{len(data) // 8}Q", data))
            return [next(values, number) if number == _LARGE else number for number in numbers]
        at += 4 + length
    return numbers


def _look_around(file: BinaryIO, index: Index, first: int, end: int) -> None:
    """Tell the `index` of what lies before the `first` member and after the `end`, where no list leads."""
    file.seek(0)
    if first > 0 and file.read(len(LOCAL_HEADER)) == LOCAL_HEADER:
        index.say(
            f"{first:,} bytes before its first member are not read; if zips were joined, take them apart"
        )
    if more := left_over(file, end):
        index.say(f"{more:,} bytes left over after its end are not read; fetch it again, or repack it")
