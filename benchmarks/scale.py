"""What grows with a store? Known contents, adopting at 10,000 shards, the plan's memory, opening a snapshot.

Synthetic is this. The store's shards are really there, each with files, hashes and a shard.json of its own,
but of 500 rows with a name, a stat and a random content_id, without tags and with features 1 wide (10,000
are 5 million rows), and they were written without waiting for the disk. The parts are of 2,048 rows with
80 tags and features 768 wide, as a real tagger's, and adopted by the real disk. The files of a plan are
names of a few real ones. Known contents are random ids. Memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.rerun import Stopwatch, image_bytes, make_tree
from pfgdata.corpus import plan_segments
from pfgdata.files import Disk
from pfgdata.ingest import IngestJob, PlanOut, adopt, write_plan
from pfgdata.ingest.outcomes import KnownContents
from pfgdata.ingest.standing import Standing, rows_of
from pfgdata.store import (
    IMAGES_SCHEMA,
    PLANNED_SCHEMA,
    PartWriter,
    ShardContents,
    Span,
    Store,
    StoreIdentity,
    failures_table,
    index_tags,
)

ROWS, PART_ROWS, SHARD_ROWS = 500, 2048, 8192  # of a synthetic shard, of a part, of a commit
WIDTH, TAGS = 768, 80
ROOT = "/images"
NAME = "{:06}/{:03}_some_name.jpg"  # 1,000 a folder


class Hasty(Disk):
    """A disk that does not wait."""

    def sync(self, path: Path) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Known:
    """What KnownContents reads of a snapshot: contents in shards of 8,192."""

    content_ids: npt.NDArray[np.uint8]

    def by_shard(self, table: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """As a snapshot's."""
        for start in range(0, len(self.content_ids), SHARD_ROWS):
            ids = self.content_ids[start : start + SHARD_ROWS]
            yield (
                str(start),
                pa.table({"content_id": uuids(ids.tobytes()), "row": pa.array(np.arange(len(ids)))}),
            )


def uuids(data: bytes) -> pa.Array:
    """Content ids as a column."""
    plain = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(data) // 16, [None, pa.py_buffer(data)])
    return pa.ExtensionArray.from_storage(pa.uuid(), plain)


