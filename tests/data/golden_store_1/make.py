"""Write the store beside this file anew; only for a new format, whose golden store stands beside this one.

Run from a checkout: python -m tests.data.golden_store_1.make FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pfgdata.records import ImageKey
from pfgdata.store import (
    DERIVED_FAILURES_SCHEMA,
    LATENTS_SCHEMA,
    LatentIdentity,
    LatentInfo,
    Shadow,
    ShardContents,
    Store,
    failures_table,
    images_table,
    key_columns,
    merge_shards,
)
from tests.pfgdata.query.rows import ROOT, row, store_of


def shard(
    store: Store,
    *rows: dict[str, Any],
    failed: tuple[bytes, ...] = (),
    shadows: tuple[Shadow, ...] = (),
) -> str:
    """Commit a shard; the feature of a row is its size, twice that, its width and a half."""
    features = [[one["size"], 2 * one["size"], one["width"], 0.5] for one in rows]
    failures = [
        {
            **key_columns(ImageKey(root=ROOT, path=path)),
            "size": 7,
            "mtime_ns": 1_700_000_000_000_000_001,
            "kind": "content",
            "reason": "no image: not a format that can be read",
        }
        for path in failed
    ]
    contents = ShardContents(
        images=images_table(rows),
        features=np.array(features, np.float16).reshape(-1, 4),
        failures=failures_table(failures),
        shadows=shadows,
        writer={"what": "golden"},
    )
    with store.writer() as writer:
        return writer.commit(contents).id


def write_latents(store: Store) -> None:
    """A latent set of one image in one bucket, and one failure."""
    identity = LatentIdentity(
        vae_digest="0" * 64,
        compute_dtype="float32",
        stored_dtype="float16",
        resolution=16,
        step=8,
        area=256,
        min_side=8,
        max_side=32,
        max_ratio=2.0,
        small_rule="keep",
        crop_rule="centre",
        pixel_recipe="exact",
        flip=False,
        kind="mean",
    )
    info = LatentInfo(
        buckets=((16, 16), (24, 8)),
        base_name="golden",
        base_revision=None,
        scaling_factor=0.18215,
        probe=(((0.25,),),),
    )
    ids = store.snapshot().images(["content_id"])["content_id"]
    one = {
        "content_id": ids[0].as_py().bytes,
        "flip": False,
        "crop_top": 0,
        "crop_left": 4,
        "resized_width": 24,
        "resized_height": 16,
        "width": 640,
        "height": 480,
    }
    failure = {"content_id": ids[1].as_py().bytes, "kind": "access", "reason": "gone, or a link to nothing"}
    with store.latent_set(identity, info).writer() as writer:
        writer.commit(
            np.arange(16, dtype=np.float16).reshape(1, 4, 2, 2) / np.float16(4),
            facts={"bucket": [24, 8]},
            rows=pa.Table.from_pylist([one], schema=LATENTS_SCHEMA),
            failures=pa.Table.from_pylist([failure], schema=DERIVED_FAILURES_SCHEMA),
            writer={"what": "golden"},
        )


def make(path: Path) -> None:
    """The golden store at `path`: see README.md."""
    store = store_of(path)
    odd = {"path": "\\xff.webp", "path_bytes": b"\xff.webp", "format": "webp"}
    first = shard(
        store,
        row("a/one.png", {"1girl": 0.9, "smile": 0.6, "hatsune_miku": 0.97}, size=101),
        row("b.png", {"solo": 0.5}, size=102),
        row("c.zip", {"glasses": 0.75}, member="in/ü.jpg", size=103, width=1024),
        row("", {"long_hair": 0.25, "explicit": 0.8}, size=104, frames=3) | odd,
        failed=(b"broken.png", b"mended.png"),
    )
    changed = shard(
        store,
        row("b.png", {"smile": 0.8, "special_week": 0.9}, size=202),
        row("mended.png", {">_<": 0.4}, size=203),
        shadows=(Shadow(first, "images", 1), Shadow(first, "failures", 1)),
    )
    last = shard(store, row("z.png", size=301))
    with store.writer() as writer:
        writer.set_roots({ROOT: "/moved/corpus"})
        merge_shards(writer, [changed, last], rows=100)
    store.write_column("split", pa.table({"path": ["b.png", "z.png"], "value": ["train", "test"]}))
    write_latents(store)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
