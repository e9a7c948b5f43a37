"""What a store in a bucket costs beside one on disk: a shard's commit, a first and a later question.

    python -m benchmarks.buckets s3://BUCKET/bench    # the server as AWS_ENDPOINT_URL says

A shard of 8,192 rows has 12.6 MB of features. Removes nothing: name a place for it alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pfgdata.files import Disk, FileCache, ObjectDisk
from pfgdata.query import Thresholds, run_query
from pfgdata.store import ShardContents, Store, failures_table, images_table
from pfgdata.urls import UrlPath
from tests.conftest import new_store
from tests.pfgdata.query.rows import row

ROWS, SHARDS = 8_192, 6


def timed(do: Callable[[], object]) -> float:
    """Seconds that `do` takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def fill(store: Store) -> list[float]:
    """Commit the shards; seconds of each commit."""
    generator, seconds = np.random.default_rng(7), []
    with store.writer() as writer:
        for number in range(SHARDS):
            contents = ShardContents(
                images=images_table([row(f"{number}/{one:05d}.png", {"smile": 0.9}) for one in range(ROWS)]),
                features=generator.standard_normal((ROWS, 768)).astype(np.float16),
                failures=failures_table([]),
                writer={"what": "benchmark"},
            )
            seconds.append(timed(lambda contents=contents: writer.commit(contents)))  # type: ignore[misc]
    return seconds


def ask(path: Path, disk: Disk) -> float:
    """Seconds from opening the store to the rows of a question."""

    def answer() -> None:
        snapshot = Store.open(path, disk=disk).snapshot()
        run_query(snapshot, "has('smile')", thresholds=Thresholds(), columns=["path"], roots={})

    return timed(answer)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url")
    url = UrlPath(options.parse_args().url)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        near = fill(new_store(folder / "feats"))
        far = fill(new_store(url, disk=ObjectDisk(url, cache=FileCache(folder / "maker"))))
        print(
            f"commit of a shard   disk {statistics.median(near):.3f} s, bucket {statistics.median(far):.3f} s"
        )
        disk = ObjectDisk(url, cache=FileCache(folder / "reader"))
        print(
            f"first question      disk {ask(folder / 'feats', Disk()):.3f} s, bucket {ask(url, disk):.3f} s"
        )
        here = statistics.median(ask(folder / "feats", Disk()) for _ in range(5))
        there = statistics.median(
            ask(url, ObjectDisk(url, cache=FileCache(folder / "reader"))) for _ in range(5)
        )
        print(f"later question      disk {here:.3f} s, bucket {there:.3f} s (opened anew, copies here)")
        whole = Store.open(url, disk=ObjectDisk(url, cache=FileCache(folder / "other"))).snapshot()
        few = whole.everything.take(np.arange(0, 3 * ROWS, ROWS))
        print(f"3 features          bucket {timed(lambda: whole.features(few)):.3f} s by ranges")
        print(f"all features        bucket {timed(lambda: whole.features(whole.everything)):.3f} s, cold")


if __name__ == "__main__":
    main()