def rows(first: int, count: int, chance: np.random.Generator, *, tags: int) -> pa.Table:
    """Rows of images that are new to all others."""
    columns = {
        "content_id": uuids(chance.bytes(16 * count)),
        "root": pa.array([ROOT] * count).dictionary_encode(),
        "path": pa.array([NAME.format(*divmod(number, 1000)) for number in range(first, first + count)]),
        "size": pa.array(np.full(count, 100_000, np.uint64)),
        "mtime_ns": pa.array(np.full(count, 1_700_000_000_000_000_000)),
    }
    if tags:
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * tags)
        columns["tag_ids"] = pa.ListArray.from_arrays(
            ends, pa.array(chance.integers(0, 5, count * tags, np.uint32))
        )
        scores = pa.array(chance.random(count * tags).astype(np.float16))
        columns["tag_scores"] = pa.ListArray.from_arrays(ends, scores)
    nulls = {name: pa.nulls(count, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
    return pa.table({**nulls, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)


def contents(table: pa.Table, width: int) -> ShardContents:
    """The rows with features."""
    features = np.zeros((len(table), width), np.float16)
    return ShardContents(images=table, features=features, failures=failures_table([]))


def make_store(path: Path, shards: int) -> None:
    """A store of so many shards that are really there."""
    tagger = Stopwatch()
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=WIDTH
    )
    store = Store.create(path, identity=identity, vocabulary=tagger.vocabulary, disk=Hasty())
    chance = np.random.default_rng(0)
    with store.writer() as writer:
        writer.set_roots({ROOT: ROOT})
        for number in range(shards):
            table = rows(number * ROWS, ROWS, chance, tags=0)
            writer.commit(contents(table, 1))
        index_tags(store.snapshot())


def make_parts(store: Store, count: int, *, first: int) -> None:
    """Parts of images that the store does not have."""
    chance, plan = np.random.default_rng(first), f"{first:012x}"
    writer = PartWriter(store.parts, store.identity, disk=Hasty())
    found = {"found": count * PART_ROWS, "ignored": 0, "links": 0, "unchanged": 0, "failed": 0, "gone": 0}
    facts = {"unchanged": 0, "failed": 0, "plan": {**found, "unreadable": [], "tasks": count * PART_ROWS}}
    planned = pa.table(
        {
            **{name: pa.nulls(PART_ROWS, PLANNED_SCHEMA.field(name).type) for name in PLANNED_SCHEMA.names},
            "copied": pa.array([False] * PART_ROWS),
        }
    ).cast(PLANNED_SCHEMA)
    for number in range(count):
        table = rows(first + number * PART_ROWS, PART_ROWS, chance, tags=TAGS)
        writer.write(Span(plan, number, 0, PART_ROWS), contents(table, WIDTH), planned=planned, facts=facts)


def memory(what: str = "VmHWM") -> float:
    """The most that this process ever held, MB; VmRSS: what it holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def known_contents(size: int) -> dict[str, float]:
    """Commits of 8,192 contents between `size` / 2 and `size` known ones, and questions about 10,000."""
    chance, half = np.random.default_rng(0), size // 2
    ids = chance.integers(0, 256, (half, 16), np.uint8)
    before = memory()
    start = time.perf_counter()
    known = KnownContents(Known(ids))  # type: ignore[arg-type]
    begun = time.perf_counter() - start
    asked = [one.tobytes() for one in ids[:: max(half // 10_000, 1)]] + [
        chance.bytes(16) for _ in range(10_000)
    ]
    del ids
    seconds = []
    for number in range(half // SHARD_ROWS):
        fresh = {chance.bytes(16): row for row in range(SHARD_ROWS)}
        seconds.append(timed(lambda fresh=fresh, number=number: known.commit(str(number), fresh)))  # type: ignore[misc]
    took = timed(lambda: [known.position(one) for one in asked])
    return {
        "size": size,
        "begin_s": begun,
        "mean_ms": 1000 * statistics.fmean(seconds),
        "worst_ms": 1000 * max(seconds),
        "ask_us": 1e6 * took / len(asked),
        "bytes_a_row": 2**20 * (memory("VmRSS") - before) / size,
        "most_bytes_a_row": 2**20 * (memory() - before) / size,
    }


@dataclass(frozen=True)
class Adopted:
    """What Standing reads of a snapshot: rows in shards of 8,192, made up as they are asked for."""

    size: int

    def by_shard(self, table: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """As a snapshot's."""
        chance = np.random.default_rng(0)
        for start in range(0, self.size, SHARD_ROWS):
            made = rows(start, SHARD_ROWS, chance, tags=0)
            yield str(start), made.append_column("row", pa.array(np.arange(SHARD_ROWS)))


def standing(size: int) -> dict[str, float]:
    """The memory of what an adopter knows: half read from a store, half put by commits of 2,048 rows."""
    chance, before = np.random.default_rng(1), memory()
    known = Standing(Adopted(size // 2), "images")  # type: ignore[arg-type]
    for first in range(size // 2, size, PART_ROWS):
        known.put(rows_of(rows(first, PART_ROWS, chance, tags=0), "images"), str(first))
    return {"rows": size, "mb": memory("VmRSS") - before, "most_mb": memory() - before}


def opening(path: Path) -> dict[str, float]:
    """A first snapshot of a store, and another."""
    before, store = memory(), Store.open(path)
    first = timed(store.snapshot)
    again = timed(store.snapshot)
    return {
        "first_s": first,
        "again_s": again,
        "shards": len(store.snapshot().shards),
        "mb": memory() - before,
    }


def adopting(path: Path, count: int) -> dict[str, float]:
    """Adopt what parts there are: seconds until the first is taken, from it to the last, and after."""
    store, taken, before = Store.open(path), list[float](), memory()
    start = time.perf_counter()

    def note() -> bool:
        taken.append(time.perf_counter())
        return False

    report = adopt(store, stop=note)
    end = time.perf_counter()
    assert report.parts == count and not report.refused, report
    return {
        "before_s": taken[0] - start,
        "a_second": (len(taken) - 1) / (taken[-1] - taken[0]),
        "after_s": end - taken[-1],
        "images": store.snapshot().num_images,
        "mb": memory() - before,
    }


def planning(tree: Path, out: Path) -> dict[str, float]:
    """The memory that `ingest --plan-out` of a tree takes."""
    tagger = Stopwatch()
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=1
    )
    store = Store.create(out / "feats", identity=identity, vocabulary=tagger.vocabulary)
    before = memory()
    start = time.perf_counter()
    plan, report = write_plan(plan_segments([tree], {}), store, IngestJob(), out=PlanOut(folder=out / "plan"))
    assert plan is not None and sum(plan.rows) == report.pending
    return {"images": report.found, "seconds": time.perf_counter() - start, "mb": memory() - before}


def query(path: Path) -> dict[str, float]:
    """`pfgdata query` as a user runs it: seconds and MB."""
    words = [sys.executable, "-m", "pfgdata", "query", "path = 'none'", "--store", str(path)]
    done = subprocess.run(
        ["/usr/bin/time", "-f", "%e %M", *words], check=True, capture_output=True, text=True
    )
    seconds, kilobytes = done.stderr.strip().splitlines()[-1].split()
    return {"seconds": float(seconds), "mb": int(kilobytes) / 1024}


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "known": lambda size: known_contents(int(size)),
    "standing": lambda size: standing(int(size)),
    "open": lambda path: opening(Path(path)),
    "adopt": lambda path, count: adopting(Path(path), int(count)),
    "plan": lambda tree, out: planning(Path(tree), Path(out)),
}


def measure(*what: object) -> dict[str, float]:
    """The figures of a fresh process."""
    words = [sys.executable, __file__, "--child", *map(str, what)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


def show(what: str, figures: dict[str, float]) -> None:
    """One line."""
    print(
        f"{what:<24}",
        "  ".join(
            f"{name} {value:,.3g}" if value < 1000 else f"{name} {value:,.0f}"
            for name, value in figures.items()
        ),
        flush=True,
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["known", "standing", "store", "plan"])
    parser.add_argument("--known", nargs=2, type=int, default=[5_000_000, 20_000_000])
    parser.add_argument("--standing", nargs=2, type=int, default=[4_000_000, 12_000_000])
    parser.add_argument("--shards", nargs=2, type=int, default=[100, 10_000])
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--files", nargs=2, type=int, default=[500_000, 2_000_000])
    parser.add_argument("--folder", type=Path, help="where stores are made, and kept")
    parser.add_argument("--child", nargs="+")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child[0]](*options.child[1:])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        if "known" in options.only:
            for size in options.known:
                show("known contents", measure("known", size))
        if "standing" in options.only:
            of_standing(options.standing)
        if "store" in options.only:
            for shards in options.shards:
                of_store(place, shards, options.parts)
        if "plan" in options.only:
            of_plan(options.files)


def of_store(place: Path, shards: int, parts: int) -> None:
    """What a store of so many shards costs; it is kept without the parts that were adopted."""
    path, whole = place / "feats", place / f"feats-{shards}"
    if not whole.exists():
        show(f"made {shards:,} shards", {"seconds": timed(lambda: make_store(whole, shards))})
    shutil.copytree(whole, path, copy_function=lambda one, two: Path(two).hardlink_to(one))
    make_parts(Store.open(path), parts, first=shards * ROWS)
    show(f"open {shards:,} shards", measure("open", path))
    show(f"query {shards:,} shards", query(path))
    show(f"adopt at {shards:,} shards", measure("adopt", path, parts))
    shutil.rmtree(path)


def of_standing(sizes: list[int]) -> None:
    """Memory of what stands, of two sizes."""
    small, large = (measure("standing", size) for size in sizes)
    for figures in (small, large):
        show("what stands", figures)
    more = large["rows"] - small["rows"]
    each = {f"{name}_bytes_a_row": 2**20 * (large[name] - small[name]) / more for name in ("mb", "most_mb")}
    show("what stands", each)


def of_plan(sizes: list[int]) -> None:
    """Memory of planning trees of two sizes."""
    figures = []
    for files in sizes:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as tree, tempfile.TemporaryDirectory() as out:
            make_tree(Path(tree) / "tree", files, image_bytes())
            figures.append(measure("plan", Path(tree) / "tree", out))
            show(f"plan of {files:,}", figures[-1])
    small, large = figures
    more = 2**20 * (large["mb"] - small["mb"]) / (large["images"] - small["images"])
    show("plan", {"bytes_an_image": more})


if __name__ == "__main__":
    main()
