"""Who wrote a store and how fast, out of what its shards say."""

from __future__ import annotations

from typing import Any

from pfgdata.report.ingests import ingest_figures
from pfgdata.store import ShardMeta, Store
from tests.pfgdata.report.small_reports import report_of


def shard(number: int, created: str, *, replaces: tuple[str, ...] = (), **writer: Any) -> ShardMeta:
    """A record; created is a time of one day."""
    return ShardMeta(
        id=f"{number:08}-00000000",
        tables={},
        arrays={},
        files={},
        replaces=replaces,
        created=f"2026-11-29T{created}+00:00",
        writer={"what": "ingest", "python": "3.11", "versions": {"pfg": "1", "h5py": None}, **writer},
    )


def made(images: int, total: float, provider: str = "CPU", **stages: float) -> dict[str, Any]:
    return {"images": images, "provider": provider, "seconds": {"total": total, **stages}}


def test_shards_that_follow_each_other_are_one_ingest() -> None:
    (one,) = ingest_figures(
        [
            shard(1, "10:05:00.000", **made(100, 300, read=10, model=200)),
            shard(2, "10:10:03.000", **made(50, 300, read=5, model=100)),
        ]
    )
    assert (one.images, one.seconds, one.images_per_second, one.shards) == (150, 600, 0.25, 2)
    assert one.stages == {"read": 15, "model": 300}
    assert one.began == "2026-11-29T10:00:00+00:00"
    assert one.writer == {"provider": "CPU", "python": "3.11", "pfg": "1"}
    assert not one.merged


def test_a_pause_another_provider_or_version_begins_another_ingest() -> None:
    shards = [
        shard(1, "10:05:00.000", **made(1, 10)),
        shard(2, "10:06:00.000", **made(2, 10)),
        shard(3, "10:06:10.000", **made(3, 10, provider="CUDA")),
        shard(4, "10:06:20.000", **{**made(4, 10, provider="CUDA"), "versions": {"pfg": "2"}}),
    ]
    assert [one.images for one in ingest_figures(reversed(shards))] == [1, 2, 3, 4]


def test_a_merged_shard_speaks_for_its_inputs_only_when_they_are_gone() -> None:
    first, second = shard(1, "10:05:00.000", **made(60, 10)), shard(2, "10:05:10.000", **made(40, 10))
    merged = shard(3, "11:00:00.000", replaces=(first.id, second.id), **{**made(100, 20), "what": "merge"})
    (one,) = ingest_figures([first, second, merged])
    assert (one.images, one.shards, one.merged) == (100, 2, False)
    (gone,) = ingest_figures([merged])
    assert (gone.images, gone.seconds, gone.merged) == (100, 20, True)
    assert gone.writer["merged by"] == "merge"


def test_shards_that_only_hide_or_say_nothing_are_left_out() -> None:
    assert ingest_figures([shard(1, "10:00:00.000"), shard(2, "10:00:00.000", what="prune")]) == []
    (one,) = ingest_figures([shard(1, "10:00:00.000", images=3)])
    assert (one.images, one.images_per_second) == (3, None)


def test_a_real_ingest_is_told(mini_store: Store) -> None:
    (one,) = report_of(mini_store, pictures=0).ingests
    assert one.images == 200
    assert one.writer["tagger"] == "cheap" and one.writer["provider"] == "numpy"
    assert {"read", "decode", "preprocess", "model"} <= set(one.stages)
    assert one.images_per_second
