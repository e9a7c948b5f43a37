"""The index of a tar. A tar has no list of its members: each header says where the next one is.

So a fault would cost all that follows; instead the next header is looked for. A hard link is its target's
bytes once more; a sparse file, whose bytes do not lie in one piece, a symbolic link, a device are not read.
Plain headers are read by hand (plain_headers.py), all else by tarfile, from the first that is not plain.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from pfgdata.corpus.members import SYMBOLIC_LINK, Index, Member, left_over
from pfgdata.corpus.names import is_image, is_sidecar
from pfgdata.corpus.plain_headers import read_plain_headers

__all__ = ["index_tar"]

_BLOCK = 512  # all of a tar begins at a multiple of it
_MAGIC, _MAGIC_AT = b"ustar", 257  # in every header but those of the 1980s
_PIECE = 2048 * _BLOCK  # searched for a header at a time
_MOST = 2**64 - 1  # a header may state any size; a row holds this one
# What the module raises for bytes that are no header; an OSError is the disk's and passes.
_BROKEN = (
    *(tarfile.TarError, EOFError, ValueError, OverflowError, IndexError, KeyError),
    *(RecursionError, MemoryError),  # a thousand headers before one, a header of terabytes
)
_DEVICE = "a device in its archive, no plain file"
_SPECIAL = {
    tarfile.SYMTYPE: SYMBOLIC_LINK,
    tarfile.CHRTYPE: _DEVICE,
    tarfile.BLKTYPE: _DEVICE,
    tarfile.FIFOTYPE: "a named pipe in its archive, no plain file",
    b"M": "the rest of a file that begins in another part of its tar; join the parts",
}


def index_tar(file: BinaryIO, index: Index, *, by_hand: bool = True) -> bool:
    """Fill in the `index` of an open tar, with a problem where it is damaged; False where it is no tar.

    `by_hand` changes nothing but how long it takes.
    """
    if not _is_tar(file):
        return False
    unmet: dict[bytes, bytes] = {}  # hard link -> its target, which is no image or sidecar
    start = read_plain_headers(file, index) if by_hand else 0
    for entry in _entries(file, index, start):
        if entry.isdir():
            continue
        name, member = _bytes(entry.name), _member(entry)
        unmet.pop(name, None)
        if entry.islnk():
            target = _bytes(entry.linkname)
            member = index.members.get(target) or index.sidecars.get(target) or member
            if member.problem and (is_image(name) or is_sidecar(name)):
                unmet[name] = target
        index.add(name, member)
    for held in (index.members, index.sidecars):
        links = {name: posixpath.normpath(unmet[name]) for name in unmet if name in held}
        if links:
            targets = _named(file, frozenset(links.values()))
            held.update({name: targets[target] for name, target in links.items() if target in targets})
    return True


def _named(file: BinaryIO, names: frozenset[bytes]) -> dict[bytes, Member]:
    """The plain files of those names, of any ending, which the index does not hold: a second pass."""
    entries = ((posixpath.normpath(_bytes(entry.name)), entry) for entry in _entries(file, Index()))
    return {name: _member(entry) for name, entry in entries if name in names and entry.isreg()}


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _member(entry: tarfile.TarInfo) -> Member:
    if entry.islnk():
        return Member(problem="a hard link to what its archive does not hold")
    if not entry.isreg():
        return Member(problem=_SPECIAL.get(entry.type, "of a kind that only some tars know; pack it anew"))
    size = min(entry.size, _MOST)
    if entry.issparse():
        return Member(size, problem="a sparse file in its archive; pack it without --sparse")
    return Member(size, entry.offset_data, size)


def _is_tar(file: BinaryIO) -> bool:
    """Whether the first block is a header, be it a damaged one, or the end of an empty tar."""
    file.seek(0)
    block = file.read(_BLOCK)
    if block.startswith(_MAGIC, _MAGIC_AT) or (len(block) == _BLOCK and not block.strip(b"\0")):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except _BROKEN:
        return False
    return True


def _entries(file: BinaryIO, index: Index, start: int = 0) -> Iterator[tarfile.TarInfo]:
    """The headers from `start` on in order; what is wrong between and after them the `index` is told."""
    at: int | None = start
    while at is not None:
        file.seek(at)
        data = at  # of the last member
        try:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                while (entry := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # else every entry is kept, 1 KB each
                    if entry.size < 0 or entry.offset < data:
                        raise tarfile.ReadError("an entry that leads back")
                    data = entry.offset_data
                    yield entry
            if _is_end(file, tar.offset, index):
                return
            after = tar.offset + _BLOCK
        except _BROKEN:
            after = file.tell() if file.tell() <= os.fstat(file.fileno()).st_size else 0
        index.say(f"damaged or cut off after {len(index.members):,} images")
        at = _next_header(file, max(after, data, at + _BLOCK))


def _is_end(file: BinaryIO, at: int, index: Index) -> bool:
    """Whether the tar ends at `at`, where no header is, and not in the middle of it.

    Its end is two blocks of zeros, and readers take one. The `index` is told where there is none, or more.
    """
    file.seek(at)
    block = file.read(_BLOCK)
    if not block:
        index.say(f"cut off after {len(index.members):,} images: the block that ends a tar is missing")
        return True
    if block.strip(b"\0"):
        return False
    if file.read(_BLOCK).strip(b"\0"):
        return False  # a single block was lost
    if more := left_over(file, file.tell()):
        index.say(f"{more:,} bytes left over after its end are not read; if tars were joined, unpack with -i")
    return True


def _next_header(file: BinaryIO, at: int) -> int | None:
    """Where the next header may be, `at` or after; None where there is none."""
    at = -(-at // _BLOCK) * _BLOCK
    file.seek(at)
    while piece := file.read(_PIECE):
        found = piece.find(_MAGIC, _MAGIC_AT)
        while found >= 0:
            if found % _BLOCK == _MAGIC_AT:
                return at + found - _MAGIC_AT
            found = piece.find(_MAGIC, found + 1)
        at += len(piece)
    return None
