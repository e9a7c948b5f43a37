"""What the configs of a diffusers folder say: is it whole, its width, its noise, its target."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pfgdata.errors import ModelError, refused_by_system
from pfgdata.hub import FamilyFacts

__all__ = [
    "NOISE",
    "PredictionType",
    "config_if_any",
    "context_width",
    "has_more_than_context",
    "noise_schedule",
    "read_config",
    "scheduled_prediction",
    "why_not_whole",
    "why_other_model",
]

PredictionType = Literal["epsilon", "v_prediction"]


_NAMES = {  # of the parts whose config is not config.json; "" is the whole folder
    "scheduler": "scheduler_config.json",
    "": "model_index.json",
}
_OTHERS = {  # parts that no base has
    "transformer": "a transformer (SD3, Flux and the like)",
    "prior": "a prior (Stable Cascade and the like)",
    "decoder": "a decoder (Stable Cascade and the like)",
    "image_normalizer": "an image embedding for text (unCLIP)",
}
_OTHER_NOISE = {  # how the names of such schedulers begin: they would be read as epsilon
    "EDM": "an EDM model (Playground v2.5, CosXL)",
    "CosineDPM": "an EDM model",
    "FlowMatch": "a flow model",
}

NOISE = (  # what of a scheduler's config the noise of training follows from
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def has_more_than_context(folder: Path) -> bool:
    """Whether the UNet in `folder` is told more of a text than a context, as SDXL's are."""
    if (folder / "text_encoder_2").is_dir():
        return True
    return bool(config_if_any(folder, "unet").get("addition_embed_type"))


def why_other_model(folder: Path) -> str | None:
    """What else than a base `folder` holds, by its name in diffusers, or its noise; None if nothing tells."""
    for part, kind in _OTHERS.items():
        if (folder / part).is_dir():
            pipeline = config_if_any(folder, "").get("_class_name", "of another pipeline")
            return f"is {pipeline}, with {kind}"
    sampler = str(config_if_any(folder, "scheduler").get("_class_name", ""))
    kinds = [kind for start, kind in _OTHER_NOISE.items() if sampler.startswith(start)]
    return f"its scheduler {sampler} is of {kinds[0]}" if kinds else None


def why_not_whole(folder: Path, facts: FamilyFacts, *, name: str) -> str | None:
    """Which parts of the family `folder` lacks, or has of another kind, in words; None if it is whole."""
    missing = [file for file in facts.configs if not (folder / file).is_file()]
    if missing:
        return (
            f"{folder}: no complete {facts.title} folder, lacks {', '.join(missing)};"
            " copy the parts from where the model is from"
        )
    for part in facts.text_encoders:
        kind = read_config(folder, part).get("model_type", "clip_text_model")
        if kind not in ("clip", "clip_text_model"):
            return f"{name}: its {part} is of type {kind}; {facts.title} has clip_text_model"
    return None


def config_if_any(folder: Path, part: str) -> dict[str, Any]:
    """The part's config file as written; empty where there is none, as in a folder that is not whole."""
    return read_config(folder, part) if _config_file(folder, part).is_file() else {}


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """The part's config file as written."""
    path = _config_file(folder, part)
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = refused_by_system(error) or f"no config that can be read ({error})"
        raise ModelError(f"{path}: {reason}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: a config is a JSON object")
    return config


def _config_file(folder: Path, part: str) -> Path:
    return folder / part / _NAMES.get(part, "config.json")


def context_width(unet: Mapping[str, Any], texts: Sequence[Mapping[str, Any]], *, where: Path) -> int:
    """The one width of the context. Raises ModelError if the UNet and the text encoders disagree."""
    reads = unet.get("cross_attention_dim", 1280)  # class defaults
    makes = sum(text.get("hidden_size", 512) for text in texts)
    if reads != makes:
        raise ModelError(
            f"{where}: the UNet reads a context {reads} wide, what encodes its texts makes {makes};"
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
