"""Who wrote a store and how fast, out of what its shards say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pfgdata.report.ingests import ingest_figures
from pfgdata.store import Part, ShardMeta, Store, list_parts
from tests.conftest import make_images, new_store
from tests.pfgdata.ingest.test_adopt import adopted, planned
from tests.pfgdata.ingest.test_adopt import made as make_shares
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


def test_time_that_workers_took_side_by_side_counts_once() -> None:
    (one,) = ingest_figures(
        [
            shard(1, "10:05:00.000", **made(100, 300, model=200)),
            shard(2, "10:05:00.000", **made(80, 300, model=200)),
            shard(3, "10:01:00.000", **made(20, 60)),  # ends long before the next begins, amid the others
            shard(4, "10:07:00.000", **made(40, 110)),
        ]
    )
    assert (one.images, one.shards, one.seconds, one.images_per_second) == (240, 4, 410, 0.59)
    assert one.stages == {"model": 400}
    assert one.began == "2026-11-29T10:00:00+00:00"


def test_a_part_took_its_time_when_it_was_made_not_when_it_was_adopted() -> None:
    times = ("2026-11-28T10:05:00.000+00:00", "2026-11-28T10:10:00.000+00:00")
    parts = [
        shard(number, f"12:00:0{number}.000", part=f"p-{number}", made=when, **made(50, 300))
        for number, when in enumerate(times)
    ]
    (one,) = ingest_figures(parts)
    assert (one.images, one.seconds, one.began) == (100, 600, "2026-11-28T10:00:00+00:00")
    older = [shard(number, f"12:00:0{number}.000", part="p", **made(50, 300)) for number in (1, 2)]
    (one,) = ingest_figures(older)  # of which all that is known is how long each took
    assert (one.images, one.seconds) == (100, 600)


def test_adopted_shards_keep_when_their_parts_were_made(tmp_path: Path) -> None:
    images, store = make_images(tmp_path / "images", 20)[0].parent, new_store(tmp_path / "feats")
    make_shares(planned(store, images, tmp_path / "plan"), shares=((1, 2), (2, 2)))
    parts = [Part.read(store.disk, path) for path in list_parts(store.disk, store.parts)]
    adopted(store)
    shards = [one for one in store.snapshot().present if "part" in one.writer]
    assert {one.writer["part"]: one.writer["made"] for one in shards} == {
        part.path.name: part.meta.created for part in parts
    }
    assert sum(one.images for one in ingest_figures(shards)) == 20


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
    other = shard(4, "11:00:01.000", replaces=("x",), **{**made(100, 20), "what": "merge"})
    (gone,) = ingest_figures([merged, other])
    assert (gone.images, gone.seconds, gone.merged) == (200, 40, True)
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
