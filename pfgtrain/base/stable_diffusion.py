"""SD1 and SD2: one CLIP text encoder, a UNet that reads its context and nothing else; they differ by values.

They are told apart by the UNet's `use_linear_projection`, not by width, so that a small base of its own width
has a family too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pfgdata.errors import ModelError, RunError
from pfgdata.hub import SD1, SD2, FamilyFacts
from pfgtrain.base.configs import read_config, why_no_stable_diffusion
from pfgtrain.base.families import Family, HasParts, LdmFacts
from pfgtrain.base.prompts import ClipText, TextModels
from pfgtrain.condition import Condition

__all__ = ["FAMILIES", "StableDiffusion", "family_named", "family_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion:
    """One of the two."""

    facts: FamilyFacts
    ldm: LdmFacts
    linear_projection: bool

    def recognises(self, folder: Path) -> bool:
        """Whether the folder has the parts of SD1 or SD2, only those, and this one's UNet."""
        if why_no_stable_diffusion(folder, name=folder.name):
            return False
        return bool(read_config(folder, "unet").get("use_linear_projection")) == self.linear_projection

    def load_text(self, parts: HasParts, *, dtype: torch.dtype) -> TextModels:
        """The tokenizer and the text encoder, frozen."""
        text_encoder = parts.load_text_encoder(dtype=dtype).requires_grad_(False)
        return ClipText(tokenizer=parts.load_tokenizer(), text_encoder=text_encoder)

    def unet_arguments(self, condition: Condition) -> dict[str, Any]:
        """The context alone."""
        return {"encoder_hidden_states": condition.context}

    def pipeline(self) -> tuple[Any, dict[str, Any]]:
        """StableDiffusionPipeline, without text models and checker: prompts come as conditions."""
        from diffusers import StableDiffusionPipeline

        left_out = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
        return StableDiffusionPipeline, {**dict.fromkeys(left_out), "requires_safety_checker": False}

    def pipeline_arguments(self, prompt: Condition, negative: Condition) -> dict[str, Any]:
        """Both contexts."""
        return {"prompt_embeds": prompt.context, "negative_prompt_embeds": negative.context}


FAMILIES: tuple[Family, ...] = (
    StableDiffusion(
        facts=SD1,
        linear_projection=False,
        ldm=LdmFacts(
            text_layout="clip",
            text_config={"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"},
            architectures=dict.fromkeys(("epsilon", "v_prediction"), "stable-diffusion-v1"),
            kohya_version="sd_v1",
            is_v2=False,
            has_clip_skip=True,
        ),
    ),
    StableDiffusion(
        facts=SD2,
        linear_projection=True,
        ldm=LdmFacts(
            text_layout="openclip",
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
    ),
)


def family_of(folder: Path, *, name: str) -> Family:
    """The family of the diffusers folder of base `name`. Raises ModelError if it is of none."""
    for family in FAMILIES:
        if family.recognises(folder):
            return family
    raise ModelError(why_no_stable_diffusion(folder, name=name) or f"{name}: of no family that is known")


def family_named(name: str) -> Family:
    """The family that run.json calls `name`. Raises RunError for one that is not known here."""
    for family in FAMILIES:
        if family.facts.name == name:
            return family
    raise RunError(f"a run on a base of family {name!r}, which this pfgtrain does not know; upgrade pfg")
