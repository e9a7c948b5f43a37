"""How much of the model's and of the machine's speed does an ingest keep, and does it stay as it was?

Ratios are of one run, the sides in turn; on a shared machine read the ones of CPU time. `--device cuda`
measures a GPU instead, with nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pictures import write_jpegs, write_tiny_images
from benchmarks.vit_tagger import selected_tags, write_vit_tagger
from pfgdata.corpus import plan_segments
from pfgdata.images import Limits, decode, square
from pfgdata.inference import Precision
from pfgdata.ingest import IngestOptions, IngestReport, ingest, open_or_create
from pfgdata.records import TaggerIdentity
from pfgdata.taggers import OnnxTagger, Tagger
from pfgdata.vocabulary import Vocabulary

CORES = os.cpu_count() or 1
SIDE, OVER_FLOOR = 448, 80  # pixels; tags an image


class FreeTagger:
    """A tagger that costs nothing: 80 tags over the floor and a feature, the same for every image."""

    def __init__(self, folder: Path, *, side: int = SIDE) -> None:
        (folder / "selected_tags.csv").write_text(selected_tags())
        self.vocabulary = Vocabulary.read(folder / "selected_tags.csv")
        self.identity = TaggerIdentity(
            name="free", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
        )
        self.feature_dim, self.image_size, self.provider, self.parallel = 768, side, "none", 1
        self.batch_size: int | None = None
        self.precision: Precision = "float32"
        self._scores = np.full(len(self.vocabulary), 0.003, np.float32)
        self._scores[:: len(self._scores) // OVER_FLOOR] = 0.5

    def predict(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Scores [B, V] and features [B, F]."""
        count = len(images)
        return np.tile(self._scores, (count, 1)), np.ones((count, self.feature_dim), np.float32)


@dataclass(slots=True)
class Took:
    """What something took: seconds, and seconds of CPU of this process and its ended children."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def timed() -> Iterator[Took]:
    """Measure the block."""
    took, wall, cpu = Took(), time.perf_counter(), _cpu()
    yield took
    took.wall, took.cpu = time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def run_ingest(images: Path, tagger: Tagger, store: Path, **options: Any) -> IngestReport:
    """Ingest a folder into a new store."""
    there = open_or_create(store, tagger)
    segments = plan_segments([images], there.roots())
    return ingest(segments, there, tagger, options=IngestOptions(**options))


def bare_pixels(images: Path, decode_mode: Literal["exact", "fast"]) -> None:
    """Read, decode and shrink every file of a folder, on all cores, and nothing else."""
    with ThreadPoolExecutor(CORES) as pool:
        consume(pool, partial(square_of, at_least=SIDE if decode_mode == "fast" else None), images)


def square_of(path: Path, at_least: int | None = None) -> npt.NDArray[np.uint8]:
    """The tagger's square of a file, uint8 [S, S, 3]."""
    pixels = decode(path.read_bytes(), limits=Limits(), at_least=at_least)
    return square(pixels.array, preprocess="kohya", size=SIDE)


def consume(pool: Executor, work: Callable[[Path], object], images: Path) -> None:
    """Let `pool` do `work` on every file of a folder, in order."""
    for _ in pool.map(work, sorted(images.iterdir())):
        pass


def threads_against_processes(images: Path, rounds: int) -> None:
    """Why the pool has threads: what a pool of processes that hand squares back makes of the same work."""
    results: dict[str, list[Took]] = {"threads": [], "processes": []}
    context = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(CORES) as threads, ProcessPoolExecutor(CORES, context) as processes:
        for turn in range(rounds + 1):
            for name, pool in (("threads", threads), ("processes", processes)):
                with timed() as took:
                    consume(pool, square_of, images)
                if turn:  # the first turn starts the processes
                    results[name].append(took)
    ratio("decode and square in threads against in processes", results, "threads", "processes")


