"""What does an image cost before the tagger sees it, do threads share that, what does a scaled decode change?

Images are the demo's, enlarged four times by Lanczos, with grain so that they have the detail and the bytes
of a picture that was never small, as JPEG of quality 90. Single steps are timed by the CPU clock of their
thread, which a busy neighbour moves little; pools by the wall, where only ratios within one run say anything.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from blake3 import blake3
from PIL import Image, JpegImagePlugin

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.conventions import PREPROCESSINGS
from pfgdata.images import decode, perceptual_hash, square
from pfgdata.taggers import OnnxTagger

IMAGES = Path(__file__).parent.parent / "pipelines" / "demo" / "images"
SIDE = 448  # of the WD14 taggers
GRAIN = 6  # standard deviation, of 255
ROUNDS, MANY, AT_ONCE = 15, 24, 32
MEGAPIXEL = (896, 1152)

Pixels = npt.NDArray[np.uint8]


def jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG of quality 90, 4:2:0."""
    out = io.BytesIO()
    image.save(out, "jpeg", quality=90)
    return out.getvalue()


def detailed(path: Path, size: tuple[int, int] | None = None) -> bytes:
    """The image four times as large, or of a size, with grain, as a JPEG; 230 KB for a megapixel."""
    with Image.open(path) as image:
        flat = image.convert("RGB")
    large = flat.resize(size or (4 * flat.width, 4 * flat.height), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(0).normal(0, GRAIN, (large.height, large.width, 3))
    return jpeg(Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8)))


def by_pillow(data: bytes) -> Pixels:
    """The decode that this one replaced."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.load()
    return np.asarray(image.convert("RGB"))


def milliseconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU time of each, in turns, so that a busy moment hits all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            start = time.thread_time()
            work()
            if turn:  # the first warms up
                times[name].append((time.thread_time() - start) * 1000)
    return {name: statistics.median(taken) for name, taken in times.items()}


def steps(data: bytes) -> None:
    """Print the time of each step, exact and scaled, and its share of the exact way."""
    whole, small = decode(data).array, decode(data, at_least=SIDE).array
    speck = jpeg(Image.new("RGB", (16, 16)))
    exact: dict[str, Callable[[], object]] = {
        "content id (BLAKE3)": lambda: blake3(data).digest(),
        "decode": lambda: decode(data),
        "perceptual hash": lambda: perceptual_hash(whole),
        "square, kohya": lambda: square(whole, preprocess="kohya", size=SIDE),
    }
    took = milliseconds(
        {
            **exact,
            "decode by Pillow": lambda: by_pillow(data),
            f"decode, at_least={SIDE}": lambda: decode(data, at_least=SIDE),
            "perceptual hash of that": lambda: perceptual_hash(small),
            "square of that, kohya": lambda: square(small, preprocess="kohya", size=SIDE),
            "all of a 16 x 16 image": lambda: prepare(speck, side=16),  # all but the lock's share is gone
            **{
                f"square, {name}": partial(square, whole, preprocess=name, size=SIDE)
                for name in PREPROCESSINGS[1:]
            },
        }
    )
    total = sum(took[name] for name in exact)
    sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (whole, small)]
    print(f"  {len(data) / 1000:.0f} KB, {sizes[0]}, scaled {sizes[1]}")
    for name, each in took.items():
        print(f"  {name:26} {each:6.2f} ms {each / total:6.0%}")


def prepare(data: bytes, *, side: int = SIDE) -> Pixels:
    """What a stage of ingest does with an image's bytes."""
    pixels = decode(data)
    perceptual_hash(pixels.array)
    return square(pixels.array, preprocess="kohya", size=side)


def alone() -> None:
    """No threads inside OpenCV: the pool outside has them."""
    cv2.setNumThreads(1)


def images_per_second(pool: Executor, files: Sequence[bytes]) -> float:
    """Of `prepare` in a pool."""
    start = time.perf_counter()
    for _ in pool.map(prepare, files):
        pass
    return len(files) / (time.perf_counter() - start)


