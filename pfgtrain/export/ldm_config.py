"""The `.yaml` beside a checkpoint: what an LDM file cannot say of itself.

A1111 takes NAME.yaml beside NAME.safetensors for the whole configuration of the model (its
modules/sd_models_config.py); a few lines would not do, for it instantiates the model from it. Without one it
holds SD1 for epsilon, and tells SD2's v-prediction by a probe of the weights that a fine-tune can fool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pfgdata.records import Factor

__all__ = ["ldm_config", "yaml_text"]

Config = Mapping[str, Any]


def ldm_config(
    *,
    unet: Config,
    vae: Config,
    scheduler: Config,
    text_encoder: Config,
    prediction_type: Literal["epsilon", "v_prediction"],
    scaling_factor: Factor,
) -> dict[str, Any]:
    """The LDM configuration of a model with these diffusers configs, as nested plain values.

    `text_encoder` is an LDM configuration already.
    """
    parameters = {
        "parameterization": "v" if prediction_type == "v_prediction" else "eps",
        "linear_start": scheduler.get("beta_start", 0.00085),
        "linear_end": scheduler.get("beta_end", 0.012),
        "num_timesteps_cond": 1,
        "timesteps": scheduler.get("num_train_timesteps", 1000),
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 64,
        "channels": vae["latent_channels"],
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": scaling_factor,
        "use_ema": False,
        "unet_config": {
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": _unet(unet),
        },
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": _vae(vae)},
        "cond_stage_config": text_encoder,
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": parameters}}


def yaml_text(value: Config, *, indent: int = 0) -> str:
    """Nested mappings as YAML, a key a line; every other value as JSON, which YAML contains."""
    lines = []
    for key, part in value.items():
        if isinstance(part, Mapping):
            lines += [f"{' ' * indent}{key}:\n", yaml_text(part, indent=indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key}: {json.dumps(part)}\n")
    return "".join(lines)


def _unet(config: Config) -> dict[str, Any]:
    channels = config["block_out_channels"]
    heads = config.get("num_attention_heads") or config["attention_head_dim"]  # diffusers' name, its meaning
    per_head = {"num_heads": heads}
    if not isinstance(heads, int):  # SD2: [5, 10, 20, 20] heads of 64 channels
        per_head = {"num_head_channels": channels[0] // heads[0]}
    attends = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    return {
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": channels[0],
        "attention_resolutions": [2**level for level, attend in enumerate(attends) if attend][::-1],
        "num_res_blocks": config["layers_per_block"],
        "channel_mult": _multiples(channels),
        **per_head,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": bool(config.get("use_linear_projection")),
        "transformer_depth": 1,
        "context_dim": config["cross_attention_dim"],
        "use_checkpoint": False,
        "legacy": False,
    }


def _vae(config: Config) -> dict[str, Any]:
    channels = config["block_out_channels"]
    latent = config["latent_channels"]
    return {
        "embed_dim": latent,
        "monitor": "val/rec_loss",
        "ddconfig": {
            "double_z": True,
            "z_channels": latent,
            "resolution": 256,
            "in_channels": config["in_channels"],
            "out_ch": config["out_channels"],
            "ch": channels[0],
            "ch_mult": _multiples(channels),
            "num_res_blocks": config["layers_per_block"],
            "attn_resolutions": [],
            "dropout": 0.0,
        },
        "lossconfig": {"target": "torch.nn.Identity"},
    }


def _multiples(channels: list[int]) -> list[float]:
    """The widths as multiples of the first: whole numbers for every Stable Diffusion."""
    return [width // channels[0] if width % channels[0] == 0 else width / channels[0] for width in channels]
