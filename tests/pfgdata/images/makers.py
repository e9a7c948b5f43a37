"""Files of the matrix: each format x depth x photometric x alpha that the writers here make, in every turn.

Every kind of pixels comes in all eight turns, the EXIF types and byte orders taking turns; one kind of each
format comes in every turn of every type and order.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.pfgdata.images.kinds import (
    HEIGHT,
    INTEGERS,
    WIDTH,
    Kind,
    Made,
    Samples,
    Turn,
    exif_block,
    packed_rows,
    samples_of,
    swapped_profile,
)
from tests.pfgdata.images.tiffs import tiffs

__all__ = ["Made", "every_file"]


def every_file() -> Iterator[Made]:
    """All of the matrix, in a fixed order."""
    firsts = set[str]()
    for number, kind in enumerate(itertools.chain(tiffs(), _pngs(), _pillows(), _bmps(), _plugins())):
        format = kind.name.split()[0]
        whole = format not in firsts
        firsts.add(format)
        for turn in _turns(number, whole=whole) if kind.turns else [Turn(1)]:
            name = (
                f"{kind.name}, turn {turn.number} of type {turn.kind} {turn.order}"
                if kind.turns
                else kind.name
            )
            yield Made(name=name, data=kind.save(turn), within=kind.within, has_alpha=kind.has_alpha)


def _turns(number: int, *, whole: bool) -> list[Turn]:
    numbers, kinds, orders = range(1, 9), list(INTEGERS), "<>"
    if whole:
        return [Turn(*one) for one in itertools.product(numbers, kinds, orders)]
    return [Turn(n, kinds[(n + number) % len(kinds)], orders[(n + number // 2) % 2]) for n in numbers]


# ------------------------------------------------------------------------------------------------------- PNG


def _png(depth: int, colour: int, samples: Samples, turn: Turn, *chunks: tuple[bytes, bytes]) -> bytes:
    rows = b"".join(b"\0" + packed_rows(row[None], depth, ">", 1) for row in samples)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    exif = (b"eXIf", exif_block(turn)[6:])
    parts = [(b"IHDR", header), exif, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def _pngs() -> Iterator[Kind]:
    def kind(name: str, depth: int, colour: int, samples: Samples, *chunks: tuple[bytes, bytes]) -> Kind:
        # 16 bits: a grey is divided by 257, a colour keeps its high byte
        within = 2 if depth == 16 else 0
        return Kind(
            name=f"png {name}", save=lambda turn: _png(depth, colour, samples, turn, *chunks), within=within
        )

    yield kind("rgb 8", 8, 2, samples_of(3, 255))
    yield kind("rgb 16", 16, 2, samples_of(3, 65535))
    for depth in (1, 2, 4, 8, 16):
        grey = samples_of(1, 2**depth - 1)
        yield kind(f"grey {depth}", depth, 0, grey)
        yield kind(f"grey {depth} key", depth, 0, grey, (b"tRNS", struct.pack(">H", int(grey[5, 7, 0]))))
    for depth in (8, 16):
        rgb = samples_of(3, 2**depth - 1)
        key = struct.pack(">3H", *map(int, rgb[5, 7]))
        yield kind(f"rgb {depth} key", depth, 2, rgb, (b"tRNS", key))
        yield kind(f"grey {depth} alpha", depth, 4, samples_of(2, 2**depth - 1, clear=True))
        yield kind(f"rgb {depth} alpha", depth, 6, samples_of(4, 2**depth - 1, clear=True))
    for depth in (1, 2, 4, 8):
        colours = np.random.default_rng(depth).integers(0, 256, 3 * 2**depth, np.uint8).tobytes()
        places = samples_of(1, 2**depth - 1)
        yield kind(f"palette {depth}", depth, 3, places, (b"PLTE", colours))
        clear = (b"PLTE", colours), (b"tRNS", b"\x80")
        yield kind(f"palette {depth} alpha", depth, 3, places, *clear)


# ------------------------------------------------------------------------- Pillow's, OpenCV's, the plugins'


def _image(mode: str) -> Image.Image:
    if mode in ("L", "P"):
        return Image.fromarray(samples_of(1, 255)[..., 0].astype(np.uint8))
    if mode == "1":
        return Image.fromarray(samples_of(1, 1)[..., 0].astype(bool))
    if mode == "I;16":
        return Image.fromarray(samples_of(1, 65535)[..., 0].astype(np.uint16))
    if mode == "F":
        return Image.fromarray((samples_of(1, 255)[..., 0] / 255).astype(np.float32))
    channels = len(mode)
    samples = samples_of(channels, 255, clear=mode.endswith("A"))
    return Image.fromarray(samples.astype(np.uint8), mode)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _pillow(name: str, mode: str, within: float = 0, *, exif: bool = True, **options: Any) -> Kind:
    image, format = _image(mode), name.split()[0]

    def save(turn: Turn) -> bytes:
        if format in (
            "avif",
            "heif",
        ):  # their writers read the number, and say it by boxes of the format's own
            turn = Turn(turn.number)
        return _saved(image, format, **options, **({"exif": exif_block(turn)} if exif else {}))

    return Kind(name=name, save=save, within=within, turns=exif)


def _pillows() -> Iterator[Kind]:
    for sampling, progressive in itertools.product(("4:4:4", "4:2:2", "4:2:0"), (False, True)):
        words = f"jpeg rgb {sampling}{' progressive' if progressive else ''}"
        yield _pillow(words, "RGB", 3, quality=95, subsampling=sampling, progressive=progressive)
    yield _pillow("jpeg grey", "L", 1, quality=95)
    yield _pillow("jpeg cmyk", "CMYK", 3, quality=95)
    yield _pillow("jpeg rgb kept", "RGB", 1, quality=95, keep_rgb=True)
    for mode in ("RGB", "RGBA"):
        yield _pillow(f"webp {mode} lossless", mode, lossless=True, exact=True)
        yield _pillow(f"webp {mode} lossy", mode, 1, quality=95)
    for mode, options in itertools.product(("L", "RGB", "1"), _GIFS):
        yield _pillow(f"gif {mode} {options}", mode, exif=False, **options)
    for packing in ("tiff_lzw", "packbits", "zstd", "jpeg"):
        yield _pillow(
            f"tiff {packing}", "RGB", 3 if packing == "jpeg" else 0, exif=False, compression=packing
        )
    for format in ("jpeg", "png", "webp", "tiff"):
        yield _pillow(f"{format} profile", "RGB", 3, exif=False, icc_profile=swapped_profile(), quality=95)
    yield _pillow("tiff group4", "1", exif=False, compression="group4")
    more: dict[str, Any] = {"save_all": True, "append_images": [_image("L").convert("RGB")], "lossless": True}
    for format in ("gif", "png", "webp", "tiff"):
        yield _pillow(f"{format} of two pictures", "RGB", exif=False, **more)


_GIFS: tuple[dict[str, Any], ...] = ({}, {"transparency": 3}, {"interlace": False})


def _bmps() -> Iterator[Kind]:
    for mode in ("1", "L", "P", "RGB"):
        yield _pillow(f"bmp {mode}", mode, exif=False)
    for masks, down in itertools.product(_MASKS, (False, True)):
        words = f"bmp {' '.join(f'{mask:x}' for mask in masks)}{' downwards' if down else ''}"
        # 5 bits are widened by repeating them, or by 255 / 31: they round apart
        yield _still(words, _bmp(masks, down=down), within=1)


_MASKS = (
    (0x7C00, 0x03E0, 0x001F),
    (0xF800, 0x07E0, 0x001F),
    (0xFF0000, 0x00FF00, 0x0000FF),
    (0xFF0000, 0x00FF00, 0x0000FF, 0xFF000000),
)


def _bmp(masks: tuple[int, ...], *, down: bool) -> bytes:
    """A pixel in masks, of 16 bits where they fit and otherwise of 32; rows upwards unless `down`."""
    bits = 32 if max(masks) > 0xFFFF else 16
    samples = samples_of(len(masks), 255, clear=len(masks) == 4)
    value = np.zeros((HEIGHT, WIDTH), np.int64)
    for channel, mask in enumerate(masks):
        low = (mask & -mask).bit_length() - 1
        value |= samples[..., channel] * (mask >> low) // 255 << low
    rows = value if down else value[::-1]
    pixels = np.pad(rows.astype(f"<u{bits // 8}"), ((0, 0), (0, WIDTH % 2 if bits == 16 else 0))).tobytes()
    size = (WIDTH, -HEIGHT if down else HEIGHT)
    header = struct.pack("<IiiHHIIiiII", 108, *size, 1, bits, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<4I", *masks, *[0] * (4 - len(masks))) + b"BGRs" + bytes(48)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def _still(name: str, data: bytes, *, within: float = 0) -> Kind:
    """A file that is made once and not turned."""
    return Kind(name=name, save=lambda _: data, within=within, turns=False)


def _plugins() -> Iterator[Kind]:
    import pillow_heif
    import pillow_jxl

    pillow_heif.register_heif_opener()
    for mode in ("RGB", "RGBA", "L"):
        yield _pillow(f"avif {mode}", mode, 4, quality=95, subsampling="4:4:4")
        yield _pillow(f"heif {mode}", mode, 4, quality=95, chroma=444)
    for depth in (8, 10, 12):
        colour: Any = samples_of(3, 2**depth - 1).astype(np.uint8 if depth == 8 else np.uint16)
        flags = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 95]
        # of half the colour in both directions, which is widened in two ways
        _, data = cv2.imencode(".avif", colour, flags)
        yield _still(f"avif {depth} bits", data.tobytes(), within=12)
    for mode in ("RGB", "RGBA", "L", "LA", "I;16"):
        # its profile of sRGB is passed over here, and followed there
        yield _pillow(f"jxl {mode} lossless", mode, 2, lossless=True, use_container=True)
        yield _pillow(f"jxl {mode}", mode, 4, quality=95, use_container=True)
    jpeg = next(_pillows())
    make: Any = pillow_jxl.Encoder  # its annotations lack the mode
    encoder = make(mode="RGB", lossless=True)

    def packed(turn: Turn) -> bytes:
        return bytes(encoder(jpeg.save(turn), WIDTH, HEIGHT, jpeg_encode=True))

    yield Kind(name="jxl packed jpeg", save=packed, within=4)
