"""A VAE of 16 channels with a mean and a deviation for each: a set stores them plain, a fit scales."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from pfgdata.corpus import plan_segments
from pfgdata.files import canonical_json
from pfgdata.images import BucketPolicy
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.latents import LatentOptions, LatentPass
from pfgdata.records import LatentScale
from pfgdata.store import LatentSet, Store
from pfgdata.vaes import Vae
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.fit import fit
from pfgtrain.generate import load_run
from pfgtrain.objective import latents_of
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, data_of
from tests.pfgtrain.tiny_base import build_tiny_base, tiny_vae

CHANNELS = 16
MEAN = tuple(0.25 * channel - 2.0 for channel in range(CHANNELS))
DEVIATION = tuple(0.5 + 0.125 * channel for channel in range(CHANNELS))
SCALE = LatentScale(scaling=tuple(0.5 / each for each in DEVIATION), shift=MEAN)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """The tiny base with such a VAE, and a UNet for it."""
    folder = build_tiny_base(tmp_path / "wide")
    unet = UNet2DConditionModel.load_config(folder / "unet") | {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
    }
    for part in ("unet", "vae"):
        shutil.rmtree(folder / part)
    torch.manual_seed(0)
    tiny_vae(
        latent_channels=CHANNELS,
        latents_mean=MEAN,
        latents_std=DEVIATION,
        scaling_factor=0.5,
    ).save_pretrained(folder / "vae")
    UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
    return Base.load(str(folder))


@pytest.fixture
def store(base: Base, tmp_path: Path) -> Store:
    """A store of a few images, with their latents."""
    make_images(tmp_path / "images", 6, size=(64, 64))
    store = new_store(tmp_path / "feats")
    ingest(
        plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=IngestOptions(batch_size=2)
    )
    snapshot = store.snapshot()
    LatentPass(
        store=store,
        vae=Vae.load(base.name, device="cpu"),
        policy=BucketPolicy.derive(resolution=64, step=16),
        options=LatentOptions(batch_size=2, threads=1),
    ).run(snapshot, snapshot.everything)
    return store


def test_a_set_says_the_channels_and_what_each_is_shifted_and_multiplied_by(store: Store) -> None:
    (latent_set,) = store.latent_sets()
    assert (latent_set.info.latent_channels, latent_set.info.scale) == (CHANNELS, SCALE)
    (shard,) = latent_set.index().shards
    assert latent_set.array_map(shard).shape == (6, CHANNELS, 8, 8)


def test_a_fit_reads_them_shifted_and_scaled_and_a_picture_of_them_is_the_vae_s_own(
    base: Base, store: Store, tmp_path: Path
) -> None:
    data, tagger = data_of(store), CheapTagger()
    config = replace(SMALL, max_train_steps=2, train_batch_size=2, validation_split=0.8)
    fit(data, base, config, run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "pictures" / "held-out-step-00000002.png").is_file()
    assert RunRecord.read(tmp_path / "run").scale == SCALE
    model = load_run(tmp_path / "run", tagger=tagger, device="cpu")

    (shard,) = data.latent_set.index().shards
    stored = torch.from_numpy(np.array(data.latent_set.array_map(shard)[:2])).float()
    latents = latents_of(stored, None, scale=data.latent_set.info.scale)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    torch.testing.assert_close(latents, (stored - mean) / deviation * 0.5)
    with torch.no_grad():
        pixels = model.pipeline.vae.decode(stored).sample
    expected = model.pipeline.image_processor.postprocess(pixels, output_type="np")
    for image, wanted in zip(model.pipeline.decode(latents), expected, strict=True):
        assert np.abs(np.asarray(image) - wanted * 255).max() <= 1


def test_a_set_that_says_less_means_what_it_did(store: Store) -> None:
    (latent_set,) = store.latent_sets()
    described = latent_set.path / "latents.json"
    value = json.loads(described.read_text())
    value["info"]["scaling_factor"] = 0.18215
    del value["info"]["shift_factor"], value["info"]["latent_channels"], value["digest"]
    described.write_bytes(canonical_json(value))
    old = LatentSet.open(latent_set.path, disk=store.disk)
    assert (old.info.latent_channels, old.info.scale) == (CHANNELS, LatentScale(scaling=0.18215))
