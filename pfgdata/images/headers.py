"""Headers that Pillow reads at a cost or not at all: frames of GIF and TIFF, a JPEG XL's, extras of a PNG.

Each reader is bounded, so that a file made to be slow is as cheap as any other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["JxlHeader", "gif_frames", "jxl_header", "lean_pngs", "tiff_frames"]

# Blocks of a GIF, or directories of a TIFF, that are looked at: an honest GIF of this many blocks has 250 MB.
_MOST_BLOCKS = 1 << 20
_MOST_PAGES = 1 << 16
_JXL_HEAD = 64  # bytes: its fields up to the last that is read have 186 bits

_PNG_SIGNATURE = 8
_PNG_NEEDED = frozenset(
    b"IHDR PLTE IDAT IEND tRNS iCCP sRGB gAMA cHRM sBIT eXIf acTL fcTL fdAT".split()
)  # what bears on the picture, its turn or its frames


def gif_frames(data: bytes) -> int:
    """Images in a GIF, by its blocks, nothing decoded; those before the bound of a million blocks."""
    frames, blocks = 0, 0
    try:
        at = 13 + _colours(data[10])
        while data[at] != 0x3B and blocks < _MOST_BLOCKS:  # trailer
            if data[at] == 0x2C:  # image: its place, its own colours, a code size
                frames += 1
                at += 11 + _colours(data[at + 9])
            elif data[at] == 0x21:  # extension: a label
                at += 2
            else:  # between blocks; Pillow passes over it too
                at, blocks = at + 1, blocks + 1
                continue
            while size := data[at]:
                at, blocks = at + 1 + size, blocks + 1
            at, blocks = at + 1, blocks + 1
    except IndexError:  # cut short: those before the cut
        pass
    return max(frames, 1)


def _colours(flags: int) -> int:
    """Bytes of the colour table that a GIF's flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_frames(data: bytes) -> int:
    """Directories in a TIFF's chain, at most 65,536. ValueError where it leads out of the file: it is cut."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + link, data, 8 if big else 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            (entries,) = struct.unpack_from(order + count, data, at)
            (at,) = struct.unpack_from(order + link, data, at + struct.calcsize(count) + entries * entry)
    except (struct.error, OverflowError):
        raise ValueError("its chain of pages leads out of the file") from None
    return len(seen)


def lean_pngs(data: bytes) -> Iterator[bytes]:
    """A PNG without its texts and other extras, then also without its profile; neither where it has none.

    For a file that could not be read: it may be an extra that is broken, or that inflates without end.
    """
    for needed in (_PNG_NEEDED, _PNG_NEEDED - {b"iCCP"}):
        kept = _only(data, needed)
        if len(kept) < len(data):
            yield kept
            data = kept


def _only(data: bytes, kinds: frozenset[bytes]) -> bytes:
    """The chunks of those kinds; from one that is cut short on, everything."""
    parts, at = [data[:_PNG_SIGNATURE]], _PNG_SIGNATURE
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if kind in kinds:
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


class JxlHeader(NamedTuple):
    """What a JPEG XL says of itself: its size before it is turned, the EXIF number of the turn."""

    width: int
    height: int
    orientation: int
    is_animated: bool


def jxl_header(data: bytes) -> JxlHeader:
    """The header of a JPEG XL, bare or in boxes. ValueError if it has none; ISO/IEC 18181-1, annex D."""
    codestream = data[:_JXL_HEAD] if data.startswith(b"\xff\x0a") else _jxl_codestream(data)
    if not codestream.startswith(b"\xff\x0a") or len(codestream) < 12:
        raise ValueError("no size in its header")
    take = _bits(codestream[2:])
    width, height = _jxl_size(take)
    if take(1) or not take(1):  # all as usual, or with no further fields
        return JxlHeader(width, height, 1, False)
    orientation = take(3) + 1
    if take(1):  # the size it is meant to be shown at
        _jxl_size(take)
    if take(1):  # a preview
        ranges = ((0, 16), (0, 32), (5, 1), (9, 33)) if take(1) else ((6, 1), (8, 65), (10, 321), (12, 1345))
        _one_of(take, ranges)
        if take(3) == 0:
            _one_of(take, ranges)
    return JxlHeader(width, height, orientation, bool(take(1)))


def _bits(data: bytes) -> Callable[[int], int]:
    """Takes so many bits at a time, the lowest of a byte first; zeros behind the end."""
    bits = int.from_bytes(data, "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    return take


def _one_of(take: Callable[[int], int], ranges: tuple[tuple[int, int], ...]) -> int:
    """A number: two bits choose how many more it has, and what is added."""
    count, least = ranges[take(2)]
    return take(count) + least


def _jxl_size(take: Callable[[int], int]) -> tuple[int, int]:
    """(W, H) of a SizeHeader."""
    small = bool(take(1))

    def side() -> int:
        return (take(5) + 1) * 8 if small else _one_of(take, ((9, 1), (13, 1), (18, 1), (30, 1)))

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    times, over = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * times // over, height


def _jxl_codestream(data: bytes) -> bytes:
    """The start of the codestream in an ISO base media file: box jxlc, or the jxlp after their numbers."""
    at, found = 0, b""
    for _ in range(_MOST_PAGES):
        if at + 8 > len(data) or len(found) >= _JXL_HEAD:
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
        end = at + length if length else len(data)  # 0: to the end of the file
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            found += data[start : min(end, start + _JXL_HEAD)]
        if end < at + head:
            break
        at = end
    return found[:_JXL_HEAD]
