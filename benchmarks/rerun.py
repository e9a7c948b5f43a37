"""What does it cost to find out that 600,000 images are done? Against a bare scandir + stat of the same tree.

Each figure is of a process of its own that has loaded its modules (benchmarks/startup.py times those). The
store's rows are made up, with the names, sizes and times of the tree: `tree/` has a row for each file,
`new-N/` has N files without one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.corpus import plan_segments
from pfgdata.inference import Precision
from pfgdata.ingest import IngestOptions, IngestReport, ingest
from pfgdata.ingest.plan import Planning, plan_batches
from pfgdata.ingest.tasks import Plan
from pfgdata.records import NoProgress, TaggerIdentity
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Store, StoreIdentity, failures_table
from pfgdata.vocabulary import GENERAL, RATING, Vocabulary

FOLDER, ROWS, LINKS = 1000, 8192, 50_000  # files a folder, rows a shard, names a file (ext4 allows 65,000)
NEW = (2_000, 20_000, 200_000)
RUNS = 3


class FirstBatch(Exception):
    """Raised when the first image reaches the model."""


class Stopwatch:
    """A tagger that stops the run at its first batch."""

    def __init__(self) -> None:
        names = ("general", "sensitive", "questionable", "explicit", "1girl")
        categories = np.array([RATING] * 4 + [GENERAL], np.uint8)
        self.vocabulary = Vocabulary(names=names, categories=categories, counts=np.ones(5, np.int64))
        self.identity = TaggerIdentity(
            name="none", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
        )
        self.feature_dim, self.image_size, self.provider, self.parallel = 1, 64, "none", 1
        self.batch_size: int | None = None
        self.precision: Precision = "float32"

    def predict(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Raise FirstBatch."""
        raise FirstBatch


def make_tree(folder: Path, files: int, image: bytes) -> None:
    """`files` names of a few real files, 1,000 a folder."""
    source = folder
    for number in range(files):
        place = folder / f"{number // FOLDER:04}"
        if number % FOLDER == 0:
            place.mkdir(parents=True)
        if number % LINKS == 0:
            source = folder / f".source{number}"
            source.write_bytes(image)
            os.utime(source, ns=(0, 1_700_000_000_000_000_000))
        os.link(source, place / f"{number % FOLDER:06}_some_name.jpg")


def make_store(path: Path, tree: Path, files: int, image: bytes) -> None:
    """A store with a row for each file of `tree`."""
    tagger = Stopwatch()
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=1
    )
    store = Store.create(path, identity=identity, vocabulary=tagger.vocabulary)
    chance = np.random.default_rng(0)
    with store.writer() as writer:
        writer.set_roots({str(tree): str(tree)})
        for start in range(0, files, ROWS):
            numbers = range(start, min(start + ROWS, files))
            count = len(numbers)
            ids = pa.array([chance.bytes(16) for _ in numbers], pa.binary(16))
            columns = {
                "content_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
                "root": pa.array([str(tree)] * count).dictionary_encode(),
                "path": pa.array([f"{n // FOLDER:04}/{n % FOLDER:06}_some_name.jpg" for n in numbers]),
                "size": pa.array(np.full(count, len(image), np.uint64)),
                "mtime_ns": pa.array(np.full(count, 1_700_000_000_000_000_000)),
            }
            nulls = {name: pa.nulls(count, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
            table = pa.table({**nulls, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)
            features = np.zeros((count, 1), np.float16)
            writer.commit(ShardContents(images=table, features=features, failures=failures_table([])))


def bare(folder: bytes) -> int:
    """Scan and stat all below `folder`; the number of files."""
    found = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += bare(entry.path)
            else:
                os.stat(entry.path)  # noqa: PTH116
                found += 1
    return found


def memory() -> float:
    """The most this process ever held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(what: str, place: Path) -> dict[str, float]:
    """One figure, in this process."""
    tree = place / "tree"
    if what == "bare":
        start, before = time.perf_counter(), time.process_time()
        files = bare(os.fsencode(tree))
        cpu = time.process_time() - before
        return {"files": files, "seconds": time.perf_counter() - start, "cpu": cpu}
    store = Store.open(place / "feats")
    if what == "start":
        return {"seconds": start_seconds(store, place)}
    plan_of([place / "one.jpg"], None)
    inputs = [tree] if what == "rerun" else [tree, place / what]
    before, cpu = memory(), time.process_time()
    start = time.perf_counter()
    plan, report = plan_of(inputs, store)
    figures = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    figures |= {"mb": memory() - before, "tasks": len(plan)}
    assert report.pending == len(plan) and report.gone == 0
    return {**figures, "unchanged": report.unchanged}


def plan_of(inputs: list[Path], store: Store | None) -> tuple[Plan, IngestReport]:
    """What an ingest of `inputs` would do."""
    report = IngestReport()
    segments = plan_segments(inputs, store.roots() if store else {})
    planning = Planning(IngestOptions(), report, [])
    snapshot = store.snapshot() if store else None
    plan = Plan(plan_batches(segments, snapshot, planning, progress=NoProgress()))
    return plan, report


def start_seconds(store: Store, place: Path) -> float:
    """From opening the store to the first batch of an ingest that walks one image."""
    start = time.perf_counter()
    try:
        segments = plan_segments([place / "one.jpg"], store.roots())
        ingest(segments, store, Stopwatch(), options=IngestOptions(batch_size=1, threads=1))
    except FirstBatch:
        return time.perf_counter() - start
    raise AssertionError("no image reached the model")


def measure(what: str, place: Path) -> dict[str, float]:
    """The figures of a fresh process."""
    command = [sys.executable, __file__, "--child", what, str(place)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def image_bytes() -> bytes:
    """A small JPEG."""
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "jpeg")
    return out.getvalue()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=600_000)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the tree is made")
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Path(options.child[1]))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place, image = Path(folder).resolve(), image_bytes()
        (place / "one.jpg").write_bytes(image)
        make_tree(place / "tree", options.files, image)
        for new in NEW:
            make_tree(place / f"new-{new}", new, image)
        make_store(place / "feats", place / "tree", options.files, image)
        report(place, options.files)


def report(place: Path, files: int) -> None:
    """Measure and print each figure; ratios are of medians of runs that took turns."""
    runs = [(measure("bare", place), measure("rerun", place)) for _ in range(RUNS)]
    base, base_cpu = (statistics.median(one[what] for one, _ in runs) for what in ("seconds", "cpu"))
    again, again_cpu = (statistics.median(two[what] for _, two in runs) for what in ("seconds", "cpu"))
    assert all(one["files"] >= files and two["unchanged"] == files for one, two in runs)
    start = statistics.median(measure("start", place)["seconds"] for _ in range(RUNS))
    print(f"{f'{files:,} files':42} wall s   cpu s  times bare   held MB")
    line = "{:42} {:6.2f}  {:6.2f}  {:4.2f} {:4.2f}  {:8.0f}".format
    print(line("bare scandir + stat", base, base_cpu, 1, 1, 0))
    print(line("rerun, nothing new", again, again_cpu, again / base, again_cpu / base_cpu, runs[0][1]["mb"]))
    print(f"{'start to the first batch, 1 file walked':42} {start:6.2f}")
    for new in NEW:
        one = measure(f"new-{new}", place)
        assert one["tasks"] == new
        print(f"{f'plan of {new:,} new ones':42} {one['seconds']:6.2f}  {one['cpu']:6.2f} {one['mb']:21.0f}")


if __name__ == "__main__":
    main()
