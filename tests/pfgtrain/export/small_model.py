"""Tiny bases with every part that an LDM file maps by a rule of its own: mid attention, merged heads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from pfgdata.hub import SD1, SDXL
from tests.pfgtrain.tiny_base import BLOCKS, build_tiny_base, tiny_text_encoder, tiny_vae
from tests.pfgtrain.tiny_sdxl import build_tiny_sdxl, tiny_sdxl_unet

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}
SDXL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
}


def build_whole_base(folder: Path, *, linear: bool, prediction_type: str = "epsilon") -> Path:
    """A tiny base of SD1's kind, or with `linear` of SD2's; its VAE attends in the middle."""
    build_tiny_base(folder, linear=linear, prediction_type=prediction_type)
    whole_vae().save_pretrained(folder / "vae")
    text_encoder(act="gelu" if linear else "quick_gelu").save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def build_whole_sdxl(folder: Path, *, prediction_type: str = "epsilon", zero_snr: bool = False) -> Path:
    """A tiny SDXL of the real one's blocks: 3 of 2 layers, the first without attention, 1, 2 and 3 deep."""
    build_tiny_sdxl(folder, prediction_type=prediction_type, zero_snr=zero_snr)
    torch.manual_seed(3)
    tiny_sdxl_unet(
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=(1, 2, 2),
        transformer_layers_per_block=(1, 2, 3),
    ).save_pretrained(folder / "unet")
    whole_vae(scaling_factor=SDXL.scaling_factor).save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text(json.dumps(SDXL_INDEX))
    return folder


def whole_vae(*, scaling_factor: float = SD1.scaling_factor) -> AutoencoderKL:
    """A tiny AutoencoderKL, 2 layers a block."""
    torch.manual_seed(1)
    return tiny_vae(
        block_out_channels=(*BLOCKS[:2], 16, 16),  # a shortcut convolution where the width changes
        mid_block_add_attention=True,
        layers_per_block=2,
        scaling_factor=scaling_factor,
    ).eval()


def text_encoder(*, act: str, layers: int = 3) -> CLIPTextModel:
    """A tiny CLIPTextModel of SD1's (quick_gelu) or SD2's (gelu) activation."""
    torch.manual_seed(2)
    return tiny_text_encoder(layers=layers, hidden_act=act)
