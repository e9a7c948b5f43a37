"""How long does a question take? Through an open session, against DuckDB over the same Parquet files.

Both sides of a line are run in turn in one process, each time about another tag or name, so that busy
neighbours disturb both. Stores are made once, in PFG_BENCH_CACHE (by default the user's cache): 0.4 GB for
598,016 rows, 3.3 GB for 4,980,736. `--rows 600000 --rows 5000000` names other sizes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.query import Session
from pfgdata.records import TaggerIdentity
from pfgdata.store import IMAGES_SCHEMA, ShardContents, Store, StoreIdentity, failures_table, index_tags
from pfgdata.vocabulary import CHARACTER, GENERAL, RATING, Vocabulary

BLOCK, TAGS, GENERALS, RUNS = 8192, 80, 6500, 7
LARGE = 1_000_000  # rows; from there on a shard is what compact makes
RATINGS = ("general", "sensitive", "questionable", "explicit")


def vocabulary() -> Vocabulary:
    """9,083 tags, as the v2 taggers have: 4 ratings, 6,500 general, the rest characters."""
    names = [*RATINGS, *(f"tag_{n}" for n in range(GENERALS)), *(f"who_{n}" for n in range(2579))]
    categories = [RATING] * 4 + [GENERAL] * GENERALS + [CHARACTER] * 2579
    counts = np.ones(len(names), np.int64)
    return Vocabulary(names=tuple(names), categories=np.array(categories, np.uint8), counts=counts)


def bands() -> np.ndarray:
    """Where 79 bands of general tags begin: a row has one of each, so those of narrow bands are frequent."""
    growth = 1.0
    while np.floor(2 * (growth + 1e-5) ** np.arange(TAGS - 1)).sum() < GENERALS:
        growth += 1e-5
    return np.cumsum([0, *np.floor(2 * growth ** np.arange(TAGS - 1))]).astype(np.int64)


def block(number: int, words: Vocabulary, edges: np.ndarray) -> pa.Table:
    """8,192 synthetic rows of 80 different tags, the last of them a character."""
    chance = np.random.default_rng(number)
    general = (chance.random((BLOCK, TAGS - 1)) * np.diff(edges)).astype(np.int64) + edges[:-1] + 4
    who = chance.integers(GENERALS + 4, len(words), BLOCK)
    scores = chance.uniform(0.05, 1, (BLOCK, TAGS)).astype(np.float16)
    best = np.argsort(-scores, axis=1, kind="stable")
    tags = np.take_along_axis(np.concatenate([general, who[:, None]], axis=1), best, axis=1)
    flat = np.arange(0, BLOCK * TAGS + 1, TAGS, dtype=np.int32)
    ids = pa.array([chance.bytes(16) for _ in range(BLOCK)], pa.binary(16))
    columns = {
        "content_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
        "root": pa.array(["/images"] * BLOCK).dictionary_encode(),
        "path": pa.array([f"{number:03}/{row:06}.jpg" for row in range(BLOCK)]),
        "size": pa.array(chance.integers(1, 2**22, BLOCK).astype(np.uint64)),
        "mtime_ns": pa.array(chance.integers(1, 2**60, BLOCK)),
        "width": pa.array(chance.integers(200, 3000, BLOCK).astype(np.uint32)),
        "height": pa.array(chance.integers(200, 3000, BLOCK).astype(np.uint32)),
        "format": pa.array(["jpeg"] * BLOCK).dictionary_encode(),
        "frames": pa.array(np.ones(BLOCK, np.uint32)),
        "phash": pa.array(chance.integers(0, 2**63, BLOCK).astype(np.uint64)),
        "rating": pa.array([RATINGS[n] for n in chance.integers(0, 4, BLOCK)]).dictionary_encode(),
        "rating_scores": pa.FixedSizeListArray.from_arrays(
            pa.array(chance.uniform(0, 1, BLOCK * 4).astype(np.float16)), 4
        ),
        "character": pa.array([words.names[n] for n in who]).dictionary_encode(),
        "character_score": pa.array(scores[:, -1]),
        "tag_ids": pa.ListArray.from_arrays(flat, pa.array(tags.astype(np.uint32).ravel())),
        "tag_scores": pa.ListArray.from_arrays(
            flat, pa.array(np.take_along_axis(scores, best, axis=1).ravel())
        ),
    }
    missing = {name: pa.nulls(BLOCK, IMAGES_SCHEMA.field(name).type) for name in IMAGES_SCHEMA.names}
    return pa.table({**missing, **columns}).select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA)


def made(folder: Path, rows: int) -> Store:
    """The store of about `rows` rows in `folder`, made and indexed if it is not there."""
    words, edges = vocabulary(), bands()
    blocks, together = round(rows / BLOCK), 16 if rows >= LARGE else 1
    path = folder / f"query-{blocks}"
    if not path.exists():
        tagger = TaggerIdentity(
            name="none", revision=None, weights_sha256="0", feature_node="", preprocess="kohya", decode="1"
        )
        identity = StoreIdentity(tagger=tagger, vocabulary_digest=words.digest, feature_dim=1)
        fresh = folder / f"unfinished-{blocks}-{os.getpid()}"
        store = Store.create(fresh, identity=identity, vocabulary=words)
        with store.writer() as writer:
            for first in range(0, blocks, together):
                parts = [block(n, words, edges) for n in range(first, min(first + together, blocks))]
                images = pa.concat_tables(parts)
                features = np.zeros((len(images), 1), np.float16)
                writer.commit(ShardContents(images=images, features=features, failures=failures_table([])))
            start = time.perf_counter()
            index_tags(store.snapshot())
            print(f"indexed {blocks * BLOCK:,} rows in {time.perf_counter() - start:.1f} s", flush=True)
        fresh.rename(path)
    return Store.open(path)


@dataclass(frozen=True)
class Line:
    """A question, and the query that one would write by hand; both are functions of the run's number."""

    name: str
    ours: Callable[[int], object]
    plain: Callable[[int], object]


