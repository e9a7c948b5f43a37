"""Latents of the demo VAE, its digest, and the sizes of a base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.hub import resolve
from pfgdata.records import LatentScale
from pfgdata.vaes import (
    BaseGeometry,
    Vae,
    base_geometry,
    load_autoencoder,
    state_digest,
    weights_options,
)
from tests.doubles import Watched

DEMO = resolve("demo", what="base").folder


@pytest.fixture(scope="module")
def vae() -> Vae:
    return Vae.load("demo", device="cpu")


def pictures(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, height // 16, width // 16, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 16, axis=1), 16, axis=2)


def test_latents_are_unscaled_means_of_an_eighth_of_the_sides(vae: Vae) -> None:
    mean, logvar = vae.encode(pictures(2, 64, 96))
    assert mean.shape == logvar.shape == (2, vae.latent_channels, 8, 12)
    assert mean.dtype == logvar.dtype == np.float32
    assert 0.3 < mean.std() * vae.scale.scaling < 3
    assert np.isfinite(mean).all()


def test_loading_and_hashing_a_vae_is_shown_as_one() -> None:
    watched = Watched()
    vae = Vae.load("demo", device="cpu", progress=watched)
    assert watched.ended == ["load: 1/1 VAEs"]
    assert "digest" in vars(vae)  # nobody waits for it later


def test_encoding_is_the_same_alone_and_in_a_batch(vae: Vae) -> None:
    batch = pictures(3, 64, 64)
    together, alone = vae.encode(batch)[0], vae.encode(batch[1:2])[0]
    np.testing.assert_allclose(together[1:2], alone, atol=1e-4)


class SmallDevice:
    """A VAE where a GPU has room for `room` images at once, and how many it saw each time."""

    def __init__(self, *, room: int) -> None:
        self.model, self.room, self.seen = load_autoencoder(DEMO / "vae"), room, list[int]()
        self.config, self.device = self.model.config, self.model.device

    def encode(self, x: torch.Tensor) -> Any:
        self.seen.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return self.model.encode(x)


def test_a_batch_that_a_device_has_no_memory_for_goes_in_halves_from_then_on(vae: Vae) -> None:
    device = SmallDevice(room=2)
    small, batch = Vae(device, found=resolve("demo", what="vae")), pictures(5, 64, 64)
    for seen in ([5, 2, 2, 2], [2, 2, 2]):  # the last one padded
        device.seen.clear()
        for found, whole in zip(small.encode(batch), vae.encode(batch), strict=True):
            np.testing.assert_allclose(found, whole, atol=1e-4)
        assert device.seen == seen


def test_a_device_without_memory_for_one_image_is_one_line() -> None:
    small = Vae(SmallDevice(room=0), found=resolve("demo", what="vae"))
    with pytest.raises(ModelError, match=r"no memory for one image; .* use --device cpu"):
        small.encode(pictures(2, 64, 64))


def test_a_vae_says_where_it_computes(vae: Vae) -> None:
    assert (vae.device, vae.compute_dtype) == ("cpu", "float32")


def test_sides_that_do_not_fit_are_our_own_bug(vae: Vae) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(np.zeros((1, 60, 64, 3), np.uint8))


def test_a_folder_that_is_a_vae_is_the_same_vae(vae: Vae, tmp_path: Path) -> None:
    shutil.copytree(DEMO / "vae", tmp_path / "mine")
    alone = Vae.load(str(tmp_path / "mine"), device="cpu")
    assert alone.digest == vae.digest
    assert (alone.factor, alone.scale, alone.latent_channels) == (8, LatentScale(scaling=1.0), 4)


def test_the_marker_file_beside_a_vae_says_that_it_is_untrained(vae: Vae, tmp_path: Path) -> None:
    shutil.copytree(DEMO / "vae", tmp_path / "base" / "vae")
    (tmp_path / "base" / "UNTRAINED").touch()
    assert Vae.load(str(tmp_path / "base"), device="cpu").untrained and not vae.untrained


def test_the_digest_sees_values_shapes_and_names_not_order_or_dtype() -> None:
    ones, twos = torch.ones(2, 3), torch.full((2,), 2.0)
    digest = state_digest({"a": ones, "b": twos})
    assert state_digest({"b": twos.half(), "a": ones}) == digest
    changed = [{"a": ones, "c": twos}, {"a": ones.T, "b": twos}, {"a": ones, "b": twos + 1e-6}, {"a": ones}]
    assert digest not in [state_digest(state) for state in changed]


def test_a_vae_there_in_fp16_only_is_found_and_computes_in_float32(vae: Vae, tmp_path: Path) -> None:
    load_autoencoder(DEMO / "vae").half().save_pretrained(tmp_path / "vae", variant="fp16")
    assert weights_options(tmp_path / "vae") == {"variant": "fp16", "use_safetensors": None}
    assert weights_options(DEMO / "vae") == {"variant": None, "use_safetensors": None}
    half = Vae.load(str(tmp_path), device="cpu")
    mean, expected = half.encode(pictures(1, 64, 64))[0], vae.encode(pictures(1, 64, 64))[0]
    np.testing.assert_allclose(mean, expected, atol=0.05)


def test_a_vae_with_missing_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(DEMO / "vae", tmp_path / "vae")
    weights = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["quant_conv.bias"]
    save_file(state, weights)
    with pytest.raises(ModelError, match=r"lack 1 tensors, quant_conv\.bias first"):
        Vae.load(str(tmp_path), device="cpu")
    weights.unlink()
    with pytest.raises(ModelError, match="no VAE that diffusers can load"):
        Vae.load(str(tmp_path), device="cpu")


def test_a_folder_without_a_vae_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json is missing; .* --base demo"):
        Vae.load(str(tmp_path), device="cpu")


def test_sizes_of_a_base_come_from_its_configs_alone(tmp_path: Path) -> None:
    assert base_geometry(DEMO) == BaseGeometry(factor=8, sample_size=16, step=32, resolution=128)
    for part, config in {
        "vae": {"block_out_channels": [128, 256, 512, 512]},
        "unet": {"block_out_channels": [320, 640, 1280, 1280], "sample_size": 64},
    }.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    assert base_geometry(tmp_path) == BaseGeometry(factor=8, sample_size=64, step=64, resolution=512)


def test_a_base_with_a_broken_or_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"unet/config\.json is missing"):
        base_geometry(tmp_path)
    (tmp_path / "unet").mkdir()
    for broken in ("{", "[" * 100_000):
        (tmp_path / "unet" / "config.json").write_text(broken)
        with pytest.raises(ModelError, match=r"unet/config\.json: cannot be read"):
            base_geometry(tmp_path)
    (tmp_path / "unet" / "config.json").write_text('{"sample_size": 64}')
    with pytest.raises(ModelError, match="no block_out_channels"):
        base_geometry(tmp_path)