class KohyaImages:
    """The data set of sd-scripts' tag_images_by_wd14_tagger.py: PIL, numpy, OpenCV, BGR float32."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
        import cv2
        from PIL import Image

        array = np.array(Image.open(self._paths[index]).convert("RGB"))[:, :, ::-1]
        size = max(array.shape[:2])
        pad_x, pad_y = size - array.shape[1], size - array.shape[0]
        pads = ((pad_y // 2, pad_y - pad_y // 2), (pad_x // 2, pad_x - pad_x // 2), (0, 0))
        array = np.pad(array, pads, mode="constant", constant_values=255)
        if size > SIDE:
            array = cv2.resize(array, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        else:
            image = Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            array = np.array(image)
        return array.astype(np.float32)


def kohya_path(images: Path, batch_size: int) -> None:
    """What sd-scripts does before its model: a torch DataLoader of two workers."""
    from torch.utils.data import DataLoader

    paths: Any = KohyaImages(sorted(images.iterdir()))
    for batch in DataLoader(paths, batch_size=batch_size, num_workers=2, collate_fn=list):
        np.array(batch)


def data_bound(folder: Path, count: int, rounds: int) -> None:
    """Ingest with a model that costs nothing against bare loops and kohya's."""
    images, tagger = folder / "jpegs", FreeTagger(folder)
    write_jpegs(images, count)
    sides: dict[str, Callable[[Path], object]] = {
        "bare decode and square": lambda _: bare_pixels(images, "exact"),
        "ingest, exact": lambda store: run_ingest(images, tagger, store),
        "bare, fast": lambda _: bare_pixels(images, "fast"),
        "ingest, fast": lambda store: run_ingest(images, tagger, store, decode="fast"),
        "kohya's path": lambda _: kohya_path(images, 8),
    }
    results = compare(sides, folder, rounds)
    print(f"\nData bound: {count} JPEGs of a megapixel, {CORES} cores, median of {rounds}")
    table(results, count, {"ingest, fast": "bare, fast"}, "bare decode and square")
    ratio("exact against kohya's path (wanted 2)", results, "ingest, exact", "kohya's path")
    ratio("fast against kohya's path (wanted 5)", results, "ingest, fast", "kohya's path")
    threads_against_processes(images, rounds)


