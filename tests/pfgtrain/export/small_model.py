"""Tiny bases with every part that an LDM file maps by a rule of its own: mid attention, merged heads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pfgdata.hub import SD1, SDXL
from tests.pfgtrain.tiny_base import BLOCKS, WIDTH, build_tiny_base, tiny_tokenizer
from tests.pfgtrain.tiny_sdxl import POOLED, WIDTHS, build_tiny_sdxl

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
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=sum(WIDTHS),
        attention_head_dim=(1, 2, 2),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
    ).save_pretrained(folder / "unet")
    whole_vae(scaling_factor=SDXL.scaling_factor).save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text(json.dumps(SDXL_INDEX))
    return folder


def whole_vae(*, scaling_factor: float = SD1.scaling_factor) -> AutoencoderKL:
    """A tiny AutoencoderKL, 2 layers a block."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(*BLOCKS[:2], 16, 16),  # a shortcut convolution where the width changes
        down_block_types=("DownEncoderBlock2D",) * len(BLOCKS),
        up_block_types=("UpDecoderBlock2D",) * len(BLOCKS),
        layers_per_block=2,
        norm_num_groups=4,
        scaling_factor=scaling_factor,
    ).eval()


def text_encoder(*, act: str, layers: int = 3) -> CLIPTextModel:
    """A tiny CLIPTextModel of SD1's (quick_gelu) or SD2's (gelu) activation."""
    torch.manual_seed(2)
    vocabulary = len(tiny_tokenizer())
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        hidden_act=act,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config).eval()
