"""How fast a tagger is on a device: precision x batch size, bytes against floats, what float16 changes.

    python benchmarks/devices.py FOLDER [--device auto] [--batches 16,32,64,128] [--seconds 3]

FOLDER holds model.onnx and selected_tags.csv; `demo` is the tagger of the package. Images are noise over
random colours: the time of a tagger does not depend on what it sees. The doctor's findings come first, so
that a table says what it was measured on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.errors import PfgError
from pfgdata.hub import resolve
from pfgdata.inference import Device, Precision, choose_batch_size, devices_of, open_session
from pfgdata.taggers import OnnxTagger, diagnose

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16")


def pictures(count: int, side: int) -> Images:
    """Noise over random colours, uint8 [count, side, side, 3]."""
    chance = np.random.default_rng(11)
    colours = chance.integers(0, 128, (count, 1, 1, 3), dtype=np.uint8)
    return colours + chance.integers(0, 128, (count, side, side, 3), dtype=np.uint8)


def rate(call: Callable[[], object], images: int, *, threads: int, seconds: float) -> float:
    """Images a second of `call`, which does `images` of them, from so many threads; after one call each."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: call(), range(threads)))
        start = time.perf_counter()
        end = start + seconds

        def work(_: int) -> int:
            done = 0
            while time.perf_counter() < end or not done:
                call()
                done += images
            return done

        total = sum(pool.map(work, range(threads)))
        return total / (time.perf_counter() - start)


def plain(folder: Path, device: Device) -> Callable[[Images], tuple[Floats, ...]]:
    """The model file as it is, with plain `session.run`: floats made by numpy, four times the bytes."""
    model = (folder / "model.onnx").read_bytes()
    session = open_session(model, device=device, threads=None, half=False)
    (image,) = session.get_inputs()
    dtype = np.float16 if "16" in image.type else np.float32
    outputs = [output.name for output in session.get_outputs()]

    def run(images: Images) -> tuple[Floats, ...]:
        turned = images[..., ::-1]
        if image.shape[3] != 3:
            turned = turned.transpose(0, 3, 1, 2)
        return tuple(session.run(outputs, {image.name: np.ascontiguousarray(turned, dtype)}))

    return run


def speeds(tagger: OnnxTagger, batches: list[int], images: Images, seconds: float) -> None:
    """A line for each batch size: one caller, then as many as the tagger calls useful."""
    for size in [tagger.batch_size] if tagger.batch_size else batches:
        some = images[:size]
        call = lambda some=some: tagger.predict(some)  # noqa: E731
        try:
            one = rate(call, size, threads=1, seconds=seconds)
            all_lanes = rate(call, size, threads=tagger.parallel, seconds=seconds)
        except PfgError as problem:
            print(f"{tagger.precision:8} {size:6}  {problem}")
            return
        print(f"{tagger.precision:8} {size:6} {one:10.1f} {all_lanes:10.1f}", flush=True)


def drift(name: str, exact: tuple[Floats, Floats], found: tuple[Floats, Floats]) -> None:
    """How far scores and features are from the CPU's in float32."""
    a, b = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (exact[1], found[1]))
    cosine = (a * b).sum(1)
    largest = np.abs(exact[1] - found[1]).max() / np.abs(exact[1]).max()
    change = np.abs(exact[0] - found[0])
    print(
        f"{name:20} cosine of features: least {cosine.min():.6f}, mean {cosine.mean():.6f};"
        f" largest change of a feature {largest:.1e} of the largest, of a score {change.max():.1e}",
        flush=True,
    )


def main() -> None:
    """Print the doctor's findings and the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", default="")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    chosen = parser.parse_args()
    for finding in diagnose().findings:
        print(f"{finding.what:14} {finding}")
    (first, *others) = devices_of(chosen.device)
    folder = resolve(chosen.folder, what="tagger").folder
    batches = [int(size) for size in chosen.batches.split(",") if size]
    batches = batches or ([1, 4, 8] if first.kind == "cpu" else [16, 32, 64, 128, 256])
    print(f"\n{folder} on {', '.join(map(str, [first, *others]))}; images/s")
    measure(chosen.folder, folder, chosen.device, first, batches, chosen.seconds)


def measure(name: str, folder: Path, device: str, first: Device, batches: list[int], seconds: float) -> None:
    """The tables of one tagger."""
    on_cpu = OnnxTagger.load(name, device="cpu")
    images = pictures(max(*batches, 8), on_cpu.image_size)
    exact = on_cpu.predict(images[:8])
    print(f"{'':8} {'batch':>6} {'1 caller':>10} {'all lanes':>10}")
    drifts = []
    for precision in PRECISIONS:
        start = time.perf_counter()
        try:
            tagger = OnnxTagger.load(name, device=device, precision=precision)
        except PfgError as problem:
            print(f"{precision:8} {problem}")
            continue
        loaded = time.perf_counter() - start
        if precision == "float32":
            side_by_side(tagger, plain(folder, first), images, batches, seconds)
        speeds(tagger, batches, images, seconds)
        start = time.perf_counter()
        size = choose_batch_size(tagger)
        took = time.perf_counter() - start
        print(
            f"{tagger.precision:8} loaded in {loaded:.1f} s; batch {size} chosen in {took:.1f} s", flush=True
        )
        drifts.append((f"{precision} on {tagger.devices[0]}", tagger.predict(images[:8])))
    print("\nagainst float32 on the CPU, 8 images")
    for label, found in drifts:
        drift(label, exact, found)


def side_by_side(
    tagger: OnnxTagger,
    run: Callable[[Images], tuple[Floats, ...]],
    images: Images,
    batches: list[int],
    seconds: float,
) -> None:
    """The file as it is against bytes, in turns so that a shared machine's moods fall on both."""
    size = tagger.batch_size or batches[len(batches) // 2]
    some = images[:size]
    rates: dict[str, list[float]] = {"floats": [], "bytes": []}
    for _ in range(3):
        rates["floats"].append(rate(lambda: run(some), size, threads=1, seconds=seconds / 3))
        rates["bytes"].append(rate(lambda: tagger.predict(some), size, threads=1, seconds=seconds / 3))
    floats, as_bytes = (max(values) for values in rates.values())
    print(f"float32  {size:6} {floats:10.1f}  session.run of the file, floats from numpy")
    print(f"float32  {size:6} {as_bytes:10.1f}  bytes, {as_bytes / floats:.2f} x", flush=True)


if __name__ == "__main__":
    main()
