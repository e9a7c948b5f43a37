"""A corpus of every kind of file that real downloads hold, made by code, and what an ingest must say of each.

The picture is the same nearly everywhere: 80 x 100, a red block top left, a blue one top right.
"""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

__all__ = ["FILES", "Fails", "File", "Row", "build", "encoded", "exif", "picture"]

WIDTH, HEIGHT = 80, 100


@dataclass(frozen=True)
class Row:
    """The file is an image of the store: upright size, format by content, frames."""

    format: str = "jpeg"
    width: int = WIDTH
    height: int = HEIGHT
    frames: int | None = 1  # None: a count that need not be made


@dataclass(frozen=True)
class Fails:
    """The file is a failure of this kind, and this (a regular expression) is in its reason."""

    reason: str
    kind: str = "content"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: bytes


@dataclass(frozen=True)
class File:
    """One entry of the corpus; `make` gives its bytes, or what it is instead of a plain file."""

    path: bytes
    make: Callable[[], bytes] | Link | int  # a number is the kind of a special file
    expected: Row | Fails | None  # None: no image by name, hidden, or a link out: neither row nor failure
    mode: int = 0o644


@cache
def picture() -> Image.Image:
    """Grey gradient with two blocks: no symmetry, so that a turn shows."""
    across, down = np.meshgrid(np.linspace(60, 200, WIDTH), np.linspace(0, 40, HEIGHT))
    array = np.repeat((across + down).astype(np.uint8)[..., None], 3, axis=2)
    array[:40, :30] = (220, 30, 30)
    array[:20, 60:] = (30, 30, 220)
    array[60:90, 20:50] = 250
    return Image.fromarray(array)


def encoded(format: str = "jpeg", image: Image.Image | None = None, **options: Any) -> bytes:
    """An image, by default the picture, as a file of a format."""
    out = io.BytesIO()
    (image or picture()).save(out, format, **options)
    return out.getvalue()


def converted(mode: str) -> Image.Image:
    """The picture in another mode, clear in the lower half where the mode has alpha."""
    image = picture().convert(mode)
    if mode in ("RGBA", "LA"):
        alpha = Image.new("L", image.size, 255)
        alpha.paste(0, (0, 50, 80, 100))
        image.putalpha(alpha)
    return image


def chunk(kind: bytes, body: bytes, *, crc: int | None = None) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc or zlib.crc32(kind + body))


def png_with(extra: bytes, data: bytes | None = None) -> bytes:
    """A PNG (by default the picture's) with chunks behind its header."""
    data = data or encoded("png")
    return data[:33] + extra + data[33:]


def png_by_hand(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG that Pillow would not write; `rows` have their filter bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows, 1)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def png16(colour: int) -> bytes:
    """The picture with 16 bits a sample: grey (colour 0) or RGBA (6)."""
    image = np.asarray(picture().convert("L") if colour == 0 else picture().convert("RGBA"))
    rows = (image.astype(">u2") * 257).reshape(HEIGHT, -1)
    return png_by_hand(WIDTH, HEIGHT, 16, colour, b"".join(b"\0" + row.tobytes() for row in rows))


def interlaced(*extra: bytes) -> bytes:
    """An Adam7 PNG of 8-bit grey by hand, with chunks behind its header."""
    grey = np.asarray(picture().convert("L"))
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in grey[y::dy, x::dx])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 1))
    tail = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + tail


def exif(orientation: int) -> bytes:
    """An EXIF block with an orientation and nothing else."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)


# EXIF orientation -> how the upright picture lies in the file, as Pillow's transpose
LIES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(orientation: int, format: str = "jpeg", **options: Any) -> bytes:
    """The picture stored turned, with the orientation that says so."""
    image = picture().transpose(LIES[orientation]) if orientation in LIES else picture()
    return encoded(format, image, exif=exif(orientation), **options)


def app1(body: bytes) -> bytes:
    """The picture as JPEG with one more APP1 segment."""
    data = encoded()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def gps() -> bytes:
    """A JPEG whose EXIF tells where and by whom it was taken."""
    tags = Image.Exif()
    tags[0x010F], tags[0x013B] = "SecretCamera", "Secret Artist"
    tags.get_ifd(0x8825).update({1: "N", 2: (35.0, 39.0, 31.0), 3: "E", 4: (139.0, 44.0, 43.0)})
    return encoded(exif=tags.tobytes())


def swapped_profile() -> bytes:
    """An RGB profile with red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)


