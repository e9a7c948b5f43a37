from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.pfgtrain.tiny_base import BLOCKS, tiny_tokenizer

WIDTHS = (16, 24)
POOLED = WIDTHS[1]  # as in every SDXL, and taken for granted by diffusers' reader of single files


def build_tiny_sdxl(folder: Path, *, prediction_type: str = "epsilon", zero_snr: bool = False) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    second = tiny_tokenizer()
    second.pad_token = "!"
    second.save_pretrained(folder / "tokenizer_2")
    torch.manual_seed(0)
    for end, kind, width, layers in (
        ("", CLIPTextModel, WIDTHS[0], 2),
        ("_2", CLIPTextModelWithProjection, WIDTHS[1], 3),
    ):
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=len(tokenizer) - 2,
            eos_token_id=len(tokenizer) - 1,
            pad_token_id=len(tokenizer) - 1,
            projection_dim=POOLED,
            hidden_act="quick_gelu" if not end else "gelu",
        )
        kind(config).eval().save_pretrained(folder / f"text_encoder{end}")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=sum(WIDTHS),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * len(BLOCKS),
        up_block_types=("UpDecoderBlock2D",) * len(BLOCKS),
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=0.13025,
        force_upcast=True,
    ).save_pretrained(folder / "vae")
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
