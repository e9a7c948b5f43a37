"""SDXL: two CLIP text encoders side by side, a UNet that is told a pooled text and how a picture was cut too.

Every base of it is trained on the layer before the last of both encoders, without a final layer norm, and web
UIs read no other. The vector of all the words is the second encoder's projection of the text's end.

Shapes: n texts, T positions (77), D1 + D2 context width (2048), P pooled width (1280), B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from pfgdata.hub import SDXL, FamilyFacts
from pfgtrain.base.configs import config_if_any, has_more_than_context, why_not_whole
from pfgtrain.base.families import HasParts, LdmFacts
from pfgtrain.base.prompts import ClipText, TextModels, token_ids
from pfgtrain.condition import Condition

__all__ = ["Sdxl", "SdxlCondition", "SdxlText"]

_SIZES = 6  # original height and width, top and left of the crop, height and width of the picture
_SIZES_OF_REFINER = 5  # the last two give way to an aesthetic score


@dataclass(frozen=True, kw_only=True)
class SdxlCondition(Condition):
    """What a text gives an SDXL UNet; how the row's picture was cut is no matter of the text."""

    pooled: Tensor  # [n, P]


@dataclass(frozen=True, slots=True, kw_only=True)
class SdxlText:
    """Both tokenizers and text encoders."""

    first: ClipText
    second: ClipText  # its encoder projects

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, layer: int | None) -> SdxlCondition:
        """A row for each of `texts`, as StableDiffusionXLPipeline makes them.

        `layer` counts in the first encoder; the second is read as far from its end. None: before the last.
        """
        layers = int(self.first.text_encoder.config.num_hidden_layers)
        behind = 1 if layer is None else layers - layer
        told = [_read(texts, clip) for clip in (self.first, self.second)]
        return SdxlCondition(
            context=torch.cat([one.hidden_states[-1 - behind] for one in told], dim=-1),
            pooled=told[1].text_embeds,
        )

    def lost(self, text: str) -> str | None:
        """Which end of `text` the encoders never see; their tokenizers cut alike."""
        return self.first.lost(text)


def _read(texts: Sequence[str], clip: ClipText) -> Any:
    """The output of one text encoder, with all its layers."""
    ids = token_ids(texts, tokenizer=clip.tokenizer, text_encoder=clip.text_encoder).input_ids
    return clip.text_encoder(ids.to(clip.text_encoder.device), output_hidden_states=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdxl:
    """The family."""

    facts: FamilyFacts = SDXL
    ldm: LdmFacts = field(
        default_factory=lambda: LdmFacts(
            text_layouts=("clip", "openclip"),
            text_config=None,  # web UIs take an SDXL file without a .yaml
            channels=(320, 640, 1280),
            architectures=dict.fromkeys(("epsilon", "v_prediction"), "stable-diffusion-xl-v1-base"),
            kohya_version="sdxl_base_v1-0",
            is_v2=False,
            has_clip_skip=False,
            markers=True,
            lora_layers="ldm",
            pfg_webui=False,
        )
    )
    clip_skip: ClassVar[int] = 2
    reads_sizes: ClassVar[bool] = True

    def recognises(self, folder: Path) -> bool:
        """Whether its UNet is told more than a context."""
        return has_more_than_context(folder)

    def why_not(self, folder: Path, *, name: str) -> str | None:
        """Why it cannot be used as one: a refiner, a part that lacks, a UNet that is told something else."""
        unet, second = (config_if_any(folder, part) for part in ("unet", "text_encoder_2"))
        step = unet.get("addition_time_embed_dim") or 0
        told = unet.get("projection_class_embeddings_input_dim") or 0
        pooled = second.get("projection_dim", 512)  # class default
        if unet and second and told == pooled + _SIZES_OF_REFINER * step:
            return f"{name}: an SDXL refiner, which only finishes pictures; use an SDXL base model"
        if reason := why_not_whole(folder, self.facts, name=name):
            return reason
        kind = unet.get("addition_embed_type")
        if kind != "text_time" or told != pooled + _SIZES * step:
            return f"{name}: its UNet takes other added embeddings than SDXL's ({kind}, {told} wide)"
        return None

    def load_text(self, parts: HasParts, *, dtype: torch.dtype) -> TextModels:
        """Both tokenizers and text encoders, frozen."""
        first, second = (
            ClipText(
                tokenizer=parts.load_tokenizer(f"tokenizer{end}"),
                text_encoder=parts.load_text_encoder(f"text_encoder{end}", dtype=dtype).requires_grad_(False),
            )
            for end in ("", "_2")
        )
        return SdxlText(first=first, second=second)

    def unet_arguments(self, condition: Condition, sizes_B6: Tensor | None) -> dict[str, Any]:
        """The context, the pooled text, and the sizes as they are."""
        assert isinstance(condition, SdxlCondition)
        assert sizes_B6 is not None, "asked for by reads_sizes"
        added = {"text_embeds": condition.pooled, "time_ids": sizes_B6}
        return {"encoder_hidden_states": condition.context, "added_cond_kwargs": added}

    def pipeline(self) -> tuple[Any, dict[str, Any]]:
        """StableDiffusionXLPipeline, without text models and watermark: prompts come as conditions.

        It tells its UNet of a whole picture of height H and width W, (H, W, 0, 0, H, W), on both sides.
        """
        from diffusers import StableDiffusionXLPipeline

        left_out = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        return StableDiffusionXLPipeline, {**dict.fromkeys(left_out), "add_watermarker": False}

    def pipeline_config(self, *, zeros: bool) -> dict[str, Any]:
        """What diffusers takes for the empty text where none is given."""
        return {"force_zeros_for_empty_prompt": zeros}

    def pipeline_arguments(self, prompt: Condition, negative: Condition) -> dict[str, Any]:
        """Both contexts and both pooled texts; so it makes no unconditional row of its own."""
        assert isinstance(prompt, SdxlCondition)
        assert isinstance(negative, SdxlCondition)
        return {
            "prompt_embeds": prompt.context,
            "negative_prompt_embeds": negative.context,
            "pooled_prompt_embeds": prompt.pooled,
            "negative_pooled_prompt_embeds": negative.pooled,
        }
