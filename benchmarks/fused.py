"""Does a tagger gain by fused attention, LayerNorm and GELU, on a CPU and on a GPU?

    python benchmarks/fused.py [FOLDER ...] [--shape vit] [--device auto] [--batches 64,128,256]
        [--precisions float16]

FOLDER holds model.onnx and selected_tags.csv; without one, a tagger of the shape of ViT-B/16, SwinV2-B with
windows of 14 (swin) or EVA02-B (eva), all at 448 px, is written first. The file's graph, the fused one and,
where it is there, TensorRT run in turns in one process, on ready arrays. Aim for the ViT on an H100 in
float16: 2,500 images/s, after 1,107; 3,800 is the arithmetic limit. End to end is
`benchmarks/ingest.py --device cuda --precision float16 --batch-size 128`; both take a GPU five minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.devices import pictures, rate
from benchmarks.torch_taggers import EvaShape, SwinShape, write_torch_tagger
from benchmarks.vit_tagger import write_vit_tagger
from pfgdata.conventions import Convention
from pfgdata.errors import PfgError
from pfgdata.inference import Precision, Runner, devices_of, open_model
from pfgdata.taggers import OnnxTagger, diagnose
from pfgdata.taggers.graph import read_graph

SHAPES: Mapping[str, Callable[[Path], None]] = {
    "vit": write_vit_tagger,
    "swin": partial(write_torch_tagger, shape=SwinShape()),
    "eva": partial(write_torch_tagger, shape=EvaShape()),
}


@dataclass(frozen=True)
class Side:
    """One way to run a model."""

    name: str
    runner: Runner
    told: str


@dataclass(frozen=True)
class Tagger:
    """A tagger's file and what it takes to read it."""

    model: Path
    tags: int
    convention: Convention


def open_side(tagger: Tagger, *, device: str, precision: Precision, fused: bool, threads: int | None) -> Side:
    """The graph of a tagger's file on a device, fused or not."""
    begun = time.perf_counter()
    graph = read_graph(
        open_model(tagger.model),
        num_tags=tagger.tags,
        convention=tagger.convention,
        precision=precision,
        fused=fused,
    )
    read = time.perf_counter() - begun
    runner = Runner.open(
        graph.model,
        devices_of(device)[:1],
        image=graph.image,
        outputs=[graph.scores, graph.feature],
        threads=threads,
        half=graph.half,
    )
    opened = time.perf_counter() - begun - read
    name = f"{'fused' if fused else 'as its file'}, {device}"
    return Side(name, runner, f"{graph.fused}; graph made in {read:.1f} s, session in {opened:.1f} s")


def sides_of(tagger: Tagger, *, device: str, precision: Precision, threads: int | None) -> list[Side]:
    """The file's graph, the fused one, and TensorRT where a GPU has it."""
    side = partial(open_side, tagger, precision=precision, threads=threads)
    found = [side(device=device, fused=fused) for fused in (False, True)]
    if device != "cpu":
        try:
            found.append(side(device="tensorrt", fused=False))
        except PfgError as problem:
            print(f"no TensorRT: {problem}")
    return found


def compare(sides: list[Side], batches: list[int], *, rounds: int, seconds: float) -> None:
    """Images/s and CPU time by batch, the sides in turns; the ratio to the first by round."""
    images = pictures(max(batches), sides[0].runner.image_size)
    exact = sides[0].runner.predict(images[:4])
    for side in sides:
        found = side.runner.predict(images[:4])
        off = [float(np.abs(ours - first).max()) for ours, first in zip(found, exact, strict=True)]
        print(f"{side.name:24} {side.told}; scores differ by {off[0]:.1e}, features by {off[1]:.1e}")
    print(f"{'batch':>6} {'':24} {'images/s':>10} {'of first':>9} {'lowest':>8} {'highest':>8} {'CPU ms':>8}")
    for batch in batches:
        rates: list[list[float]] = [[] for _ in sides]
        spent: list[list[float]] = [[] for _ in sides]
        for _ in range(rounds):
            for measured, taken, side in zip(rates, spent, sides, strict=True):
                call = partial(_call, side.runner, images[:batch], taken)
                measured.append(rate(call, batch, threads=side.runner.parallel, seconds=seconds))
        for measured, taken, side in zip(rates, spent, sides, strict=True):
            ratios = [ours / first for ours, first in zip(measured, rates[0], strict=True)]
            middle = [statistics.median(values) for values in (measured, ratios)]
            print(f"{batch:6} {side.name:24} {middle[0]:10.2f} {middle[1]:9.2f}", end="")
            busy = 1e3 * statistics.median(taken) / batch  # means nothing where calls run side by side
            print(f" {min(ratios):8.2f} {max(ratios):8.2f} {busy:8.0f}", flush=True)


def _call(runner: Runner, images: npt.NDArray[np.uint8], taken: list[float]) -> None:
    """Run them once, and note the seconds of CPU that the process took meanwhile."""
    begun = time.process_time()
    runner.predict(images)
    taken.append(time.process_time() - begun)


def loads(folder: Path, device: str) -> None:
    """Seconds to load the tagger: the first time, with the graph compared, and again."""
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        OnnxTagger.load(str(folder), device=device)
        took.append(time.perf_counter() - begun)
    print(f"loaded in {took[0]:.1f} s, again in {took[1]:.1f} s")


def main() -> None:
    """Print the doctor's findings and the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--shape", choices=list(SHAPES), default="vit", help="of what is written")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", default="")
    parser.add_argument("--precisions", default="", help="float32, float16 or both")
    parser.add_argument("--threads", type=int, help="of an operator; 1 beside other work, for true CPU ms")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    chosen = parser.parse_args()
    for finding in diagnose().findings:
        print(f"{finding.what:14} {finding}")
    device = devices_of(chosen.device)[0].kind
    batches = [int(size) for size in chosen.batches.split(",") if size]
    batches = batches or ([4] if device == "cpu" else [64, 128, 256])
    precisions = chosen.precisions or ("float32" if device == "cpu" else "float16")
    with tempfile.TemporaryDirectory() as name:
        os.environ["PFG_CACHE"] = name  # of graphs that were compared before: none
        if not chosen.folders:
            SHAPES[chosen.shape](Path(name) / chosen.shape)
        for folder in chosen.folders or [Path(name) / chosen.shape]:
            loaded = OnnxTagger.load(str(folder), device="cpu")
            tagger = Tagger(folder / "model.onnx", len(loaded.vocabulary), loaded.stated.convention)
            del loaded
            for precision in precisions.split(","):
                print(f"\n{folder.name}, {precision}")
                kind = cast("Precision", precision)
                sides = sides_of(tagger, device=device, precision=kind, threads=chosen.threads)
                compare(sides, batches, rounds=chosen.rounds, seconds=chosen.seconds)
                del sides
            loads(folder, device)


if __name__ == "__main__":
    main()
