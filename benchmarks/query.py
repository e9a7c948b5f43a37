"""How long does a question to 600,000 images take? Against reading the Parquet files once with DuckDB."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.query import Limits, Thresholds, count, locations, run_query, select
from pfgdata.records import TaggerIdentity
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Store, StoreIdentity, failures_table
from pfgdata.vocabulary import CHARACTER, GENERAL, RATING, Vocabulary

SHARDS, ROWS, TAGS, RUNS = 73, 8192, 80, 5
RATINGS = ("general", "sensitive", "questionable", "explicit")


def vocabulary() -> Vocabulary:
    """9,083 tags, as the v2 taggers have: 4 ratings, 6,500 general, the rest characters."""
    names = [*RATINGS, *(f"tag_{n}" for n in range(6500)), *(f"who_{n}" for n in range(2579))]
    categories = [RATING] * 4 + [GENERAL] * 6500 + [CHARACTER] * 2579
    counts = np.ones(len(names), np.int64)
    return Vocabulary(names=tuple(names), categories=np.array(categories, np.uint8), counts=counts)


def shard(number: int, words: Vocabulary) -> pa.Table:
    """One shard of synthetic rows: 80 tags each, popular ones more often."""
    chance = np.random.default_rng(number)
    popular = np.minimum(chance.zipf(1.3, (ROWS, TAGS)), 6499) + 4
    scores = -np.sort(-chance.uniform(0.05, 1, (ROWS, TAGS)), axis=1)
    who = chance.integers(6504, 9083, ROWS)
    flat = np.arange(0, ROWS * TAGS + 1, TAGS, dtype=np.int32)
    columns = {
        "content_id": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([chance.bytes(16) for _ in range(ROWS)], pa.binary(16))
        ),
        "root": pa.array(["/images"] * ROWS).dictionary_encode(),
        "path": pa.array([f"{number:03}/{row:06}.jpg" for row in range(ROWS)]),
        "size": pa.array(chance.integers(1, 2**22, ROWS).astype(np.uint64)),
        "mtime_ns": pa.array(chance.integers(1, 2**60, ROWS)),
        "width": pa.array(chance.integers(200, 3000, ROWS).astype(np.uint32)),
        "height": pa.array(chance.integers(200, 3000, ROWS).astype(np.uint32)),
        "format": pa.array(["jpeg"] * ROWS).dictionary_encode(),
        "frames": pa.array(np.ones(ROWS, np.uint32)),
        "phash": pa.array(chance.integers(0, 2**63, ROWS).astype(np.uint64)),
        "rating": pa.array([RATINGS[n] for n in chance.integers(0, 4, ROWS)]).dictionary_encode(),
        "rating_scores": pa.FixedSizeListArray.from_arrays(
            pa.array(chance.uniform(0, 1, ROWS * 4).astype(np.float16)), 4
        ),
        "character": pa.array([words.names[n] for n in who]).dictionary_encode(),
        "character_score": pa.array(chance.uniform(0.05, 1, ROWS).astype(np.float16)),
        "tag_ids": pa.ListArray.from_arrays(flat, pa.array(popular.astype(np.uint32).ravel())),
        "tag_scores": pa.ListArray.from_arrays(flat, pa.array(scores.astype(np.float16).ravel())),
    }
    missing = {name: pa.nulls(ROWS, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
    return pa.table({**missing, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)


def build(path: Path) -> Store:
    """A store of 598,016 rows in 73 shards; its features are one number wide."""
    words = vocabulary()
    tagger = TaggerIdentity(
        name="none", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
    )
    identity = StoreIdentity(tagger=tagger, vocabulary_digest=words.digest, feature_dim=1)
    store = Store.create(path, identity=identity, vocabulary=words)
    with store.writer() as writer:
        for number in range(SHARDS):
            features, none = np.zeros((ROWS, 1), np.float16), failures_table([])
            writer.commit(ShardContents(images=shard(number, words), features=features, failures=none))
    return Store.open(path)


def median(work: Callable[[], object]) -> float:
    """Median milliseconds of `work`, after one run to warm the cache."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        store = build(Path(folder) / "feats")
        chosen = Thresholds()
        files = f"{store.path}/shards/*/images.parquet"
        plain = f"SELECT count(*) FROM read_parquet('{files}') WHERE character = 'who_7'"
        base = median(lambda: duckdb.sql(plain).fetchall())
        print(f"{store.snapshot().num_images:,} rows, {SHARDS} shards")
        print(f"{'plain DuckDB, one name':52} {base:7.0f} ms   1.0 x")
        for text in ("character = 'who_7'", "has('tag_7') and rating = 'general'", "width >= 2900"):
            took = median(partial(count, store.snapshot(), text, chosen))
            print(f"{'count ' + text:52} {took:7.0f} ms   {took / base:.1f} x")
        took = median(lambda: select(store.snapshot(), "width >= 2900", chosen))
        print(f"{'select width >= 2900':52} {took:7.0f} ms   {took / base:.1f} x")
        roots = locations({"/images": "/images"}, start=Path.cwd())
        took = median(
            lambda: run_query(
                store.snapshot(), "has('tag_7')", thresholds=chosen, roots=roots, limits=Limits(rows=20)
            )
        )
        print(f"{'20 rows, all columns, of has(tag_7)':52} {took:7.0f} ms   {took / base:.1f} x")
        fresh = median(lambda: Store.open(store.path).snapshot())
        print(f"{'open the store and take a snapshot':52} {fresh:7.0f} ms")


if __name__ == "__main__":
    main()