def cmyk_profile() -> bytes:
    """A profile that says it is for CMYK, and cannot be used."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:16] + b"CMYK" + profile[20:]


def big_gif(frames: int, *, screen: int | None = None) -> bytes:
    """A GIF of 32 x 32 that repeats its frame, and claims another screen."""
    data = encoded("gif", Image.new("P", (32, 32), 1))
    palette = 3 * 2 ** ((data[10] & 7) + 1)
    head, frame = data[: 13 + palette], data[13 + palette : -1]
    if screen:
        head = head[:6] + struct.pack("<HH", screen, screen) + head[10:]
    return head + frame * frames + b";"


def jpeg_claiming(side: int) -> bytes:
    """A JPEG whose frame header claims side x side."""
    data = encoded()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


def hidden_default_apng() -> bytes:
    """An APNG whose first picture is not one of its frames."""
    other = picture().transpose(Image.Transpose.ROTATE_180)
    return encoded("png", save_all=True, append_images=[other, picture()], default_image=True)


def animated(format: str, **options: Any) -> bytes:
    """Three different frames, the picture first."""
    turns = (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT)
    return encoded(format, save_all=True, append_images=[picture().transpose(t) for t in turns], **options)


def flipped(data: bytes, *places: int) -> bytes:
    """`data` with the bits at some bytes turned over."""
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 0xFF
    return bytes(changed)


def bad_crc_inside() -> bytes:
    """A PNG whose text chunk, which no picture needs, has a wrong CRC."""
    return png_with(chunk(b"tEXt", b"Comment\0hello", crc=1))


def _compressed_chunk(kind: bytes, name: bytes) -> bytes:
    return png_with(chunk(kind, name + b"\0\0" + zlib.compress(bytes(20_000_000))))


NO_IMAGE = "no image"
GOOD = encoded
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>'
)

NAMES = [
    "with spaces in it.jpg",
    "new\nline.jpg",
    "tab\tand,comma;semi.jpg",
    "😀🎨絵文字.jpg",
    "初音ミク_立ち絵（全身）.jpg",
    "長" * 80 + "_long.jpg",
    "-rf.jpg",
    "--json.jpg",
    'quote\'s "double" `tick`.jpg',
    "'; DROP TABLE images; --.jpg",
    "$(touch pwned);&|.jpg",
    "back\\slash.jpg",
    " leading and trailing .jpg",
    "percent%20%2F..%2F.jpg",
    "<script>alert(1)<script>.jpg",
    "rtl_\u202egpj.exe.jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "CASE.jpg",
    "case.jpg",
    '{"json": "like"}.jpg',
    "%s%n%d{0}.jpg",
    "bell\a_escape\x1b[31m_delete\x7f.jpg",
    "invalid_\\xff.jpg",  # a backslash, and not the byte that the next one has
]
BYTE_NAMES = [b"invalid_\xff.jpg", b"invalid_\xff\xfe\x80.jpg", b"sjis_\x83e\x83X\x83g.jpg"]


def _broken() -> Iterator[File]:
    data = [
        (b"zero.jpg", lambda: b"", "empty"),
        (b"truncated_half.jpg", lambda: GOOD()[: len(GOOD()) // 2], "broken jpeg"),
        (
            b"truncated_progressive.jpg",
            lambda: (data := GOOD(progressive=True))[: int(len(data) * 0.6)],
            "broken jpeg",
        ),
        (b"truncated.png", lambda: (data := GOOD("png"))[: len(data) // 2], "broken png"),
        (b"header_only.jpg", lambda: b"\xff\xd8\xff\xd9", "broken jpeg"),
        (b"header_only.png", lambda: GOOD("png")[:33], "broken png"),
        (b"ihdr_crc.png", lambda: flipped(GOOD("png"), 30), "broken png"),
        (b"idat_garbage.png", lambda: flipped(GOOD("png"), *range(60, 90)), "broken png"),
        (b"html_error.png", lambda: b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"json_error.webp", lambda: b'{"error": "rate limit"}', "JSON"),
        (b"svg_billion_laughs.png", lambda: LAUGHS, "SVG or XML"),
        (b"random.gif", lambda: random.Random(0).randbytes(4000), NO_IMAGE),
        (b"photoshop.jpg", lambda: b"8BPS\0\1" + bytes(200), NO_IMAGE),
        (b"icon.png", lambda: GOOD("ico", sizes=[(64, 64)]), NO_IMAGE),
        (b"jpeg2000.jpg", lambda: GOOD("jpeg2000"), NO_IMAGE),
        (b"zip.jpg", lambda: b"PK\3\4" + bytes(100), NO_IMAGE),
        (b"heic.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC|broken heic"),
        (b"jxl.jxl", lambda: b"\xff\x0a" + bytes(64), "JPEG XL|broken jxl"),
        (b"esc_\x1b[31m_in_name\n.jpg", lambda: b"x", NO_IMAGE),
    ]
    for name, make, reason in data:
        yield File(b"broken/" + name, make, Fails(reason))


def _formats() -> Iterator[File]:
    yield File(b"ext/is_png.jpg", partial(GOOD, "png"), Row("png"))
    yield File(b"ext/is_jpeg.png", GOOD, Row())
    yield File(b"ext/is_webp.jpeg", partial(GOOD, "webp"), Row("webp"))
    yield File(b"ext/UPPER.JPG", GOOD, Row())
    yield File(b"ext/multipage.tiff", partial(animated, "tiff"), Row("tiff", frames=3))
    floats = Image.fromarray(np.asarray(picture().convert("L"), np.float32))
    yield File(b"ext/float32.tiff", partial(GOOD, "tiff", floats), Row("tiff"))
    yield File(b"ext/ok.avif", partial(GOOD, "avif"), Row("avif"))
    yield File(b"ext/ok.bmp", partial(GOOD, "bmp"), Row("bmp"))
    yield File(b"ext/two_pictures.jpg", partial(animated, "mpo"), Row())
    yield File(b"ext/trailing_garbage.jpg", lambda: GOOD() + b"\r\n--boundary--" * 50, Row())
    for mode in ("RGBA", "LA", "1", "P"):
        name = f"mode/{mode.lower()}.png".encode()
        yield File(name, partial(lambda mode: GOOD("png", converted(mode)), mode), Row("png"))
    palette = {"transparency": bytes([0, 128] + [255] * 254)}
    yield File(b"mode/palette_trns_bytes.png", lambda: GOOD("png", converted("P"), **palette), Row("png"))
    yield File(b"mode/palette_trns.png", lambda: GOOD("png", converted("P"), transparency=3), Row("png"))
    yield File(b"mode/grey8.png", lambda: GOOD("png", converted("L")), Row("png"))
    yield File(b"mode/grey16.png", partial(png16, 0), Row("png"))
    yield File(b"mode/rgba16.png", partial(png16, 6), Row("png"))
    yield File(b"mode/interlaced.png", interlaced, Row("png"))
    clear = chunk(b"tRNS", struct.pack(">H", 250))
    yield File(b"mode/interlaced_trns.png", partial(interlaced, clear), Row("png"))
    yield File(b"mode/cmyk.jpg", lambda: GOOD("jpeg", converted("CMYK")), Row())
    with_profile = {"icc_profile": cmyk_profile()}
    yield File(b"mode/cmyk_profile.jpg", lambda: GOOD("jpeg", converted("CMYK"), **with_profile), Row())
    yield File(b"mode/wrong_crc_of_a_text.png", bad_crc_inside, Row("png"))
    yield File(b"anim/anim.png", partial(animated, "png"), Row("png", frames=3))
    yield File(b"anim/anim.webp", partial(animated, "webp"), Row("webp", frames=3))
    yield File(b"anim/anim.gif", partial(animated, "gif"), Row("gif", frames=3))
    yield File(b"anim/apng_hidden_default.png", hidden_default_apng, Row("png", frames=3))
    yield File(b"icc/swapped_rb.png", lambda: GOOD("png", icc_profile=swapped_profile()), Row("png"))
    yield File(b"icc/cmyk_profile_on_rgb.jpg", lambda: GOOD(icc_profile=cmyk_profile()), Row())


def _exif() -> Iterator[File]:
    for orientation in range(1, 10):
        yield File(f"exif/orient_{orientation}.jpg".encode(), partial(turned, orientation), Row())
    yield File(b"exif/orient_6.webp", partial(turned, 6, "webp", lossless=True), Row("webp"))
    yield File(b"exif/orient_6.png", partial(turned, 6, "png"), Row("png"))
    far = b"Exif\0\0MM\0*" + struct.pack(">I", 999_999)
    yield File(b"exif/exif_offset_out.jpg", partial(app1, far), Row())
    yield File(b"exif/exif_of_no_length.jpg", partial(app1, b""), Row())
    yield File(b"exif/exif_empty.jpg", partial(app1, b"Exif\0\0"), Row())
    yield File(b"exif/exif_huge.jpg", partial(app1, exif(1) + bytes(65_000)), Row())
    yield File(b"exif/gps_private.jpg", gps, Row())


def _sizes() -> Iterator[File]:
    over = "over the limit"
    grey = partial(Image.new, "L")
    yield File(
        b"bomb/16000x16000_1bit.png",
        lambda: png_by_hand(16000, 16000, 1, 0, bytes(16000 * 2001)),
        Fails(over),
    )
    yield File(
        b"bomb/header_2147483647.png", lambda: png_by_hand(2**31 - 1, 2**31 - 1, 8, 2, b""), Fails(over)
    )
    yield File(b"bomb/header_65500.jpg", partial(jpeg_claiming, 65500), Fails(over))
    yield File(b"bomb/screen_65535.gif", partial(big_gif, 1, screen=65535), Fails(over))
    yield File(b"bomb/frames_5000.gif", partial(big_gif, 5000), Row("gif", 32, 32, None))
    yield File(
        b"bomb/huge_10000x9000.jpg", lambda: GOOD("jpeg", grey((10000, 9000), 90)), Row("jpeg", 10000, 9000)
    )
    yield File(b"bomb/ztxt_20MB.png", partial(_compressed_chunk, b"zTXt", b"Comment"), Row("png"))
    yield File(b"bomb/iccp_20MB.png", partial(_compressed_chunk, b"iCCP", b"profile"), Row("png"))
    small, long = "a side under", "longer than"
    yield File(b"size/1x1.png", lambda: GOOD("png", grey((1, 1))), Fails(small))
    yield File(b"size/15x20.png", lambda: GOOD("png", grey((15, 20))), Fails(small))
    yield File(b"size/16x16.png", lambda: GOOD("png", grey((16, 16))), Row("png", 16, 16))
    yield File(b"size/1x5000.png", lambda: GOOD("png", grey((1, 5000))), Fails(f"{small}|{long}"))
    yield File(b"size/5000x1.jpg", lambda: GOOD("jpeg", grey((5000, 1))), Fails(f"{small}|{long}"))
    yield File(b"size/20x420.png", lambda: GOOD("png", grey((20, 420))), Fails(long))
    yield File(b"size/20x400.webp", lambda: GOOD("webp", grey((20, 400))), Row("webp", 20, 400))
    magenta = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 255, 0))
    yield File(b"size/fully_transparent.png", lambda: GOOD("png", magenta), Row("png"))
    yield File(b"size/white.png", lambda: GOOD("png", Image.new("RGB", (WIDTH, HEIGHT), "white")), Row("png"))


def _names() -> Iterator[File]:
    for name in [*map(os.fsencode, NAMES), *BYTE_NAMES]:
        yield File(b"names/" + name, GOOD, Row())
    deep = b"/".join([b"deep", *[b"d"] * 60, b"deep.jpg"])
    yield File(deep, GOOD, Row())
    for hidden in (b"names/.hidden.jpg", b".hidden_dir/inside.jpg"):
        yield File(hidden, GOOD, None)


def _places() -> Iterator[File]:
    is_root = os.geteuid() == 0
    yield File(b"fs/foo.png/inner.jpg", GOOD, Row())
    yield File(b"fs/loop", Link(b"."), None)
    yield File(b"fs/a/up", Link(b".."), None)
    yield File(b"fs/self.jpg", Link(b"self.jpg"), Fails("a link to itself", "access"))
    yield File(b"fs/dangling.jpg", Link(b"nowhere.jpg"), Fails("gone", "access"))
    yield File(b"fs/outside.png", Link(b"../../outside/private.png"), None)
    yield File(b"fs/outside_dir", Link(b"../../outside"), None)
    yield File(b"fs/inside_link.jpg", Link(b"../exif/orient_1.jpg"), Row())
    yield File(b"fs/chain_1.jpg", Link(b"chain_2.jpg"), Row())
    yield File(b"fs/chain_2.jpg", Link(b"a/../inside_link.jpg"), Row())
    yield File(b"fs/devzero.png", Link(b"/dev/zero"), None)  # out of the corpus
    yield File(b"fs/procmem.png", Link(b"/proc/self/mem"), None)
    yield File(b"fs/pipe.jpg", stat.S_IFIFO, Fails("a named pipe", "access"))
    yield File(b"fs/pipe_link.jpg", Link(b"pipe.jpg"), Fails("a named pipe", "access"))
    yield File(b"fs/sock.png", stat.S_IFSOCK, Fails("a socket", "access"))
    closed = Row() if is_root else Fails("permission denied", "access")
    yield File(b"fs/noperm.jpg", GOOD, closed, mode=0)


def _clutter() -> Iterator[File]:
    ignored = ["Thumbs.db", ".DS_Store", "desktop.ini", "._real.jpg", "half.jpg.part", "img.jpg.crdownload"]
    ignored += ["archive.zip", "@eaDir/real.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._real.jpg", "no_extension"]
    yield File(b"clutter/real.jpg", GOOD, Row())
    yield File(b"clutter/real.txt", lambda: b"1girl, solo", None)
    yield File(b"clutter/real.jpg.json", lambda: b"{", None)
    for name in ignored:
        yield File(b"clutter/" + name.encode(), GOOD, None)


FILES = [*_broken(), *_formats(), *_exif(), *_sizes(), *_names(), *_places(), *_clutter()]


def build(folder: Path) -> None:
    """Write every file of FILES below `folder`, and what links out of it mean beside it."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "private.png").write_bytes(encoded("png"))
    for file in FILES:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + file.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.make, Link):
            path.symlink_to(os.fsdecode(file.make.target))
        elif isinstance(file.make, int):
            os.mknod(path, 0o644 | file.make)
        else:
            path.write_bytes(file.make())
            path.chmod(file.mode)
