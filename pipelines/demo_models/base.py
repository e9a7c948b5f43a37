"""The demo base before its first stage: trained VAE, text encoder and tokenizer around a UNet from a seed.

The UNet itself is trained by the product: `python -m pipelines pipelines/demo_models/demo_stage1.toml`, which
is a `pfgtrain fit` on tags as captions, and then `demo_run.toml` on features.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfgdata.errors import ConfigError
from pfgtrain.base import Base
from pipelines.demo_models.files import fresh, write_json, write_weights

START = "start"  # the folder below --out
STAGE_1 = "demo_stage1"  # the run below --out/runs, as its recipe is called
LATENT_SIDE = 16  # of 128 px at factor 8

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # SD's own schedule cannot begin a flat ground that is bright or dark
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_PARTS = {"vae": "vae", "text_encoder": "text", "tokenizer": "text"}  # part of the base -> its stage


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecipe:
    """The UNet's blocks, from the finest; the finest has no attention, all others read the context."""

    widths: tuple[int, ...]
    layers: int = 1  # residual blocks a level
    heads: int = 4
    groups: int = 8  # of the norms
    seed: int = 5

    def config(self, *, context_width: int, channels: int) -> dict[str, Any]:
        """Arguments of diffusers' UNet2DConditionModel, which are also its config.json."""
        reading = len(self.widths) - 1
        return {
            "sample_size": LATENT_SIDE,
            "in_channels": channels,  # of the latents
            "out_channels": channels,
            "layers_per_block": self.layers,
            "block_out_channels": tuple(self.widths),
            "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * reading),
            "up_block_types": (*["CrossAttnUpBlock2D"] * reading, "UpBlock2D"),
            "cross_attention_dim": context_width,
            "attention_head_dim": self.heads,  # diffusers reads this as the number of heads
            "norm_num_groups": self.groups,
        }


def write_start(out: Path, *, recipe: BaseRecipe, text_width: int) -> Path:
    """Write OUT/start, a diffusers folder whose UNet knows nothing yet.

    Its last layer is zero, so that a fit begins at the loss of a model that says nothing. Raises ConfigError
    if a part was not exported.
    """
    from diffusers import UNet2DConditionModel

    parts = out / "export" / "demo_base"
    config = recipe.config(context_width=text_width, channels=_latent_channels(parts))
    torch.manual_seed(recipe.seed)
    unet = UNet2DConditionModel(**config)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    folder = fresh(out / START)
    _write(folder, unet.state_dict(), config, parts=parts)
    (folder / "UNTRAINED").write_text("The UNet is random numbers from a seed.\n", encoding="utf-8")
    return folder


def write_base(out: Path, *, recipe: BaseRecipe, text_width: int) -> Path:
    """Write OUT/export/demo_base whole: the exported parts around the UNet of the run of stage 1, float16."""
    unet = Base.load(str(out / "runs" / STAGE_1)).load_unet()
    halves = {key: value.half() for key, value in unet.state_dict().items()}
    folder = out / "export" / "demo_base"
    shutil.rmtree(folder / "unet", ignore_errors=True)
    config = recipe.config(context_width=text_width, channels=_latent_channels(folder))
    _write(folder, halves, config, parts=folder)
    return folder


def _latent_channels(parts: Path) -> int:
    """Those of the exported VAE."""
    config = parts / "vae" / "config.json"
    if not config.is_file():
        raise ConfigError(f"{config}: not there; run the stage vae, then export vae")
    return int(json.loads(config.read_text(encoding="utf-8"))["latent_channels"])


def _write(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], *, parts: Path) -> None:
    """A diffusers folder of this UNet and the trained `parts`, which may stand there already."""
    for part, stage in _PARTS.items():
        if not (parts / part).is_dir():
            raise ConfigError(f"{parts / part}: not there; run the stage {stage}, then export {stage}")
        if parts != folder:
            shutil.copytree(parts / part, folder / part)
    (folder / "unet").mkdir()
    write_json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **config})
    write_weights(folder / "unet" / "diffusion_pytorch_model.safetensors", state)
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "model_index.json", _INDEX)


_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
