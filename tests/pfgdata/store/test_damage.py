"""What is said of a store that is damaged, closed or half there: which shard it is, and what helps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import CorruptShardError, StoreError
from pfgdata.files import Disk
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import Thresholds, select
from pfgdata.screen import run_app
from pfgdata.store import Store, repair, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.crash.small_latents import encode

OPTIONS = IngestOptions(batch_size=4, shard_rows=8)


def make_store(folder: Path) -> Store:
    """16 images in two shards."""
    make_images(folder / "images", 16)
    store = new_store(folder / "feats")
    ingest(plan_segments([folder / "images"], {}), store, CheapTagger(), options=OPTIONS)
    return store


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def images_of(store: Store) -> Path:
    """images.parquet of the first shard."""
    path = store.snapshot().shards[0].images_path
    assert path is not None
    return path


def test_a_flipped_byte_of_a_table_is_read_over_or_its_reader_is_told_to_repair(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    path, named = images_of(store), 0
    for place in range(0, path.stat().st_size, 17):
        flip(path, place)
        try:
            assert store.snapshot().images().num_rows == 16
        except CorruptShardError as problem:
            assert "run: pfgdata verify STORE --repair" in str(problem) and "\n" not in str(problem)
            named += 1
        flip(path, place)
    assert named > 50
    assert store.snapshot().images().num_rows == 16


def test_the_repair_that_a_reader_asks_for_mends_what_it_could_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path)
    flip(images_of(store), 6)  # the size of the file is as it was
    with pytest.raises(CorruptShardError, match="run: pfgdata verify STORE --repair"):
        store.snapshot().images()
    with pytest.raises(CorruptShardError, match="run: pfgdata verify STORE --repair"):  # not the expression
        select(store.snapshot(), "width > 3", Thresholds())
    with pytest.raises(SystemExit) as left:
        run_app(app, args=["verify", str(store.path), "--repair"], name="pfgdata")
    assert left.value.code == 0 and "set aside" in capsys.readouterr().err
    assert store.snapshot().images().num_rows == 8


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o300])
def test_a_shard_closed_to_us_is_named_and_never_set_aside(closed_to_us: Path, mode: int) -> None:
    store = make_store(closed_to_us)
    shard = images_of(store).parent
    shard.chmod(mode)
    try:
        (problem,) = verify(store.path)
    finally:
        shard.chmod(0o700)
    assert shard in problem.path.parents and problem.shard is None
    assert "check its permissions" in problem.what


def test_a_latent_set_closed_to_us_is_no_reason_to_encode_it_again(closed_to_us: Path) -> None:
    store = make_store(closed_to_us)
    latents = encode(store)
    for path in (latents.path, latents.path / "latents.json"):
        path.chmod(0)
        try:
            (problem,) = verify(store.path)
        finally:
            path.chmod(0o700)
        assert "check its permissions" in problem.what and "encode it again" not in problem.what
    (latents.path / "latents.json").unlink()
    (problem,) = verify(store.path)
    assert "is missing; delete the set and encode it again" in problem.what


def test_a_shard_put_back_from_quarantine_and_still_broken_is_set_aside_again(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    path = images_of(store)
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        (aside,) = repair(store, verify(store.path)).set_aside
        shutil.copytree(aside, path.parent)
    assert len(list((store.path / "quarantine").iterdir())) == 2


def test_a_store_that_another_process_makes_first_is_not_said_to_lack_its_json(tmp_path: Path) -> None:
    class Slow(Disk):
        """Another process is done as soon as this one has made the folder."""

        def make_folder(self, path: Path) -> None:
            super().make_folder(path)
            if path == tmp_path / "feats":
                new_store(path)

    made = make_store(tmp_path / "other")
    with pytest.raises(StoreError, match="another process has just made this store; run the same again"):
        Store.create(tmp_path / "feats", identity=made.identity, vocabulary=made.vocabulary, disk=Slow())
    assert Store.open(tmp_path / "feats").snapshot().num_images == 0
