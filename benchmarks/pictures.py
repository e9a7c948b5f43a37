"""Generated images for measurements: many files of distinct content from a few distinct pictures."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["write_jpegs", "write_tiny_images"]

_SIDES = ((1024, 1024), (832, 1216), (1216, 832), (1280, 800))  # pixels, about a megapixel each


def write_jpegs(folder: Path, count: int, *, distinct: int = 64, quality: int = 90) -> None:
    """`count` JPEGs of about a megapixel, as drawn pictures are: flat areas, edges, a little grain.

    No two have the same bytes: a comment behind the start marker numbers them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda number: _jpeg(number, quality), range(min(count, distinct))))
    for number in range(count):
        data = pictures[number % len(pictures)]
        comment = b"\xff\xfe\x00\x0a" + f"{number:08d}".encode()
        (folder / f"{number:06d}.jpg").write_bytes(data[:2] + comment + data[2:])


def write_tiny_images(folder: Path, count: int) -> None:
    """`count` GIFs of 16 x 16 pixels and distinct content, 4,096 a folder."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 120, 40)).save(stream, "GIF")
    data = stream.getvalue().removesuffix(b";")
    for number in range(count):
        place = folder / f"{number // 4096:04d}"
        if number % 4096 == 0:
            place.mkdir(parents=True)
        comment = b"\x21\xfe\x08" + f"{number:08d}".encode() + b"\x00;"
        (place / f"{number:08d}.gif").write_bytes(data + comment)


def _jpeg(number: int, quality: int) -> bytes:
    width, height = _SIDES[number % len(_SIDES)]
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8))
    flat = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    edges = np.asarray(fine.resize((width, height), Image.Resampling.NEAREST), np.float32)
    mixed = 0.8 * flat + 0.2 * edges + rng.normal(0, 1.5, (height, width, 1))
    stream = io.BytesIO()
    Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()
