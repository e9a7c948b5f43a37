"""Which folders are SDXL bases, their sizes, their noise with zero terminal SNR, and what they predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from pfgdata.errors import ConfigError, IdentityError, ModelError, RunError
from pfgdata.images import BucketPolicy, bucket_sizes
from pfgdata.vaes import base_geometry
from pfgtrain.adapter import PFGLinear, load_adapter, save_adapter
from pfgtrain.base import Base, family_named
from pfgtrain.fit import fit, plan_fit
from pfgtrain.objective import Dropout, Objective, draw
from tests.pfgtrain.fit.small_fit import SMALL, make_data
from tests.pfgtrain.small_store import FEATURE_DIM
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base
from tests.pfgtrain.tiny_sdxl import POOLED, build_tiny_sdxl


@pytest.fixture(scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sdxl(tmp_path_factory.mktemp("base") / "xl")


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A complete tiny SDXL, the test's own copy."""
    return shutil.copytree(_built, tmp_path / "xl")


@pytest.fixture(scope="module")
def pure_noise(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base that predicts v and whose last step is pure noise, read only."""
    folder = tmp_path_factory.mktemp("pure_noise") / "v"
    return Base.load(str(build_tiny_sdxl(folder, prediction_type="v_prediction", zero_snr=True)))


def remove(*parts: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for part in parts:
            shutil.rmtree(folder / part)

    return damage


def edit(file: str, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**config, **changes}))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove("tokenizer_2"), "no complete SDXL folder, lacks tokenizer_2/tokenizer_config.json"),
        (edit("unet/config.json", projection_class_embeddings_input_dim=POOLED + 5 * 4), "an SDXL refiner"),
        (
            edit("unet/config.json", addition_embed_type="image"),
            r"other added embeddings than SDXL's \(image",
        ),
        (
            edit("unet/config.json", cross_attention_dim=32),
            "a context 32 wide, what encodes its texts makes 40",
        ),
        (edit("unet/config.json", in_channels=9), "inpainting"),
        (edit("text_encoder_2/config.json", model_type="t5"), "its text_encoder_2 is of type t5"),
    ],
)
def test_a_folder_that_is_like_sdxl_and_is_none_is_refused_in_one_line(
    damage: Callable[[Path], None], said: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        Base.load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_run_of_a_family_that_is_not_known_is_refused() -> None:
    with pytest.raises(RunError, match="family 'third', which this pfgtrain does not know"):
        family_named("third")


def test_the_sizes_of_sdxl_are_1024_pixels_in_steps_of_32(tmp_path: Path) -> None:
    configs = {  # of stabilityai/stable-diffusion-xl-base-1.0
        "unet": {"block_out_channels": [320, 640, 1280], "sample_size": 128},
        "vae": {"block_out_channels": [128, 256, 512, 512]},
    }
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    found = base_geometry(tmp_path)
    assert (found.resolution, found.step) == (1024, 32)
    assert {(1024, 1024), (832, 1216), (1216, 832)} <= set(bucket_sizes(BucketPolicy.derive(1024, 32)))


def test_with_zero_terminal_snr_the_last_step_is_pure_noise_in_a_fit_and_every_weight_is_finite(
    pure_noise: Base,
) -> None:
    base = pure_noise
    assert base.prediction_type == "v_prediction"
    alphas = base.load_noise_scheduler().alphas_cumprod
    theirs = EulerDiscreteScheduler.from_pretrained(base.folder / "scheduler").alphas_cumprod
    assert alphas[-1] == 0  # theirs is 2^-24 there, for sigmas
    torch.testing.assert_close(alphas[:-1], theirs[:-1])
    objective = Objective(prediction_type=base.prediction_type, alphas_cumprod_N=alphas, snr_gamma=5.0)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    chance = draw(seed=0, index=0, shape=(2, 4, 4, 4), num_timesteps=1000, dropout=Dropout())
    posed = objective.pose(latents, replace(chance, timesteps_B=torch.tensor([999, 0])))
    assert torch.equal(posed.noisy_BChw[0], chance.noise_BChw[0])
    assert torch.equal(posed.target_BChw[0], -latents[0])
    snr = alphas / (1 - alphas)  # of the rescaled schedule
    assert posed.weights_B.tolist() == pytest.approx([1.0, float((5.0 + 1) / (snr[0] + 1))])


def test_from_pure_noise_the_sampler_finds_what_an_exact_v_model_knows(pure_noise: Base) -> None:
    sampler = pure_noise.load_sampler()
    sampler.set_timesteps(10)
    alphas = pure_noise.load_noise_scheduler().alphas_cumprod
    known = torch.full((1, 4, 2, 2), 0.7)
    x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    for timestep in sampler.timesteps:
        signal, sigma = alphas[timestep].sqrt(), (1 - alphas[timestep]).sqrt()
        noise = (x - signal * known) / sigma
        x = sampler.step(signal * noise - sigma * known, timestep, x).prev_sample
    torch.testing.assert_close(x, known, atol=1e-3, rtol=0)


@pytest.mark.parametrize("told", [{"zero_snr": True}, {"prediction_type": "v_prediction"}])
def test_a_base_that_says_v_is_not_trained_as_epsilon(told: dict[str, Any], tmp_path: Path) -> None:
    base = Base.load(str(build_tiny_sdxl(tmp_path / "v", **told)), prediction_type="epsilon")
    data = make_data(tmp_path / "feats", base)
    for attempt in (plan_fit, partial(fit, run_dir=tmp_path / "run")):
        with pytest.raises(ConfigError, match=r"predicts v, as .*scheduler_config\.json says .*v_prediction"):
            attempt(data, base, SMALL)
    asked = Base.load(str(tmp_path / "v"), prediction_type="v_prediction")
    assert plan_fit(data, asked, SMALL).steps == SMALL.max_train_steps


def test_latents_and_adapters_of_another_family_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    base = Base.load(str(folder))
    other = Base.load(str(build_tiny_base(tmp_path / "sd1")))
    data = make_data(tmp_path / "feats", other)
    with pytest.raises(
        IdentityError, match=r"by the VAE of .*sd1, base .*xl has another; use --base .*sd1, or"
    ):
        plan_fit(data, base, SMALL)
    weights = "vae/diffusion_pytorch_model.safetensors"
    shutil.copyfile(other.folder / weights, base.folder / weights)
    with pytest.raises(IdentityError, match=r"sd1, which has .*0\.18215.*, base .*xl has .*0\.13025"):
        plan_fit(data, base, SMALL)
    save_adapter(PFGLinear(FEATURE_DIM, 2, WIDTH), tmp_path / "x-n2.pt")
    with pytest.raises(
        RunError, match=r"32 rows are no whole number of tokens of width 40; .*SDXL is 2048 wide"
    ):
        load_adapter(tmp_path / "x-n2.pt", cross_attention_dim=base.cross_attention_dim)
