"""A Stable Diffusion folder in miniature: every part of diffusers' own classes, weights from fixed seeds.

Its width is 16; the VAE halves three times and the UNet once, so sides are multiples of 16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 16
BLOCKS = (8, 8, 8, 8)


def build_tiny_base(folder: Path, *, prediction_type: str = "epsilon", linear: bool = False) -> Path:
    """Write the folder; `linear` gives the UNet SD2's linear projections."""
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    tiny_text_encoder().save_pretrained(folder / "text_encoder")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        use_linear_projection=linear,
    ).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    ).save_pretrained(folder / "scheduler")
    return folder


def tiny_vae(**options: Any) -> AutoencoderKL:
    """An AutoencoderKL that halves three times, without attention if `options` do not ask for it."""
    config = {
        "block_out_channels": BLOCKS,
        "down_block_types": ("DownEncoderBlock2D",) * len(BLOCKS),
        "up_block_types": ("UpDecoderBlock2D",) * len(BLOCKS),
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**{**config, **options})


def tiny_text_encoder(*, layers: int = 2, **options: Any) -> CLIPTextModel:
    """A CLIPTextModel of `layers` layers and the tiny width."""
    return CLIPTextModel(tiny_text_config(layers=layers, **options)).eval()


def tiny_text_config(*, width: int = WIDTH, layers: int, **options: Any) -> CLIPTextConfig:
    """The config of a text encoder that reads what `tiny_tokenizer` makes."""
    vocabulary = len(tiny_tokenizer())
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **options,
    )


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: every letter is a token."""
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: index for index, name in enumerate(names)}, merges=[], model_max_length=77
    )
