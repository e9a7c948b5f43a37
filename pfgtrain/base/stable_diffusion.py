"""SD1 and SD2: one CLIP text encoder, a UNet that reads its context and nothing else; they differ by values.

They are told apart by the UNet's `use_linear_projection`, not by width, so that a small base of its own width
has a family too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from pfgdata.hub import SD1, SD2, FamilyFacts
from pfgtrain.base.configs import config_if_any, has_more_than_context, why_not_whole
from pfgtrain.base.families import HasParts, LdmFacts
from pfgtrain.base.prompts import ClipText, TextModels
from pfgtrain.condition import Condition

__all__ = ["STABLE_DIFFUSION_1", "STABLE_DIFFUSION_2", "StableDiffusion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion:
    """One of the two."""

    facts: FamilyFacts
    ldm: LdmFacts
    linear_projection: bool
    clip_skip: ClassVar[None] = None
    reads_sizes: ClassVar[bool] = False

    def recognises(self, folder: Path) -> bool:
        """Whether its UNet is told a context alone, and projects as this one's."""
        if has_more_than_context(folder):
            return False
        return bool(config_if_any(folder, "unet").get("use_linear_projection")) == self.linear_projection

    def why_not(self, folder: Path, *, name: str) -> str | None:
        """What it lacks, if anything."""
        return why_not_whole(folder, self.facts, name=name)

    def load_text(self, parts: HasParts, *, dtype: torch.dtype) -> TextModels:
        """The tokenizer and the text encoder, frozen."""
        text_encoder = parts.load_text_encoder(dtype=dtype).requires_grad_(False)
        return ClipText(tokenizer=parts.load_tokenizer(), text_encoder=text_encoder)

    def unet_arguments(self, condition: Condition, sizes_B6: Tensor | None) -> dict[str, Any]:
        """The context alone."""
        return {"encoder_hidden_states": condition.context}

    def pipeline(self) -> tuple[Any, dict[str, Any]]:
        """StableDiffusionPipeline, without text models and checker: prompts come as conditions."""
        from diffusers import StableDiffusionPipeline

        left_out = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
        return StableDiffusionPipeline, {**dict.fromkeys(left_out), "requires_safety_checker": False}

    def pipeline_config(self, *, zeros: bool) -> dict[str, Any]:
        """That a checker is not missed; its pipeline knows no zeros."""
        return {"requires_safety_checker": False}

    def pipeline_arguments(self, prompt: Condition, negative: Condition) -> dict[str, Any]:
        """Both contexts."""
        return {"prompt_embeds": prompt.context, "negative_prompt_embeds": negative.context}


_CHANNELS = (320, 640, 1280, 1280)
STABLE_DIFFUSION_1 = StableDiffusion(
    facts=SD1,
    linear_projection=False,
    ldm=LdmFacts(
        text_layouts=("clip",),
        channels=_CHANNELS,
        text_config={"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"},
        architectures=dict.fromkeys(("epsilon", "v_prediction"), "stable-diffusion-v1"),
        kohya_version="sd_v1",
        is_v2=False,
        has_clip_skip=True,
    ),
)
STABLE_DIFFUSION_2 = StableDiffusion(
    facts=SD2,
    linear_projection=True,
    ldm=LdmFacts(
        text_layouts=("openclip",),
        channels=_CHANNELS,
        text_config={
            "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
            "params": {"freeze": True, "layer": "penultimate"},
        },
        architectures={
            "epsilon": "stable-diffusion-v2-512",
            "v_prediction": "stable-diffusion-v2-768-v",
        },
        kohya_version="sd_v2",
        is_v2=True,
        has_clip_skip=False,  # its sd_hijack_open_clip.py reads one fixed layer
    ),
)
