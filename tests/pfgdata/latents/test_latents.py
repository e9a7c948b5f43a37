"""Latents: each distinct image once, in its bucket, equal to encoding it alone; resumable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import StoreError
from pfgdata.images import BucketPolicy, bucket_sizes, crop_to_bucket, decode, nearest_buckets
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.latents import LatentOptions, LatentPass, LatentReport, probe_image
from pfgdata.records import ImageKey, Selection
from pfgdata.screen import run_app
from pfgdata.store import LatentSet, Snapshot, Store, key_of
from pfgdata.vaes import Vae
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

POLICY = BucketPolicy.derive(resolution=64, step=16)
INGEST = IngestOptions(batch_size=8, shard_rows=16)


@pytest.fixture(scope="session")
def vae() -> Vae:
    """The demo base's VAE."""
    return Vae.load("demo", device="cpu")


@pytest.fixture
def mixed_store(tmp_path: Path) -> Store:
    """30 small images of three shapes, one of them twice under other names."""
    for index, size in enumerate([(64, 64), (96, 64), (40, 80)]):
        make_images(tmp_path / "images" / str(index), 10, size=size, seed=index)
    shutil.copy(tmp_path / "images" / "0" / "0000.png", tmp_path / "images" / "twin.png")
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=INGEST)
    return store


def encode(
    store: Store,
    vae: Vae,
    selection: Selection | None = None,
    *,
    snapshot: Snapshot | None = None,
    policy: BucketPolicy = POLICY,
    stop_after: int = 1000,
    options: LatentOptions | None = None,
) -> LatentReport:
    """Encode and check that the report adds up."""
    asked, snapshot = iter(range(stop_after, -1, -1)), snapshot or store.snapshot()
    options = options or LatentOptions(batch_size=4, threads=2)
    report = LatentPass(store=store, vae=vae, policy=policy, options=options).run(
        snapshot,
        snapshot.everything if selection is None else selection,
        stop=lambda: next(asked) == 0,
    )
    assert report.distinct == report.present + report.encoded + report.failed + report.pending
    return report


def latents_of(latent_set: LatentSet) -> dict[bytes, Any]:
    """content_id -> latent."""
    index = latent_set.index()
    maps = [latent_set.array_map(shard) for shard in index.shards]
    return {
        content.tobytes(): maps[shard][row]
        for content, shard, row in zip(index.content_ids, index.shard_index, index.rows, strict=True)
    }


