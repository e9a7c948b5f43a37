"""Headers that Pillow reads at a cost: frames of GIF and TIFF, the size of a JPEG XL, the extras of a PNG.

Each reader is bounded, so that a file made to be slow is as cheap as any other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["gif_frames", "jxl_size", "lean_pngs", "tiff_frames"]

# Blocks of a GIF, or directories of a TIFF, that are looked at: an honest GIF of this many blocks has 250 MB.
_MOST_BLOCKS = 1 << 20
_MOST_PAGES = 1 << 16

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


def jxl_size(data: bytes) -> tuple[int, int]:
    """(W, H) of a JPEG XL, bare or in boxes. ValueError if it does not say; ISO/IEC 18181-1, SizeHeader."""
    codestream = data if data.startswith(b"\xff\x0a") else _jxl_codestream(data)
    if not codestream.startswith(b"\xff\x0a") or len(codestream) < 12:
        raise ValueError("no size in its header")
    bits = int.from_bytes(codestream[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side(*, small: bool) -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = bool(take(1))
    height = side(small=small)
    ratio = take(3)
    if ratio == 0:
        return side(small=small), height
    times, over = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * times // over, height


def _jxl_codestream(data: bytes) -> bytes:
    """The start of the codestream in an ISO base media file: box jxlc, or the first jxlp after its number."""
    at = 0
    for _ in range(_MOST_PAGES):
        if at + 16 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            return data[start : start + 16]
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        if length < head:  # 0: to the end of the file
            break
        at += length
    return b""
