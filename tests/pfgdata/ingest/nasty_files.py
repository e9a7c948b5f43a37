"""A corpus of every kind of file that downloads hold, made by code, and what an ingest must say of each."""

from __future__ import annotations

import os
import random
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pfgdata.images.kinds import swapped_profile
from tests.pfgdata.ingest.nasty_bytes import (
    HEIGHT,
    WIDTH,
    animated,
    app1,
    bad_crc_inside,
    big_gif,
    chunk,
    cmyk_profile,
    compressed_chunk,
    converted,
    encoded,
    exif,
    flipped,
    gps,
    hidden_default_apng,
    interlaced,
    jpeg_claiming,
    picture,
    png16,
    png_by_hand,
    turned,
)

__all__ = ["FILES", "Fails", "File", "Link", "Row", "build"]


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
        (b"jxl.jxl", lambda: b"\xff\x0a" + bytes(64), "JPEG XL|broken jxl|a side under"),
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
    yield File(b"bomb/ztxt_20MB.png", partial(compressed_chunk, b"zTXt", b"Comment"), Row("png"))
    yield File(b"bomb/iccp_20MB.png", partial(compressed_chunk, b"iCCP", b"profile"), Row("png"))
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
    for name, target in ((b"devzero.png", b"/dev/zero"), (b"procmem.png", b"/proc/self/mem")):
        yield File(b"fs/" + name, Link(target), Fails("a link out of the corpus", "access"))
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
