"""TIFFs by hand: what no writer here makes, depth x photometric x extra samples x planes x byte order."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.pfgdata.images.kinds import INTEGERS, Kind, Samples, Turn, packed_rows, samples_of

__all__ = ["tiff", "tiffs"]


def tiff(
    samples: Samples,
    turn: Turn | None,
    *,
    photometric: int,
    bits: int,
    order: str = "<",
    form: int = 1,
    **more: Any,
) -> bytes:
    """A TIFF by hand of samples [H, W, C]: `form` 1 unsigned, 2 signed, 3 float.

    `more`: extra (kinds of the extra samples), planar, packed (deflate), big (BigTIFF), colours (a palette).
    """
    height, width, channels = samples.shape
    planes = np.moveaxis(samples, -1, 0)[..., None] if more.get("planar") else [samples]
    strips = [
        packed_rows(part, bits, order, form)
        for plane in planes
        for part in (plane[y : y + 10] for y in range(0, height, 10))
    ]
    if more.get("packed"):
        strips = [zlib.compress(strip) for strip in strips]
    big = bool(more.get("big"))
    at = 16 if big else 8
    offsets = [at + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits] * channels),
        259: (3, [8 if more.get("packed") else 1]),
        262: (3, [photometric]),
        273: (4, offsets),
        277: (3, [channels]),
        278: (3, [10]),
        279: (4, list(map(len, strips))),
        284: (3, [2 if more.get("planar") else 1]),
        339: (3, [form] * channels),
    }
    if turn:
        tags[274] = (turn.kind, [turn.number])
    if more.get("extra"):
        tags[338] = (3, list(more["extra"]))
    if more.get("colours"):
        tags[320] = (3, more["colours"])
    return _directory(b"".join(strips), tags, order, big=big)


def _directory(pixels: bytes, tags: dict[int, tuple[int, list[int]]], order: str, *, big: bool) -> bytes:
    """The header, the pixels, what does not fit into the directory, the directory."""
    count, entry, place = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    room, head = struct.calcsize(place), 16 if big else 8
    body, entries = bytearray(pixels), b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{INTEGERS[kind]}", *values)
        entries += struct.pack(order + entry, tag, kind, len(values))
        if len(packed) > room:
            entries += struct.pack(order + place, head + len(body))
            body += packed + bytes(len(packed) % 2)
        else:
            entries += packed.ljust(room, b"\0")
    body += bytes(len(body) % 2)
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    start += (
        struct.pack(order + "HHQ", 8, 0, head + len(body))
        if big
        else struct.pack(order + "I", head + len(body))
    )
    return start + bytes(body) + struct.pack(order + count, len(tags)) + entries + bytes(room)


def tiffs() -> Iterator[Kind]:
    for order, packed in itertools.product("<>", (False, True)):
        shared: dict[str, Any] = {"order": order, "packed": packed}
        for name, samples, options in _tiff_pixels():
            yield _tiff(f"{name} {order}{' packed' if packed else ''}", samples, **shared, **options)


def _tiff(name: str, samples: Samples, **options: Any) -> Kind:
    extra = options.get("extra")
    within = 3 if extra == (1,) else 2 if extra or options["photometric"] == 5 else 1  # steps that each round
    return Kind(
        name=f"tiff {name}",
        save=lambda turn: tiff(samples, turn, **options),
        within=15 if options["photometric"] == 8 else within,  # Lab: of D50 or of D65, no file says
        has_alpha=extra != (0,),
    )


def _tiff_pixels() -> Iterator[tuple[str, Samples, dict[str, Any]]]:
    for photometric, bits in itertools.product((0, 1), (1, 2, 4, 8, 16)):
        word = ("white is 0", "black is 0")[photometric]
        yield f"grey {bits} {word}", samples_of(1, 2**bits - 1), {"photometric": photometric, "bits": bits}
    for photometric in (0, 1):
        ramp = samples_of(1, 2**15) / 2.0**15
        yield f"float photometric {photometric}", ramp, {"photometric": photometric, "bits": 32, "form": 3}
    for bits, extra in itertools.product((8, 16), (0, 1, 2)):
        most = 2**bits - 1
        two, four = samples_of(2, most, clear=True), samples_of(4, most, clear=True)
        if extra == 1:  # associated: multiplied
            two, four = (np.rint(one * _alpha(one, most)).astype(np.int64) for one in (two, four))
        yield f"grey {bits} extra {extra}", two, {"photometric": 1, "bits": bits, "extra": (extra,)}
        for planar in (False, True):
            options = {"photometric": 2, "bits": bits, "extra": (extra,), "planar": planar}
            yield f"rgb {bits} extra {extra}{' planes' if planar else ''}", four, options
    for bits, planar in itertools.product((8, 16), (False, True)):
        options = {"photometric": 2, "bits": bits, "planar": planar}
        yield f"rgb {bits}{' planes' if planar else ''}", samples_of(3, 2**bits - 1), options
        options = {"photometric": 5, "bits": bits, "planar": planar}
        yield f"cmyk {bits}{' planes' if planar else ''}", samples_of(4, 2**bits - 1) // 2, options
    for bits in (1, 2, 4, 8):
        colours = [int(v) for v in np.random.default_rng(bits).integers(0, 65536, 3 * 2**bits)]
        yield (
            f"palette {bits}",
            samples_of(1, 2**bits - 1),
            {"photometric": 3, "bits": bits, "colours": colours},
        )
    yield "rgb 8 big", samples_of(3, 255), {"photometric": 2, "bits": 8, "big": True}
    yield "lab 8", samples_of(3, 60) + np.array([60, 0, 0]), {"photometric": 8, "bits": 8}


def _alpha(samples: Samples, most: int) -> npt.NDArray[np.float64]:
    """What multiplies each channel: alpha the colours, 1 alpha."""
    factor = np.repeat(samples[..., -1:] / most, samples.shape[2], axis=2)
    factor[..., -1] = 1
    return factor
