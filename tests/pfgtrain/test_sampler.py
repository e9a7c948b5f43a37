"""The sampler is A1111's DPM++ 2M over Simple; a base says only what noise its UNet was trained on."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import Tensor

from pfgtrain.base import Base
from tests.pfgtrain.tiny_base import build_tiny_base

HABITS: dict[str, Any] = {  # how somebody liked to sample a base, as its config may say
    "_class_name": "DPMSolverMultistepScheduler",
    "timestep_spacing": "leading",
    "steps_offset": 7,
    "algorithm_type": "sde-dpmsolver++",
    "solver_order": 3,
    "solver_type": "heun",
    "final_sigmas_type": "sigma_min",
    "lower_order_final": False,
    "euler_at_final": True,
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.5,
    "sample_max_value": 0.5,
    "lambda_min_clipped": -1.0,
    "variance_type": "learned_range",
    "use_karras_sigmas": True,
    "use_exponential_sigmas": True,
    "use_beta_sigmas": True,
    "use_lu_lambdas": True,
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "use_dynamic_shifting": True,
    "time_shift_type": "linear",
    "clip_sample": True,
    "set_alpha_to_one": True,
    "interpolation_type": "log_linear",
}
NOISE: dict[str, Any] = {  # what its UNet was trained on
    "num_train_timesteps": 500,
    "beta_start": 0.001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": [0.01] * 500,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}


@pytest.fixture(scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A complete tiny base, the test's own copy."""
    shutil.copytree(_built, tmp_path / "tiny")
    return tmp_path / "tiny"


def edit(folder: Path, **changes: Any) -> None:
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def comfy_simple(sigmas: list[float], steps: int) -> list[float]:
    """ComfyUI's `simple_scheduler`, which A1111 has taken over, on a model's sigmas from small to large."""
    each = len(sigmas) / steps
    return [*(sigmas[-(1 + int(step * each))] for step in range(steps)), 0.0]


def dpmpp_2m(x: Tensor, sigmas: list[float]) -> Tensor:
    """k-diffusion's `sample_dpmpp_2m`, which A1111 runs, on the exact denoiser of standard normal data."""
    old: Tensor | None = None
    for index, (now, then) in enumerate(itertools.pairwise(sigmas)):
        denoised = x / (1 + now**2)
        if old is None or then == 0:
            step = denoised
        else:
            h, before = math.log(now / then), math.log(sigmas[index - 1] / now)
            step = (1 + h / (2 * before)) * denoised - h / (2 * before) * old
        x = then / now * x + (1 - then / now) * step
        old = denoised
    return x


@pytest.mark.parametrize("told", [{}, {"timestep_spacing": "leading"}, {"rescale_betas_zero_snr": True}])
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 25, 30, 61, 999, 1000])
def test_the_schedule_is_comfyui_s_simple_whatever_the_base_spaces(
    steps: int, told: dict[str, Any], folder: Path
) -> None:
    edit(folder, **told)
    sampler = Base.load(str(folder)).load_sampler()
    every = ((1 - sampler.alphas_cumprod) / sampler.alphas_cumprod).sqrt().tolist()
    sampler.set_timesteps(steps)
    assert sampler.timesteps[0] == 999
    assert sampler.sigmas.tolist() == pytest.approx(comfy_simple(every, steps), rel=1e-5)


@pytest.mark.parametrize("steps", [3, 10, 20, 25])
def test_the_solver_is_the_one_that_a1111_runs(steps: int, folder: Path) -> None:
    edit(folder, **HABITS)
    sampler = Base.load(str(folder)).load_sampler()
    sampler.set_timesteps(steps)
    sigmas = sampler.sigmas.double().tolist()
    drawn = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = drawn.clone()
    for timestep, sigma in zip(sampler.timesteps, sigmas[:-1], strict=True):
        noisy = x * math.sqrt(1 + sigma**2)  # as k-diffusion holds it
        noise = (noisy - noisy / (1 + sigma**2)) / sigma
        x = sampler.step(noise, timestep, x).prev_sample
    torch.testing.assert_close(
        x, dpmpp_2m(drawn * math.sqrt(1 + sigmas[0] ** 2), sigmas), rtol=1e-4, atol=1e-5
    )


def test_no_habit_of_sampling_is_taken_from_a_base(folder: Path) -> None:
    known = set(inspect.signature(DPMSolverMultistepScheduler).parameters)
    assert known <= {*HABITS, *NOISE}  # a field that diffusers adds belongs to one of both
    plain = Base.load(str(folder)).load_sampler()
    edit(folder, **HABITS)
    assert dict(Base.load(str(folder)).load_sampler().config) == dict(plain.config)


@pytest.mark.parametrize("name", NOISE)
def test_what_a_base_was_trained_on_is_taken_by_the_sampler_and_by_a_fit(name: str, folder: Path) -> None:
    edit(folder, **{key: NOISE[key] for key in ("num_train_timesteps", name)})
    base = Base.load(str(folder))
    sampler, noise = base.load_sampler(), base.load_noise_scheduler()
    assert sampler.config[name] == noise.config[name] == NOISE[name]
    torch.testing.assert_close(sampler.alphas_cumprod, noise.alphas_cumprod, rtol=0, atol=1e-7)
    sampler.set_timesteps(5)
    assert sampler.timesteps.tolist() == [499, 399, 299, 199, 99]


def test_a_base_in_bad_habits_is_sampled_as_a_plain_one(folder: Path) -> None:
    def painted() -> Tensor:
        base = Base.load(str(folder))
        pipeline = StableDiffusionPipeline(
            vae=base.load_vae(),
            text_encoder=base.load_text_encoder(),
            tokenizer=base.load_tokenizer(),
            unet=base.load_unet(),
            scheduler=base.load_sampler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        return pipeline("x", latents=latents, num_inference_steps=4, output_type="latent").images

    plain = painted()
    edit(folder, **HABITS)
    assert torch.equal(painted(), plain)
