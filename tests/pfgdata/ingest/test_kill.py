"""Kill and resume: SIGKILL at random moments, then one run to the end, equals a run that was never killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.store import Store
from tests.conftest import new_store
from tests.doubles import CheapTagger

# a shard for each batch, merged to 32 rows at the end: kills fall into commits and merges alike
OPTIONS = IngestOptions(batch_size=8, threads=2, shard_rows=32, shard_seconds=0)
KILLS = 20


def child(images: str, store: str, begun: Any) -> None:
    """Ingest in a process of its own; `begun` is set when it starts to work."""
    opened = Store.open(Path(store))
    segments = plan_segments([Path(images)], opened.roots())
    begun.set()
    ingest(segments, opened, CheapTagger(), options=OPTIONS)


def kill_after(seconds: float, images: Path, store: Path) -> int:
    """Start a child, kill it after `seconds` of work; its exit code."""
    context = multiprocessing.get_context("forkserver")  # importing costs a second, forking milliseconds
    context.set_forkserver_preload(["tests.pfgdata.ingest.test_kill"])
    begun = context.Event()
    process = context.Process(target=child, args=(str(images), str(store), begun))
    process.start()
    assert begun.wait(60)
    time.sleep(seconds)
    assert process.pid is not None
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def content(store: Store) -> tuple[dict[str, tuple[Any, ...]], Any]:
    """Identity columns by path and features in the order of paths."""
    snapshot = store.snapshot()
    table = snapshot.images()
    order = np.argsort(table["path"].to_pylist())
    features = snapshot.features(snapshot.everything)[order]
    columns = ("content_id", "size", "mtime_ns", "width", "format", "phash", "rating", "tag_ids")
    rows = {row["path"]: tuple(map(str, (row[name] for name in columns))) for row in table.to_pylist()}
    assert len(rows) == table.num_rows, "a path twice"
    return rows, features


def test_killed_twenty_times_and_finished_equals_a_run_never_killed(mini: Path, tmp_path: Path) -> None:
    whole = new_store(tmp_path / "whole")
    started = time.monotonic()
    ingest(plan_segments([mini], {}), whole, CheapTagger(), options=OPTIONS)
    duration = time.monotonic() - started
    expected, expected_features = content(whole)

    moments = random.Random(18)
    killed, acknowledged = 0, 0
    store = new_store(tmp_path / "feats")
    for _ in range(KILLS):
        killed += kill_after(moments.uniform(0, duration / 4), mini, store.path) == -signal.SIGKILL
        rows, _ = content(store)
        assert len(rows) >= acknowledged, "an acknowledged row was lost"
        assert rows.items() <= expected.items()
        acknowledged = len(rows)
        if acknowledged == len(expected):
            store = new_store(tmp_path / f"feats{killed}")
            acknowledged = 0
    assert killed >= KILLS // 2

    ingest(plan_segments([mini], store.roots()), store, CheapTagger(), options=OPTIONS)
    rows, features = content(store)
    assert rows == expected
    np.testing.assert_allclose(features, expected_features, atol=1e-3)
    assert not list((store.path / "shards").glob(".tmp-*"))