def lines(session: Session, plain: duckdb.DuckDBPyConnection) -> list[Line]:
    """What is asked. Tag n stands in column n + 4 of the vocabulary."""

    def sql(text: str) -> object:
        return plain.sql(text).fetchall()

    def has(tag: int) -> str:
        return f"tag_scores[list_position(tag_ids, {tag + 4})] >= 0.35"

    each = "SELECT unnest(tag_ids) AS t, unnest(tag_scores) AS s FROM images"
    counted = "SELECT t, count(*) FROM ({}) WHERE s >= CASE WHEN t < 6504 THEN 0.35 ELSE 0.85 END GROUP BY t"
    shown = "SELECT path, width, rating, tag_ids FROM images {} ORDER BY root, path LIMIT 100"
    few = ("path", "width", "rating", "tags")
    return [
        Line(
            "character = 'x'",
            lambda n: session.count(f"character = 'who_{n}'"),
            lambda n: sql(
                f"SELECT count(*) FROM images WHERE character = 'who_{n}' AND character_score >= 0.85"
            ),
        ),
        Line(
            "has(a) and rating",
            lambda n: session.count(f"has('tag_{n}') and rating = 'general'"),
            lambda n: sql(f"SELECT count(*) FROM images WHERE {has(n)} AND rating = 'general'"),
        ),
        Line(
            "has(a) and has(b) and rating",
            lambda n: session.count(f"has('tag_{n}') and has('tag_{n + 90}') and rating = 'general'"),
            lambda n: sql(
                f"SELECT count(*) FROM images WHERE {has(n)} AND {has(n + 90)} AND rating = 'general'"
            ),
        ),
        Line(
            "score(a) > 0.7",
            lambda n: session.count(f"score('tag_{n}') > 0.7"),
            lambda n: sql(
                f"SELECT count(*) FROM images WHERE tag_scores[list_position(tag_ids, {n + 4})] > 0.7"
            ),
        ),
        Line(
            "all tags of a tenth of the rows",
            lambda n: session.counts(f"width between {300 + n} and {579 + n}"),
            lambda n: sql(counted.format(f"{each} WHERE width BETWEEN {300 + n} AND {579 + n}")),
        ),
        Line("all tags of all rows", lambda _: session.counts(None), lambda _: sql(counted.format(each))),
        Line(
            "first 100 rows",
            lambda _: session.rows(None, columns=few, limit=100),
            lambda _: sql(shown.format("")),
        ),
        Line(
            "first 100 rows of has(a)",
            lambda n: session.rows(f"has('tag_{n}')", columns=few, limit=100),
            lambda n: sql(shown.format(f"WHERE {has(n)}")),
        ),
        Line(
            "the rows of one character, far apart",
            lambda n: session.rows(f"character = 'who_{n}'", columns=few, limit=100),
            lambda n: sql(shown.format(f"WHERE character = 'who_{n}' AND character_score >= 0.85")),
        ),
    ]


def measure(store: Store) -> None:
    """Print the table of one store."""
    snapshot = store.snapshot()
    print(f"\n{snapshot.num_images:,} rows of {TAGS} tags, {len(snapshot.shards)} shards; medians of {RUNS}")
    print("\n| what | ms | CPU ms | plain DuckDB, ms | ratio | lowest | highest |")
    print("|---|---|---|---|---|---|---|")
    plain = duckdb.connect()
    plain.execute(f"CREATE VIEW images AS FROM read_parquet('{store.path}/shards/*/images.parquet')")
    with Session(snapshot) as session:
        for line in lines(session, plain):
            line.ours(0), line.plain(0)
            wall, busy, other = list[float](), list[float](), list[float]()
            for run in range(1, RUNS + 1):
                start, cpu = time.perf_counter(), time.process_time()
                line.ours(run)
                wall.append((time.perf_counter() - start) * 1000)
                busy.append((time.process_time() - cpu) * 1000)
                start = time.perf_counter()
                line.plain(run)
                other.append((time.perf_counter() - start) * 1000)
            ratios = [ours / theirs for ours, theirs in zip(wall, other, strict=True)]
            figures = [statistics.median(each) for each in (wall, busy, other)]
            print(
                f"| {line.name} | {figures[0]:.0f} | {figures[1]:.0f} | {figures[2]:.0f} "
                f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |",
                flush=True,
            )


def command(store: Store) -> None:
    """Print how long the whole command takes."""
    words = [sys.executable, "-m", "pfgdata", "query", "has('tag_7') and rating = 'general'", "--count"]
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([*words, "--store", store.path], check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1000)
    print(f"\npfgdata query ... --count, the whole command: {statistics.median(times):.0f} ms")


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="of a store; default 598016 and 4980736")
    home = Path(os.environ.get("PFG_BENCH_CACHE") or Path.home() / ".cache" / "pfg-bench")
    home.mkdir(parents=True, exist_ok=True)
    for rows in parser.parse_args().rows or (598_016, 4_980_736):
        store = made(home, rows)
        measure(store)
        command(store)


if __name__ == "__main__":
    main()
