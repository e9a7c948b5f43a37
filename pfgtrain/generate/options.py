"""What to make of each guide, in words and numbers: options of the library, flags and keys. Nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pfgdata.errors import ConfigError
from pfgtrain.config import require_text

__all__ = ["GenerateFields", "GenerateOptions", "PictureFields"]


@dataclass(frozen=True, kw_only=True)
class PictureFields:
    """What all who draw pictures of guides are asked."""

    images_per_guide: int = 4
    """Pictures a guide."""
    num_inference_steps: int = 25
    """Of the sampler."""
    seed: int = 0
    """Of the first picture of each guide."""
    batch_size: int = 4
    """Pictures at once."""


@dataclass(frozen=True, kw_only=True)
class GenerateFields(PictureFields):
    """What `generate` is asked beside how strongly to follow guide and prompt."""

    no_pfg: bool = False
    """Leave the tokens out, on both sides."""
    prompt: str | None = None
    """Text; default: the run's."""
    negative_prompt: str = ""
    """What to lead away from."""
    uncond: Literal["zeros", "eos"] | None = None
    """The pad: zeros or eos; default: the run's."""
    width: int | None = None
    """Pixels; default: the run's resolution."""
    height: int | None = None
    """Pixels; default: the run's resolution."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(GenerateFields):
    """What to make of each guide. Raises ConfigError for a value that cannot be."""

    guidance_scale: float = 7.5  # 1 or less: no guidance
    guidance_rescale: float = 0.0  # share, 0..1, of each step's contrast that is given back: see PFGPipeline
    pfg_scale: float = 1.0  # multiplies the tokens; 0 gives zero tokens, which are not absence

    def __post_init__(self) -> None:
        for name in ("images_per_guide", "num_inference_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be 1 or more")
        for name in ("width", "height"):
            side = getattr(self, name)
            if side is not None and side < 1:
                raise ConfigError(f"{name} is {side}, must be 1 or more")
        for name in ("guidance_scale", "pfg_scale"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}, must be a finite number")
        if not 0 <= self.guidance_rescale <= 1:
            raise ConfigError(f"guidance_rescale is {self.guidance_rescale}, must be from 0 to 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}, must be 0 or more and below 2^63")
        for name in ("prompt", "negative_prompt"):
            require_text(name, getattr(self, name) or "")
        if self.uncond not in (None, "zeros", "eos"):
            raise ConfigError(f"uncond is {self.uncond!r}, must be zeros or eos")
