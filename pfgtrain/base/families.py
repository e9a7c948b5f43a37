"""What a family of bases does: its text models, what its UNet and its pipeline are told, its names elsewhere.

One object a family; which one a folder is of is found once, when a base is loaded. What a family is, is a
`FamilyFacts` of `pfgdata.hub`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pfgdata.hub import FamilyFacts
from pfgtrain.base.configs import PredictionType
from pfgtrain.base.prompts import TextModels
from pfgtrain.condition import Condition

__all__ = ["Family", "HasParts", "LdmFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LdmFacts:
    """How programs beside diffusers name and read a model of the family."""

    text_layouts: tuple[Literal["clip", "openclip"], ...]  # whose names its text encoders have in one file
    text_config: Mapping[str, Any] | None  # `cond_stage_config` of a .yaml; None: nobody asks for one
    channels: tuple[int, ...]  # of the blocks of its UNet, the only ones that web UIs know
    architectures: Mapping[PredictionType, str]  # in Stability's ModelSpec
    kohya_version: str  # `ss_base_model_version` of a LoRA
    is_v2: bool  # its `ss_v2`: A1111 takes a LoRA for SD2 only where it is true
    has_clip_skip: bool  # whether A1111 can read another layer of its text encoder
    markers: bool = False  # whether readers know v-prediction and zero SNR by tensors `v_pred`, `ztsnr`
    lora_layers: Literal["diffusers", "ldm"] = "diffusers"  # whose names kohya's LoRAs give them
    pfg_webui: bool = True  # whether A1111's extension can use an adapter


class HasParts(Protocol):
    """What loads the parts of a folder: a `pfgtrain.base.Base`."""

    def load_tokenizer(self, part: str = "tokenizer") -> Any:
        """The CLIPTokenizer of that part."""

    def load_text_encoder(self, part: str = "text_encoder", *, dtype: torch.dtype = torch.float32) -> Any:
        """The CLIPTextModel of that part, or, where it projects, the CLIPTextModelWithProjection."""


class Family(Protocol):
    """SD1, SD2, SDXL: whoever trains or draws asks this, and never which family it is."""

    @property
    def facts(self) -> FamilyFacts:
        """What the family is."""

    @property
    def ldm(self) -> LdmFacts:
        """Its names elsewhere."""

    @property
    def clip_skip(self) -> int | None:
        """The one layer, as kohya and A1111 count, that its bases are trained on; None: any, by default 1."""

    @property
    def reads_sizes(self) -> bool:
        """Whether its UNet is told how a picture was cut."""

    def recognises(self, folder: Path) -> bool:
        """Whether the diffusers folder is of it, whole or not. Raises ModelError for a damaged config."""

    def why_not(self, folder: Path, *, name: str) -> str | None:
        """Why the folder of base `name`, which is of it, cannot be used, in words; None if it can."""

    def load_text(self, parts: HasParts, *, dtype: torch.dtype) -> TextModels:
        """The tokenizers and text encoders."""

    def unet_arguments(self, condition: Condition, sizes_B6: Tensor | None) -> dict[str, Any]:
        """What the UNet is called with beside the latents and the timesteps.

        The sizes are `Batch.sizes` as float32; None where the family does not read them.
        """

    def pipeline(self) -> tuple[Any, dict[str, Any]]:
        """diffusers' class that draws, and what it is made with beside UNet, VAE and scheduler."""

    def pipeline_config(self, *, zeros: bool) -> dict[str, Any]:
        """What a model_index.json says beside the parts; `zeros`: the empty text is zeros, not encoded."""

    def pipeline_arguments(self, prompt: Condition, negative: Condition) -> dict[str, Any]:
        """What that class is called with for these, a row each for each picture."""
