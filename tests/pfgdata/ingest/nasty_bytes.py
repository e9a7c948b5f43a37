"""Image files as no tool should write them, and as all of them do: bytes made by code from one picture.

It is 80 x 100, a red block top left, a blue one top right.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

__all__ = [
    "HEIGHT",
    "WIDTH",
    "animated",
    "app1",
    "bad_crc_inside",
    "big_gif",
    "chunk",
    "cmyk_profile",
    "compressed_chunk",
    "converted",
    "encoded",
    "exif",
    "flipped",
    "gps",
    "hidden_default_apng",
    "interlaced",
    "jpeg_claiming",
    "picture",
    "png16",
    "png_by_hand",
    "turned",
]

WIDTH, HEIGHT = 80, 100


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


def compressed_chunk(kind: bytes, name: bytes) -> bytes:
    return png_with(chunk(kind, name + b"\0\0" + zlib.compress(bytes(20_000_000))))