def pools(files: Sequence[bytes]) -> None:
    """Print images a second by one thread, by a thread a core, by a process a core: the best of six turns."""
    workers = os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(workers) as threads,
        ProcessPoolExecutor(workers, mp_context=spawn, initializer=alone) as processes,
    ):
        turns = [[images_per_second(pool, files) for pool in (one, threads, processes)] for _ in range(6)]
    rates = [max(rates) for rates in zip(*turns, strict=True)]
    for name, rate in zip(("one thread", f"{workers} threads", f"{workers} processes"), rates, strict=True):
        print(f"  {name:26} {rate:6.0f} images/s {rate / rates[0]:6.2f} x")


def fast_transforms(data: bytes) -> Pixels:
    """What libjpeg-turbo's faster transforms give at full size; the product does not use them."""
    return np.asarray(simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True), np.uint8)


WAYS: dict[str, Callable[[bytes], Pixels]] = {
    f"at_least={SIDE}": lambda data: decode(data, at_least=SIDE).array,
    "fast transforms": fast_transforms,
    "saved again, quality 90": lambda data: decode(jpeg(Image.fromarray(decode(data).array))).array,
}


class Seen:
    """What a store would hold of images: scores, features of length 1, hashes; and their squares."""

    def __init__(self, arrays: Iterable[Pixels], tagger: OnnxTagger) -> None:
        squares, self.hashes, self.shapes = [], [], []
        for array in arrays:
            squares.append(square(array, preprocess="kohya", size=tagger.image_size))
            self.hashes.append(perceptual_hash(array))
            self.shapes.append(array.shape)
        self.squares = np.stack(squares)
        batches = range(0, len(squares), AT_ONCE)
        parts = [tagger.predict(self.squares[at : at + AT_ONCE]) for at in batches]
        self.scores, features = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.features = features / np.linalg.norm(features, axis=1, keepdims=True)

    def against(self, other: Seen) -> str:
        """How far it moved from `other`, as a row of the table."""
        cosines = (self.features * other.features).sum(axis=1)
        pairs = zip(self.squares, other.squares, strict=True)
        pixels = np.mean([cv2.absdiff(one, two).mean() for one, two in pairs])
        bits = [(one ^ two).bit_count() for one, two in zip(self.hashes, other.hashes, strict=True)]
        moved = ((self.scores > 0.35) != (other.scores > 0.35)).sum() / (other.scores > 0.35).sum()
        scaled = sum(one != two for one, two in zip(self.shapes, other.shapes, strict=True))
        return (
            f"{scaled:6d} {pixels:7.2f} {cosines.mean():13.5f} {np.percentile(cosines, 1):.5f}"
            f" {cosines.min():.5f} {np.abs(self.scores - other.scores).max():6.3f} {moved:11.2%}"
            f" {np.mean(bits):11.2f} {max(bits):5d}"
        )


def drift(files: Sequence[bytes], tagger: OnnxTagger) -> None:
    """Print how far squares, features, scores and hashes move from those of the exact decode."""
    exact = Seen((decode(data).array for data in files), tagger)
    print(f"  {'':24} scaled  pixels  cosine: mean     1 %   least  score  tags moved  hash: mean  most")
    for name, way in WAYS.items():
        print(f"  {name:24} {Seen((way(data) for data in files), tagger).against(exact)}")


def main() -> None:
    """Print the three tables."""
    alone()
    paths = sorted(path for path in IMAGES.rglob("*") if path.is_file())
    print("One JPEG of a megapixel, CPU time of one thread")
    steps(detailed(paths[0], MEGAPIXEL))
    print(f"Decode, hash and square of {MANY} such JPEGs")
    pools([detailed(path, MEGAPIXEL) for path in paths[:MANY]])
    print(
        f"{len(paths)} images of the demo, four times as large, demo tagger: other decodes against the exact"
    )
    drift([detailed(path) for path in paths], OnnxTagger.load("demo"))


if __name__ == "__main__":
    main()
