"""The proof of an export: its files, read by plain diffusers, give the picture that generate gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from pfgtrain.base import Base
from pfgtrain.export import ExportOptions, export
from pfgtrain.generate import GenerateOptions, load_run
from tests.doubles import CheapTagger
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.tiny_base import WIDTH

SIZE, STEPS, GUIDANCE = 64, 4, 5.0


def tokens_of(path: Path, feature_F: torch.Tensor, *, width: int = WIDTH) -> torch.Tensor:
    """What pfg-webui and pfg-ComfyUI make of a two-key file: [1, K, width]."""
    state = torch.load(path, weights_only=True) if path.suffix == ".pt" else load_file(path)
    flat = torch.nn.functional.linear(feature_F[None], state["pfg_linear.weight"], state["pfg_linear.bias"])
    return flat.reshape(1, -1, width)


def picture_of(pipeline: Any, tokens_1KD: torch.Tensor, *, seed: int) -> Image.Image:
    """The picture of the run's prompt and the tokens, zeros on the unconditional side, by plain diffusers."""
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative = pipeline.encode_prompt("illustration of *", "cpu", 1, True, "")
    noise = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(seed))
    return pipeline(
        prompt_embeds=torch.cat([prompt, tokens_1KD], dim=1),
        negative_prompt_embeds=torch.cat([negative, torch.zeros_like(tokens_1KD)], dim=1),
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=SIZE,
        width=SIZE,
    ).images[0]


@pytest.mark.parametrize("train", ["unet", "lora"])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_a_checkpoint_and_a_diffusers_folder_give_the_picture_of_generate(
    kind: str, train: str, tmp_path: Path
) -> None:
    folder = build_whole_base(tmp_path / "base", linear=kind == "sd2", prediction_type="v_prediction")
    base, tagger = Base.load(str(folder)), CheapTagger()
    run = make_run(tmp_path / "a", base, train=train)
    guide = np.random.default_rng(8).integers(0, 256, (40, 30, 3), np.uint8)
    model = load_run(run, tagger=tagger, device="cpu")
    feature_F = model.feature(guide)
    options = GenerateOptions(num_inference_steps=STEPS, guidance_scale=GUIDANCE)
    (ours,) = model.paint(feature_F[None], seeds=[7], options=options)

    formats = ("adapter", "checkpoint", "diffusers")
    export(run, tmp_path / "out", options=ExportOptions(formats=formats, dtype="float32"))
    tokens_1KD = tokens_of(tmp_path / "out" / "a-n3-to-copy" / "a-n3.pt", feature_F)
    checkpoint = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "out" / "a.safetensors"),
        config=str(folder),
        local_files_only=True,
        scheduler=base.load_sampler(),
    )
    whole = StableDiffusionPipeline.from_pretrained(tmp_path / "out" / "a-diffusers")
    whole.scheduler = base.load_sampler()
    for pipeline in (checkpoint, whole):
        theirs = picture_of(pipeline, tokens_1KD, seed=7)
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.asarray(ours).std() > 1
    other = picture_of(whole, torch.zeros_like(tokens_1KD), seed=7)
    assert not np.array_equal(np.asarray(ours), np.asarray(other))  # the tokens are seen
