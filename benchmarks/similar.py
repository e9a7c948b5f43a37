"""How long does a likeness take over 600,000 x 768? Against reading the same bytes once, in the same run."""

from __future__ import annotations

import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.query import Thresholds, count
from pfgdata.records import TaggerIdentity
from pfgdata.similarity import Neighbours, corpus_mean
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Snapshot, Store, StoreIdentity, failures_table
from pfgdata.vocabulary import RATING, Vocabulary

SHARDS, ROWS, WIDTH, RUNS = 73, 8192, 768, 9


def build(path: Path) -> Store:
    """A store of 598,016 rows; their features have a common part, as a tagger's do."""
    ratings = ("general", "sensitive", "questionable", "explicit")
    words = Vocabulary(names=ratings, categories=np.full(4, RATING, np.uint8), counts=np.ones(4, np.int64))
    tagger = TaggerIdentity(
        name="none", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
    )
    identity = StoreIdentity(tagger=tagger, vocabulary_digest=words.digest, feature_dim=WIDTH)
    store = Store.create(path, identity=identity, vocabulary=words)
    chance = np.random.default_rng(0)
    common = chance.normal(0, 1, WIDTH).astype(np.float32)
    with store.writer() as writer:
        for number in range(SHARDS):
            features = common + chance.standard_normal((ROWS, WIDTH), np.float32)
            storage = pa.array([chance.bytes(16) for _ in range(ROWS)], pa.binary(16))
            columns = {
                "content_id": pa.ExtensionArray.from_storage(pa.uuid(), storage),
                "root": pa.array(["/images"] * ROWS).dictionary_encode(),
                "path": pa.array([f"{number:03}/{row:06}.jpg" for row in range(ROWS)]),
            }
            missing = {name: pa.nulls(ROWS, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
            table = pa.table({**missing, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)
            half, none = features.astype(np.float16), failures_table([])
            writer.commit(ShardContents(images=table, features=half, failures=none))
    return Store.open(path)


def median(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median milliseconds of `work`, after one run to warm the cache."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def read_once(snapshot: Snapshot, threads: int) -> Callable[[], object]:
    """Read every byte of the features, in so many threads."""
    maps = [np.asarray(snapshot.feature_map(shard.id)).view(np.uint64) for shard in snapshot.shards]

    def read(part: int) -> None:
        for one in maps[part::threads]:
            for start in range(0, len(one), 4096):
                one[start : start + 4096].max()

    def every() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(threads)))

    return every


def table(snapshot: Snapshot) -> None:
    """Print how long each question takes."""
    threads = os.cpu_count() or 1
    queries = np.random.default_rng(1).normal(0, 1, (64, WIDTH)) + 1
    base = median(read_once(snapshot, 1))
    every = median(read_once(snapshot, threads))
    neighbours, mean = Neighbours(snapshot), corpus_mean(snapshot)
    centred = Neighbours(snapshot, mean=mean)
    for name, took in (
        ("read the bytes once, one thread", base),
        (f"read the bytes once, {threads} threads", every),
        ("20 nearest of one image, warm", median(lambda: neighbours.nearest(queries[:1], 20))),
        ("20 nearest of one image, centred, warm", median(lambda: centred.nearest(queries[:1], 20))),
        ("20 nearest of 64 images, warm", median(lambda: neighbours.nearest(queries, 20), 3)),
        (
            "first question: maps and norms too",
            median(lambda: Neighbours(snapshot).nearest(queries[:1], 20), 3),
        ),
        ("mean of the corpus", median(lambda: corpus_mean(snapshot), 3)),
        (
            "count similar_to('000/000007.jpg') > 0.6",
            median(lambda: count(snapshot, "similar_to('000/000007.jpg') > 0.6", Thresholds()), 3),
        ),
    ):
        print(f"{name:44} {took:7.0f} ms   {took / base:5.1f} x")


def main() -> None:
    """Print the table without torch, then with it."""
    with tempfile.TemporaryDirectory() as folder:
        snapshot = build(Path(folder) / "feats").snapshot()
        print(f"{snapshot.num_images:,} rows of {WIDTH}")
        table(snapshot)
        importlib.import_module("torch")  # what is loaded is used
        print("\nwith torch loaded")
        table(snapshot)


if __name__ == "__main__":
    main()
