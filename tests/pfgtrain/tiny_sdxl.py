from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.pfgtrain.tiny_base import tiny_text_config, tiny_tokenizer, tiny_vae

WIDTHS = (16, 24)
POOLED = WIDTHS[1]  # as in every SDXL, and taken for granted by diffusers' reader of single files


def build_tiny_sdxl(folder: Path, *, prediction_type: str = "epsilon", zero_snr: bool = False) -> Path:
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    second = tiny_tokenizer()
    second.pad_token = "!"
    second.save_pretrained(folder / "tokenizer_2")
    torch.manual_seed(0)
    for end, kind, width, layers in (
        ("", CLIPTextModel, WIDTHS[0], 2),
        ("_2", CLIPTextModelWithProjection, WIDTHS[1], 3),
    ):
        act = "gelu" if end else "quick_gelu"
        config = tiny_text_config(width=width, layers=layers, projection_dim=POOLED, hidden_act=act)
        kind(config).eval().save_pretrained(folder / f"text_encoder{end}")
    tiny_sdxl_unet(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
    ).save_pretrained(folder / "unet")
    tiny_vae(scaling_factor=0.13025, force_upcast=True).save_pretrained(folder / "vae")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing" if zero_snr else "leading",
        steps_offset=1,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_snr,
    ).save_pretrained(folder / "scheduler")
    return folder


def tiny_sdxl_unet(**blocks: Any) -> UNet2DConditionModel:
    """A UNet of these blocks that is told what SDXL's is."""
    return UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
        **blocks,
    )
