"""Readers beside a writer that ingests, compacts and collects: always every row, never one twice."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.errors import StoreError
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import Thresholds, select
from pfgdata.store import Store, compact, gc
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

IMAGES, CHANGED = 24, 6
OPTIONS = IngestOptions(batch_size=2, threads=1, shard_rows=4, shard_seconds=0)


def look(store: Store) -> None:
    """One reader's look at the store, by rows, by features and by a query."""
    snapshot = store.snapshot()
    paths = snapshot.images(["path"])["path"].to_pylist()
    assert sorted(paths) == [f"{index:04d}.png" for index in range(IMAGES)]
    features = snapshot.features(snapshot.everything)
    assert features.shape == (IMAGES, 768) and np.isfinite(features).all() and features.any(axis=1).all()
    thresholds = Thresholds()
    assert len(select(snapshot, "width > 0", thresholds)) == IMAGES


def read_until(path: str, stop: Any, told: Any, *, may_be_late: bool) -> None:
    """Look again and again, as new and as old readers do; tell how often, or what was wrong."""
    looks = late = 0
    try:
        kept = Store.open(Path(path))
        while not stop.is_set() or not looks:
            store = kept if looks % 2 else Store.open(Path(path))
            try:
                look(store)
            except StoreError as problem:
                if not may_be_late or "ask again" not in str(problem):
                    raise
                late += 1
            looks += 1
            if looks == 1:
                told.send("begun")
        told.send((looks, late))
    except BaseException as problem:
        told.send(repr(problem))
        raise


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.slow)], ids=["short", "long"])
@pytest.mark.parametrize("age", [7 * 86_400.0, 0.0], ids=["a week", "no age"])
def test_a_reader_always_sees_every_row_once(tmp_path: Path, age: float, rounds: int) -> None:
    """Where gc takes at once what a reader was just going to read, the reader is told to ask again."""
    store = new_store(tmp_path / "feats")
    images = tmp_path / "images"
    make_images(images, IMAGES)
    ingest(plan_segments([images], {}), store, CheapTagger(), options=OPTIONS)
    context = multiprocessing.get_context("spawn")
    stop, (ours, theirs) = context.Event(), context.Pipe()
    reader = context.Process(
        target=read_until, args=(str(store.path), stop, theirs), kwargs={"may_be_late": age == 0}
    )
    reader.start()
    try:
        assert ours.poll(60) and ours.recv() == "begun"
        for turn in range(rounds):
            make_images(tmp_path / "fresh", CHANGED, seed=100 + turn)
            for index in range(CHANGED):
                target = images / f"{(turn * CHANGED + index) % IMAGES:04d}.png"
                (tmp_path / "fresh" / f"{index:04d}.png").replace(target)
            ingest(plan_segments([images], store.roots()), store, CheapTagger(), options=OPTIONS)
            compact(store, rows=8 if turn % 3 else 100)
            gc(store, older_than=age)
    finally:
        stop.set()
        reader.join(60)
    told = ours.recv()
    assert isinstance(told, tuple), told
    looks, late = told
    assert looks > late
    look(store)
