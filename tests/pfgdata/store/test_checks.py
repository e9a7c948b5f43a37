"""Verify names what is broken; repair sets it aside and nothing hidden comes back."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import CorruptShardError, StoreFormatError
from pfgdata.files import canonical_json, read_json
from pfgdata.images import BucketPolicy
from pfgdata.ingest import IngestOptions, IngestReport, ingest
from pfgdata.latents import LatentPass
from pfgdata.records import NoProgress
from pfgdata.screen import run_app
from pfgdata.store import (
    Problem,
    Store,
    compact,
    gc,
    repair,
    verify,
)
from pfgdata.vaes import Vae
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

OPTIONS = IngestOptions(batch_size=4, shard_rows=8)


@pytest.fixture
def changed_store(tmp_path: Path) -> Store:
    """24 images in three shards, then 4 of them changed: a fourth shard that shadows their old rows."""
    make_images(tmp_path / "images", 24)
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=OPTIONS)
    make_images(tmp_path / "other", 4, seed=4)
    for index in range(4):
        (tmp_path / "other" / f"{index:04d}.png").replace(tmp_path / "images" / f"{index:04d}.png")
    ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger(), options=OPTIONS)
    return store


def paths(store: Store) -> list[str]:
    """The visible paths, sorted; twice where a path is visible twice."""
    return sorted(Store.open(store.path).snapshot().images(["path"])["path"].to_pylist())


def files_of(store: Store) -> list[Path]:
    """Every file of the store that verify answers for."""
    cache = store.path / "cache"
    files = [path for path in store.path.rglob("*") if path.is_file() and cache not in path.parents]
    return sorted(path for path in files if path.name != "lock")


def test_a_good_store_has_no_problem(changed_store: Store) -> None:
    assert verify(changed_store.path, deep=True) == []


def test_every_flipped_byte_and_truncation_is_found_and_its_shard_named(changed_store: Store) -> None:
    chance, snapshot = random.Random(0), changed_store.snapshot()
    LatentPass(
        store=changed_store,
        vae=Vae.load("demo", device="cpu"),
        policy=BucketPolicy.derive(resolution=32, step=16),
    ).run(snapshot, snapshot.everything)
    table = pa.table({"path": pa.array(["0001.png"]), "value": pa.array(["train"])})
    changed_store.write_column("split", table)
    files = files_of(changed_store)
    for turn in range(1000):
        path = chance.choice(files)
        data = path.read_bytes()
        at = chance.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        path.write_bytes(flipped if turn % 2 else data[:at])
        problems = _problems(changed_store.path, deep=True)
        assert [problem.path for problem in problems] == [path], f"byte {at} of {path}"
        assert problems[0].shard == (path.parent if "shards" in path.parts else None)
        if turn % 2 == 0 or path.suffix == ".json":  # a size, or a file that holds its own digest
            quick = _problems(changed_store.path, deep=False)
            assert [problem.path for problem in quick] == [path], f"byte {at} of {path}"
        path.write_bytes(data)
    assert verify(changed_store.path, deep=True) == []


def _problems(store: Path, *, deep: bool) -> list[Problem]:
    """What verify finds; a damaged store.json stops it at once, which names the file too."""
    try:
        return verify(store, deep=deep)
    except Exception as problem:
        assert "store.json" in str(problem)
        return [Problem(store / "store.json", str(problem), None)]


def test_a_broken_data_shard_is_set_aside_and_the_next_ingest_redoes_its_images(
    changed_store: Store, tmp_path: Path
) -> None:
    before = paths(changed_store)
    victim = changed_store.snapshot().shards[1]
    features = victim.path / "features.h5"
    features.write_bytes(features.read_bytes()[:-1])
    report = repair(changed_store, verify(changed_store.path))
    assert len(report.set_aside) == 1 and not report.old_versions_possible
    assert len(paths(changed_store)) == 24 - victim.num_rows
    store = Store.open(changed_store.path)
    tagger = CheapTagger()
    again = ingest(plan_segments([tmp_path / "images"], store.roots()), store, tagger, options=OPTIONS)
    assert again.tagged == victim.num_rows and paths(store) == before
    assert verify(store.path, deep=True) == []


def test_what_a_broken_shard_hid_stays_hidden(changed_store: Store) -> None:
    last = changed_store.snapshot().shards[-1]
    (last.path / "images.parquet").unlink()
    repair(changed_store, verify(changed_store.path))
    assert paths(changed_store) == [f"{index:04d}.png" for index in range(4, 24)]


def lose_what_hid(store: Store, images: Path) -> None:
    """Change two images again, then spoil the record of the shard that hid their first rows."""
    hidden_by = store.snapshot().shards[-1]
    make_images(images.parent / "third", 4, seed=8)
    for index in range(2):
        (images.parent / "third" / f"{index:04d}.png").replace(images / f"{index:04d}.png")
    ingest(plan_segments([images], store.roots()), store, CheapTagger(), options=OPTIONS)
    (hidden_by.path / "shard.json").write_bytes(b"{}")


def test_the_command_says_how_many_rows_a_repair_hid(
    changed_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_what_hid(changed_store, tmp_path / "images")
    with pytest.raises(SystemExit) as ended:
        run_app(app, args=["verify", str(changed_store.path), "--repair"], name="pfgdata")
    assert ended.value.code == 0
    said = capsys.readouterr().err
    assert "2 rows of images that would have been there twice" in said
    assert "old versions of images may be back until that ingest" in said


def test_a_shard_whose_json_is_lost_leaves_no_key_twice(changed_store: Store, tmp_path: Path) -> None:
    lose_what_hid(changed_store, tmp_path / "images")
    segments = plan_segments([tmp_path / "images"], changed_store.roots())
    with pytest.raises(CorruptShardError, match="verify"):
        Store.open(changed_store.path).snapshot()
    report = repair(changed_store, verify(changed_store.path))
    assert report.old_versions_possible and report.rows_hidden == 2
    visible = paths(changed_store)
    assert len(visible) == len(set(visible)) == 24
    store = Store.open(changed_store.path)
    again = ingest(segments, store, CheapTagger(), options=OPTIONS)
    assert again.tagged == 2 and len(set(paths(store))) == 24
    assert np.unique(store.snapshot().everything.content_ids, axis=0).shape[0] == 24


def test_a_broken_latent_shard_is_encoded_again(changed_store: Store) -> None:
    vae, snapshot = Vae.load("demo", device="cpu"), changed_store.snapshot()

    def encode() -> int:
        return (
            LatentPass(store=changed_store, vae=vae, policy=BucketPolicy.derive(resolution=32, step=16))
            .run(snapshot, snapshot.everything)
            .encoded
        )

    assert encode() == 24
    (path,) = changed_store.path.glob("latents/*/shards/*/latents.h5")
    path.write_bytes(path.read_bytes()[:100])
    report = repair(changed_store, verify(changed_store.path))
    assert [place.parent.name for place in report.set_aside] == ["quarantine"]
    assert encode() == 24


def test_a_stray_file_is_named_and_no_reason_to_set_a_good_shard_aside(changed_store: Store) -> None:
    shard = changed_store.snapshot().shards[0].path
    (shard / ".DS_Store").write_bytes(b"x")
    (problem,) = verify(changed_store.path, deep=True)
    assert problem.path.name == ".DS_Store" and problem.shard is None
    assert repair(changed_store, [problem]).set_aside == ()
    assert len(paths(changed_store)) == 24


def test_a_shard_without_its_json_is_damage_that_readers_cannot_see(changed_store: Store) -> None:
    shard = changed_store.snapshot().shards[-1].path
    (shard / "shard.json").unlink()
    (problem,) = verify(changed_store.path)
    assert problem.shard == shard and "missing" in problem.what
    assert repair(changed_store, [problem]).old_versions_possible


def test_a_flipped_shadow_is_never_believed(changed_store: Store) -> None:
    shard = changed_store.snapshot().shards[-1].path
    data = (shard / "shadows.parquet").read_bytes()
    for at in range(0, len(data), 97):
        (shard / "shadows.parquet").write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(CorruptShardError, match=r"shadows\.parquet"):
            Store.open(changed_store.path).snapshot()
    report = repair(changed_store, verify(changed_store.path, deep=True))
    assert report.old_versions_possible and len(paths(changed_store)) == len(set(paths(changed_store)))


def again(store: Store, images: Path) -> IngestReport:
    """Ingest the same folder into the store as it is on disk now."""
    store = Store.open(store.path)
    return ingest(plan_segments([images], store.roots()), store, CheapTagger(), options=OPTIONS)


@pytest.mark.parametrize("collected", [False, True])
def test_a_broken_compacted_shard_is_redone_whole(
    changed_store: Store, tmp_path: Path, collected: bool
) -> None:
    before = paths(changed_store)
    compact(changed_store)
    if collected:
        gc(changed_store, older_than=0)
    (view,) = changed_store.snapshot().shards
    (view.path / "images.parquet").write_bytes(b"PAR1")
    report = repair(changed_store, verify(changed_store.path))
    assert not report.old_versions_possible and paths(changed_store) == []
    assert again(changed_store, tmp_path / "images").tagged == 24
    assert paths(changed_store) == before and verify(changed_store.path, deep=True) == []


def test_where_a_compacted_shard_cannot_say_what_it_replaced_its_inputs_are_back(
    changed_store: Store, tmp_path: Path
) -> None:
    before = paths(changed_store)
    compact(changed_store)
    (view,) = changed_store.snapshot().shards
    (view.path / "shard.json").write_bytes(b"{}")
    report = repair(changed_store, verify(changed_store.path))
    assert report.old_versions_possible and paths(changed_store) == before
    rerun = again(changed_store, tmp_path / "images")
    assert (rerun.tagged, rerun.unchanged) == (0, 24)


def test_a_broken_shard_of_failures_and_shadows_is_redone(changed_store: Store, tmp_path: Path) -> None:
    for index in range(6):
        (tmp_path / "images" / f"{index:04d}.png").write_bytes(b"broken %d" % index)
    assert again(changed_store, tmp_path / "images").failed == 6
    last = changed_store.snapshot().shards[-1]
    assert {"failures", "shadows"} == set(last.meta.tables)
    (last.path / "failures.parquet").unlink()
    repair(changed_store, verify(changed_store.path))
    assert paths(changed_store) == [f"{index:04d}.png" for index in range(6, 24)]
    rerun = again(changed_store, tmp_path / "images")
    assert (rerun.tagged, rerun.failed, rerun.unchanged) == (0, 6, 18)
    assert changed_store.snapshot().failures().num_rows == 6


def test_an_old_row_that_came_back_beside_its_failure_is_hidden_again(
    changed_store: Store, tmp_path: Path
) -> None:
    changed = changed_store.snapshot().shards[-1]  # hides the first rows of four images
    (tmp_path / "images" / "0002.png").write_bytes(b"broken")
    assert again(changed_store, tmp_path / "images").failed == 1  # hides the second row of one
    (changed.path / "shard.json").write_bytes(b"{}")
    assert repair(changed_store, verify(changed_store.path)).old_versions_possible
    assert "0002.png" in paths(changed_store)
    store = Store.open(changed_store.path)
    rerun = again(store, tmp_path / "images")
    assert (rerun.failed, rerun.unchanged) == (1, 20)
    assert paths(store) == [f"{index:04d}.png" for index in range(24) if index != 2]
    assert store.snapshot().failures().num_rows == 1


def make_newer(path: Path) -> None:
    """Say that a later pfgdata wrote the JSON file at `path`."""
    path.write_bytes(canonical_json({**read_json(path, advice=""), "format": 2}))


def test_a_shard_of_a_newer_format_is_refused_and_never_set_aside(changed_store: Store) -> None:
    shard = changed_store.snapshot().shards[0].path
    make_newer(shard / "shard.json")
    with pytest.raises(StoreFormatError, match=r"format 2, this pfgdata reads up to 1; upgrade pfg"):
        Store.open(changed_store.path).snapshot()
    (problem,) = verify(changed_store.path)
    assert problem.shard is None and "upgrade" in problem.what
    with pytest.raises(StoreFormatError, match="upgrade"):
        repair(Store.open(changed_store.path), [problem])
    assert shard.exists()


def test_a_column_of_a_newer_format_is_refused(changed_store: Store) -> None:
    changed_store.write_column("split", pa.table({"path": ["0001.png"], "value": ["train"]}))
    make_newer(changed_store.path / "columns" / "split.json")
    with pytest.raises(StoreFormatError, match=r"format 2, this pfgdata reads up to 1; upgrade pfg"):
        changed_store.read_column("split")
    (problem,) = verify(changed_store.path)
    assert problem.path.name == "split.json" and "upgrade" in problem.what


def test_a_latent_set_of_a_newer_format_is_refused_and_not_said_to_be_damaged(
    changed_store: Store,
) -> None:
    snapshot = changed_store.snapshot()
    LatentPass(
        store=changed_store,
        vae=Vae.load("demo", device="cpu"),
        policy=BucketPolicy.derive(resolution=32, step=16),
    ).run(snapshot, snapshot.everything.take(np.arange(1)))
    (path,) = changed_store.path.glob("latents/*/latents.json")
    make_newer(path)
    with pytest.raises(StoreFormatError, match=r"format 2, this pfgdata reads up to 1; upgrade pfg"):
        changed_store.latent_sets()
    (problem,) = verify(changed_store.path)
    assert problem.path == path and "upgrade" in problem.what and "encode it again" not in problem.what


def test_what_gc_removes_while_verify_looks_is_no_problem(changed_store: Store) -> None:
    compact(changed_store)

    class Collector(NoProgress):
        """Runs gc once verify has listed the shards."""

        def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
            gc(changed_store, older_than=0)

    assert verify(changed_store.path, deep=True, progress=Collector()) == []