def model_bound(folder: Path, count: int, rounds: int, batch_size: int) -> None:
    """Ingest with a model of the real one's shape against a bare loop of session.run on ready arrays."""
    import onnxruntime

    tagger, images = vit(folder, device="cpu"), folder / "few"
    write_jpegs(images, count)
    inputs = np.random.default_rng(0).integers(0, 256, (batch_size, SIDE, SIDE, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "vit" / "model.onnx")
    name = session.get_inputs()[0].name

    def bare(_: Path) -> None:
        for _batch in range(count // batch_size):
            session.run(None, {name: inputs})

    sides: dict[str, Callable[[Path], object]] = {
        "bare session.run": bare,
        "ingest": lambda store: run_ingest(images, tagger, store, batch_size=batch_size),
    }
    results = compare(sides, folder, rounds)
    print(f"\nModel bound: ViT-B/16, {count} images, batch {batch_size}, median of {rounds} (wanted 97 %)")
    table(results, count, {}, "bare session.run")


def compare(sides: dict[str, Callable[[Path], object]], folder: Path, rounds: int) -> dict[str, list[Took]]:
    """Run every side `rounds` times, in turn, after one run each to warm up."""
    results: dict[str, list[Took]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            with tempfile.TemporaryDirectory(dir=folder) as store, timed() as took:
                side(Path(store) / "feats")
            if turn:
                results[name].append(took)
    return results


def table(results: dict[str, list[Took]], count: int, against: dict[str, str], default: str) -> None:
    """Rates, CPU cost, and both as a share of the bare side's."""
    print(f"{'':28}{'images/s':>10}{'CPU ms':>9}{'of bare':>9}{'by CPU':>9}")
    for name, runs in results.items():
        wall = statistics.median(run.wall for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        bare = results[against.get(name, default)]
        shares = [b.wall / r.wall for b, r in zip(bare, runs, strict=True)]
        by_cpu = [b.cpu / r.cpu for b, r in zip(bare, runs, strict=True)]
        print(
            f"{name:28}{count / wall:10.2f}{1000 * cpu / count:9.2f}"
            f"{statistics.median(shares):9.0%}{statistics.median(by_cpu):9.0%}"
        )


def ratio(what: str, results: dict[str, list[Took]], ours: str, theirs: str) -> None:
    """One side's rate over another's, by round: median, lowest, highest."""
    ratios = [t.wall / o.wall for o, t in zip(results[ours], results[theirs], strict=True)]
    print(f"{what}: {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")


def flat(folder: Path, counts: list[int]) -> None:
    """Memory and the first and last shard's rate over ever more images; a process for each count."""
    print("\nFlat: tiny images, a tagger that costs nothing, shards of 2,048")
    print(f"{'images':>10}{'images/s':>10}{'MB at start':>13}{'MB peak':>9}{'first shard':>13}{'last':>9}")
    for count in counts:
        images = folder / f"tiny{count}"
        write_tiny_images(images, count)
        script = [sys.executable, __file__, "--child", str(images), str(folder / f"store{count}")]
        subprocess.run(script, check=True)


def flat_child(images: Path, store: Path) -> None:
    """One row of `flat`."""
    tagger = FreeTagger(images.parent, side=64)
    before = _megabytes()
    report = run_ingest(images, tagger, store, shard_rows=2048, batch_size=32)
    records = [meta.writer for meta in open_or_create(store, tagger).snapshot().present]
    rates = [one["images"] / one["seconds"]["total"] for one in records if one.get("images", 0) >= 1500]
    first, last = (statistics.median(part) if part else 0.0 for part in (rates[:5], rates[-5:]))
    print(
        f"{report.tagged:10,}{report.images_per_second:10.0f}{before:13.0f}{_megabytes():9.0f}"
        f"{first:13.0f}{last:9.0f}"
    )


def _megabytes() -> float:
    """The most that this process has held; ru_maxrss of a child would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024  # kB


def vit(folder: Path, **how: Any) -> OnnxTagger:
    """The tagger of the real one's shape, written once."""
    place = folder / "vit"
    if not (place / "UNTRAINED").exists():
        write_vit_tagger(place)
    return OnnxTagger.load(str(place), **how)


def show_stages(report: IngestReport) -> None:
    """The stage table of a run."""
    print(f"\n{'stage':12}{'threads':>9}{'busy s':>9}{'waiting s':>11}{'ms an image':>13}")
    for stage, took in report.stages.items():
        each = 1000 * took.busy / max(1, report.tagged)
        print(f"{stage:12}{took.workers:9}{took.busy:9.2f}{took.waiting:11.2f}{each:13.3f}")
    print(report.bottleneck)


def on_device(folder: Path, options: argparse.Namespace) -> None:
    """A GPU's own rate on ready arrays, and what an ingest makes of it."""
    tagger = vit(folder, device=options.device, precision=options.precision)
    images, batch = folder / "jpegs", options.batch_size
    begun = time.perf_counter()
    write_jpegs(images, options.images, distinct=256)
    print(f"{options.images} images generated in {time.perf_counter() - begun:.0f} s")
    ready = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
    rate = bare_rate(tagger, ready, max(8, options.images // batch))
    print(f"{tagger.provider}, {options.precision}, batch {batch}, {tagger.parallel} callers, {CORES} cores")
    print(f"{'':24}{'images/s':>10}{'of bare':>9}")
    print(f"{'bare predict':24}{rate:10.1f}{1:9.0%}")
    for mode in ("exact", "fast"):
        store = folder / f"feats_{mode}"
        report = run_ingest(images, tagger, store, batch_size=batch, decode=mode)
        own = report.tagged / max(one.busy + one.waiting for one in [report.stages["write"]])
        print(f"{'ingest, ' + mode:24}{own:10.1f}{own / rate:9.0%}")
        show_stages(report)


def bare_rate(tagger: Tagger, ready: npt.NDArray[np.uint8], batches: int) -> float:
    """Images/s of `predict` on ready arrays by as many callers as it wants."""
    with ThreadPoolExecutor(tagger.parallel) as pool:
        list(pool.map(lambda _: tagger.predict(ready), range(2 * tagger.parallel)))
        begun = time.perf_counter()
        list(pool.map(lambda _: tagger.predict(ready), range(batches)))
        return batches * len(ready) / (time.perf_counter() - begun)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--only", choices=["model", "data", "flat"], help="one part")
    parser.add_argument("--large", type=int, help="one more count of tiny images")
    parser.add_argument("--folder", type=Path, help="where images and stores go; default: a temporary folder")
    parser.add_argument("--device", default="cpu", help="cuda: measure that alone")
    parser.add_argument("--precision", default="float32", choices=["float32", "float16"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        flat_child(*options.child)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, quick = Path(name), options.quick
        if options.device != "cpu":
            on_device(folder, options)
            return
        if options.only in (None, "data"):
            data_bound(folder, 200 if quick else 1000, 2 if quick else 5)
            tagger = FreeTagger(folder)
            show_stages(run_ingest(folder / "jpegs", tagger, folder / "shown"))
        if options.only in (None, "model"):
            count = 16 if quick else 64
            model_bound(folder, count, 1 if quick else 3, options.batch_size)
        if options.only in (None, "flat"):
            counts = [500, 2000, 8000] if quick else [2000, 20_000, 200_000]
            flat(folder, counts + ([options.large] if options.large else []))


if __name__ == "__main__":
    main()