def test_every_distinct_image_gets_one_latent_of_its_bucket(mixed_store: Store, vae: Vae) -> None:
    report = encode(mixed_store, vae)
    assert (report.selected, report.distinct, report.encoded) == (31, 30, 30)
    (latent_set,) = mixed_store.latent_sets()
    assert latent_set.id == report.id and latent_set.info.buckets == bucket_sizes(POLICY)
    index = latent_set.index()
    for shard, bucket in zip(index.shard_index, index.bucket, strict=True):
        width, height = latent_set.info.buckets[bucket]
        shape = latent_set.array_map(index.shards[shard]).shape
        assert shape[1:] == (vae.latent_channels, height // vae.factor, width // vae.factor)
    assert len(latents_of(latent_set)) == 30
    assert sum(report.groups.values()) == 30 and len(report.groups) == 3


def test_a_latent_is_the_unscaled_mean_of_the_cropped_image(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    (latent_set,) = mixed_store.latent_sets()
    stored = latents_of(latent_set)
    for row in mixed_store.snapshot().images().slice(0, 12).to_pylist():
        pixels = decode((Path(row["root"]) / row["path"]).read_bytes()).array
        sizes = latent_set.info.buckets
        size = sizes[nearest_buckets([row["width"]], [row["height"]], sizes)[0]]
        mean = vae.encode(np.array(crop_to_bucket(pixels, size)[0])[None])[0][0]
        np.testing.assert_allclose(stored[row["content_id"].bytes], mean, atol=2e-3, rtol=2e-3)


def test_a_second_run_encodes_nothing(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    report = encode(mixed_store, vae)
    assert (report.present, report.encoded) == (30, 0)


def test_a_stop_keeps_what_is_encoded_and_the_next_run_goes_on(mixed_store: Store, vae: Vae) -> None:
    first = encode(mixed_store, vae, stop_after=1)
    assert first.interrupted and 0 < first.encoded < 30
    second = encode(mixed_store, vae)
    assert second.present == first.encoded and second.present + second.encoded == 30
    whole = {content: latent.copy() for content, latent in latents_of(mixed_store.latent_sets()[0]).items()}
    shutil.rmtree(mixed_store.path / "latents")
    encode(mixed_store, vae)
    unbroken = latents_of(mixed_store.latent_sets()[0])
    assert whole.keys() == unbroken.keys()
    for content, latent in whole.items():
        np.testing.assert_allclose(latent, unbroken[content], atol=2e-3)


def test_shards_close_at_their_size_and_hold_one_bucket(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae, options=LatentOptions(batch_size=2, shard_bytes=1))
    shards = mixed_store.latent_sets()[0].index().shards
    assert len(shards) == 15
    assert len(latents_of(mixed_store.latent_sets()[0])) == 30


def test_another_resolution_is_another_set(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    encode(mixed_store, vae, policy=BucketPolicy.derive(resolution=32, step=16))
    assert len({latent_set.id for latent_set in mixed_store.latent_sets()}) == 2


def test_an_image_that_changed_since_its_ingest_is_a_failure_tried_again(
    mixed_store: Store, vae: Vae, tmp_path: Path
) -> None:
    path = tmp_path / "images" / "1" / "0003.png"
    before = path.read_bytes()
    shutil.copy(make_images(tmp_path / "other", 1, seed=99)[0], path)
    report = encode(mixed_store, vae)
    assert (report.encoded, report.failed) == (29, 1)
    assert report.failures[0][1] == "access" and "ingest it again" in report.failures[0][2]
    path.write_bytes(before)
    assert encode(mixed_store, vae).encoded == 1


def test_a_file_that_is_gone_fails_alone(mixed_store: Store, vae: Vae, tmp_path: Path) -> None:
    (tmp_path / "images" / "2" / "0001.png").unlink()
    report = encode(mixed_store, vae)
    assert (report.encoded, report.failed) == (29, 1)


def test_a_moved_corpus_is_read_where_it_is_now(mixed_store: Store, vae: Vae, tmp_path: Path) -> None:
    (root,) = mixed_store.roots()
    (tmp_path / "images").rename(tmp_path / "moved")
    mixed_store.move_root(root, str(tmp_path / "moved"))
    assert encode(mixed_store, vae).encoded == 30


def ingest_again(store: Store, tmp_path: Path) -> None:
    """Bring in what changed in the images of `mixed_store`."""
    ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger(), options=INGEST)


def test_files_moved_in_the_corpus_are_read_where_they_are_now(
    mixed_store: Store, vae: Vae, tmp_path: Path
) -> None:
    (tmp_path / "images" / "1").rename(tmp_path / "images" / "elsewhere")
    ingest_again(mixed_store, tmp_path)
    snapshot = mixed_store.snapshot()
    assert snapshot.num_images == 41  # the rows of the ten old paths are there until a prune
    plan = LatentPass(store=mixed_store, vae=vae, policy=POLICY).plan(snapshot, snapshot.everything)
    moved = [item for bucket in plan.missing for item in plan.items(bucket) if item.width == 96]
    assert [[key.path.split(b"/")[0] for key in item.keys] for item in moved] == [[b"elsewhere", b"1"]] * 10
    old_rows = snapshot.everything.take(np.arange(31))  # the selection alone names none of the new paths
    assert encode(mixed_store, vae, old_rows, snapshot=snapshot).encoded == 30


@pytest.mark.parametrize("gone", ["0/0000.png", "twin.png"])
def test_an_image_is_read_from_whichever_of_its_files_is_there(
    mixed_store: Store, vae: Vae, tmp_path: Path, gone: str
) -> None:
    (tmp_path / "images" / gone).unlink()
    assert encode(mixed_store, vae).encoded == 30


def test_an_image_whose_every_file_is_gone_or_changed_fails_with_the_last_reason(
    mixed_store: Store, vae: Vae, tmp_path: Path
) -> None:
    (tmp_path / "images" / "twin.png").unlink()
    (tmp_path / "images" / "0" / "0000.png").write_bytes(b"something else")
    report = encode(mixed_store, vae)
    assert (report.encoded, report.failed) == (29, 1)
    ((file, kind, reason),) = report.failures
    assert (kind, "changed" in reason) == ("access", file.endswith("0/0000.png"))


def test_a_selection_is_encoded_as_of_its_own_snapshot(mixed_store: Store, vae: Vae, tmp_path: Path) -> None:
    snapshot = mixed_store.snapshot()
    make_images(tmp_path / "other", 1, seed=99)[0].replace(tmp_path / "images" / "1" / "0003.png")
    ingest_again(mixed_store, tmp_path)  # while the VAE is loading, say: a row of the selection is hidden
    report = encode(mixed_store, vae, snapshot=snapshot)
    assert (report.distinct, report.encoded, report.failed) == (30, 29, 1)
    (latent_set,) = mixed_store.latent_sets()
    selected = {content.tobytes() for content in snapshot.everything.content_ids}
    assert latents_of(latent_set).keys() <= selected
    with pytest.raises(StoreError):
        encode(mixed_store, vae, snapshot.everything)


def test_an_access_failure_is_counted_every_run_and_written_once(
    mixed_store: Store, vae: Vae, tmp_path: Path
) -> None:
    path = tmp_path / "images" / "2" / "0001.png"
    whole = path.read_bytes()
    path.unlink()
    for _ in range(3):
        report = encode(mixed_store, vae)
        assert (report.failed, len(report.failures)) == (1, 1)
    (latent_set,) = mixed_store.latent_sets()
    assert latent_set.failures().num_rows == 1
    path.write_bytes(b"something else")  # another reason
    assert encode(mixed_store, vae).failed == 1
    assert latent_set.failures().num_rows == 2
    path.write_bytes(whole)
    assert encode(mixed_store, vae).encoded == 1


def test_a_shard_says_what_wrote_it_and_how_long_it_took(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae, options=LatentOptions(batch_size=4))
    shards = list(mixed_store.path.glob("latents/*/shards/*/shard.json"))
    assert len(shards) == 3
    for path in shards:
        writer = json.loads(path.read_text())["writer"]
        assert (writer["what"], writer["batch_size"]) == ("latents", 4)
        assert (writer["device"], writer["compute_dtype"]) == ("cpu", "float32")
        assert writer["versions"].keys() == {"pfg", "torch", "diffusers", "numpy", "pillow", "opencv"}
        assert writer["versions"]["torch"] == version("torch")
        seconds = writer["seconds"]
        assert seconds.keys() == {"read", "encode", "total"} and seconds["encode"] > 0
        assert seconds["read"] + seconds["encode"] <= seconds["total"] + 0.002  # rounded


def test_a_set_knows_the_base_its_vae_came_with(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    (latent_set,) = mixed_store.latent_sets()
    assert (latent_set.info.base_name, latent_set.info.base_revision) == ("demo", vae.revision)


def test_a_plan_yields_each_content_once_however_it_is_cut(mini_store: Store, vae: Vae) -> None:
    snapshot = mini_store.snapshot()
    plan = LatentPass(store=mini_store, vae=vae, policy=POLICY).plan(snapshot, snapshot.everything)
    items = [item for bucket in plan.missing for item in plan.items(bucket)]
    assert len(items) == plan.to_do == plan.distinct
    assert sum(len(item.keys) for item in items) == snapshot.num_images
    keys_of: dict[bytes, set[ImageKey]] = {}
    for row in snapshot.images().to_pylist():
        keys_of.setdefault(row["content_id"].bytes, set()).add(key_of(row))
    assert {item.content_id: set(item.keys) for item in items} == keys_of


def test_only_what_is_selected_is_encoded(mixed_store: Store, vae: Vae) -> None:
    everything = mixed_store.snapshot().everything
    report = encode(mixed_store, vae, everything.take(np.arange(5)))
    assert report.selected == 5 and report.encoded == report.distinct <= 5


def test_the_probe_tells_what_the_latents_are_of(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    (latent_set,) = mixed_store.latent_sets()
    mean = vae.encode(probe_image(vae.factor)[None])[0][0]
    np.testing.assert_allclose(np.array(latent_set.info.probe), mean, atol=1e-5)


@pytest.mark.slow
def test_what_an_ingest_admitted_beyond_the_usual_limit_gets_its_latent(tmp_path: Path, vae: Vae) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (20_200, 10_000), 200).save(tmp_path / "images" / "scan.jpg")
    store, segments = new_store(tmp_path / "feats"), plan_segments([tmp_path / "images"], {})
    ingest(segments, store, CheapTagger(), options=replace(INGEST, max_megapixels=400))
    report = encode(store, vae)
    assert (report.encoded, report.failures) == (1, [])


def test_a_users_column_selects_what_is_encoded(
    mixed_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [path for path in mixed_store.snapshot().images(["path"])["path"].to_pylist() if "0001" in path]
    mixed_store.write_column("text", pa.table({"path": paths, "value": paths}))
    for where, number in (("text is not null", 3), ("text is null", 28)):
        with pytest.raises(SystemExit) as caught:
            run_app(
                app,
                args=[
                    "latents",
                    str(mixed_store.path),
                    "--base",
                    "demo",
                    "--where",
                    where,
                    "--dry-run",
                    "--json",
                ],
                name="pfgdata",
            )
        assert caught.value.code == 0
        assert json.loads(capsys.readouterr().out)["selected"] == number
