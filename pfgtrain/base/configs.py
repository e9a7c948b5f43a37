"""What the configs of a diffusers folder say: is it a Stable Diffusion 1 or 2, its width, its target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pfgdata.errors import ModelError, refused_by_system

__all__ = [
    "NOISE",
    "PredictionType",
    "context_width",
    "noise_schedule",
    "read_config",
    "scheduled_prediction",
    "why_no_stable_diffusion",
]

PredictionType = Literal["epsilon", "v_prediction"]

_PARTS = {  # what a Stable Diffusion folder holds, and the file that must be there
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}

NOISE = (  # what of a scheduler's config the noise of training follows from
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def why_no_stable_diffusion(folder: Path, *, name: str) -> str | None:
    """Why `folder` has not the parts of SD1 or SD2, and only those, in words; None if it has."""
    if (folder / "transformer").is_dir():
        return f"{name}: has a transformer (SD3, Flux and the like); a base is an SD1 or SD2 model"
    if (folder / "text_encoder_2").is_dir():
        return f"{name}: has two text encoders (SDXL), which comes later; use an SD1 or SD2 model"
    missing = [f"{part}/{file}" for part, file in _PARTS.items() if not (folder / part / file).is_file()]
    if missing:
        return (
            f"{folder}: no complete Stable Diffusion folder, lacks {', '.join(missing)};"
            " copy the parts from where the model is from"
        )
    if read_config(folder, "unet").get("addition_embed_type"):
        return f"{name}: its UNet takes added embeddings (SDXL), which comes later; use SD1 or SD2"
    kind = read_config(folder, "text_encoder").get("model_type", "clip_text_model")
    if kind not in ("clip", "clip_text_model"):
        return f"{name}: its text encoder is of type {kind}; SD1 and SD2 have clip_text_model"
    return None


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """The part's config file as written."""
    path = folder / part / _PARTS[part]
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = refused_by_system(error) or f"no config that can be read ({error})"
        raise ModelError(f"{path}: {reason}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: a config is a JSON object")
    return config


def context_width(unet: dict[str, Any], text: dict[str, Any], *, where: Path) -> int:
    """The one width of the context. Raises ModelError if the UNet and the text encoder disagree."""
    reads, makes = (
        unet.get("cross_attention_dim", 1280),
        text.get("hidden_size", 512),
    )  # class defaults
    if reads != makes:
        raise ModelError(
            f"{where}: the UNet reads a context {reads} wide, the text encoder makes {makes};"
            " its parts are of two models"
        )
    return int(reads)


def noise_schedule(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler's config says of the noise a UNet was trained on; how to sample it is left out."""
    return {key: scheduler[key] for key in NOISE if key in scheduler}


def scheduled_prediction(folder: Path) -> PredictionType:
    """What the scheduler's config says the UNet predicts; epsilon, diffusers' default, if it says nothing."""
    kind = read_config(folder, "scheduler").get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise ModelError(f"{folder}: predicts {kind}; epsilon and v_prediction are supported")
    return kind
