"""Latents: each distinct image once, in its bucket, equal to encoding it alone; resumable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.corpus import plan_segments
from pfgdata.images import BucketPolicy, bucket_sizes, crop_to_bucket, decode, nearest_bucket
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.latents import LatentOptions, LatentReport, encode_latents, probe_image
from pfgdata.records import Selection
from pfgdata.store import LatentSet, Store
from pfgdata.vaes import Vae
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

POLICY = BucketPolicy.derive(resolution=64, step=16)


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
    options = IngestOptions(batch_size=8, shard_rows=16)
    ingest(plan_segments(tmp_path / "images", {}), store, CheapTagger(), options=options)
    return store


def encode(
    store: Store,
    vae: Vae,
    selection: Selection | None = None,
    *,
    policy: BucketPolicy = POLICY,
    stop_after: int = 1000,
    options: LatentOptions | None = None,
) -> LatentReport:
    """Encode and check that the report adds up."""
    asked = iter(range(stop_after, -1, -1))
    report = encode_latents(
        store,
        vae,
        store.snapshot().everything if selection is None else selection,
        policy=policy,
        base_name="demo",
        base_revision=None,
        options=options or LatentOptions(batch_size=4, threads=2),
        stop=lambda: next(asked) == 0,
    )
    assert report.distinct == report.present + report.encoded + report.failed + report.pending
    return report


def latents_of(latent_set: LatentSet) -> dict[bytes, Any]:
    """content_id -> latent."""
    index = latent_set.index()
    maps = [latent_set.latent_map(shard) for shard in index.shards]
    return {
        content.tobytes(): maps[shard][row]
        for content, shard, row in zip(index.content_ids, index.shard_index, index.rows, strict=True)
    }


def test_every_distinct_image_gets_one_latent_of_its_bucket(mixed_store: Store, vae: Vae) -> None:
    report = encode(mixed_store, vae)
    assert (report.selected, report.distinct, report.encoded) == (31, 30, 30)
    (latent_set,) = mixed_store.latent_sets()
    assert latent_set.id == report.latents_id and latent_set.info.buckets == bucket_sizes(POLICY)
    index = latent_set.index()
    for shard, bucket in zip(index.shard_index, index.bucket, strict=True):
        width, height = latent_set.info.buckets[bucket]
        shape = latent_set.latent_map(index.shards[shard]).shape
        assert shape[1:] == (vae.latent_channels, height // vae.factor, width // vae.factor)
    assert len(latents_of(latent_set)) == 30
    assert sum(report.buckets.values()) == 30 and len(report.buckets) == 3


def test_a_latent_is_the_unscaled_mean_of_the_cropped_image(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    (latent_set,) = mixed_store.latent_sets()
    stored = latents_of(latent_set)
    for row in mixed_store.snapshot().images().slice(0, 12).to_pylist():
        pixels = decode((Path(row["root"]) / row["path"]).read_bytes()).array
        size = latent_set.info.buckets[nearest_bucket(row["width"], row["height"], latent_set.info.buckets)]
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


def test_only_what_is_selected_is_encoded(mixed_store: Store, vae: Vae) -> None:
    everything = mixed_store.snapshot().everything
    report = encode(mixed_store, vae, everything.take(np.arange(5)))
    assert report.selected == 5 and report.encoded == report.distinct <= 5


def test_the_probe_tells_what_the_latents_are_of(mixed_store: Store, vae: Vae) -> None:
    encode(mixed_store, vae)
    (latent_set,) = mixed_store.latent_sets()
    mean = vae.encode(probe_image(vae.factor)[None])[0][0]
    np.testing.assert_allclose(np.array(latent_set.info.probe), mean, atol=1e-5)
