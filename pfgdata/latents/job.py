"""What an encoding of latents is asked: the flags of the command and the keys of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.derive import DeriveOptions

__all__ = ["LatentJob", "LatentOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentOptions(DeriveOptions):
    """How to encode latents."""

    batch_size: int = 8
    """Images a VAE call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentJob(LatentOptions):
    """All that an encoding is asked beside its store."""

    base: str
    """A diffusers folder, .safetensors or .ckpt file, hub id, or demo: its VAE is used."""
    base_config: str | None = None
    """Of a base that is a single file: a diffusers folder of its family, for configs and tokenizer; default:
    fetched from the hub."""
    resolution: int | None = None
    """Buckets have about the area of a square with this side, in pixels; default: the base's own."""
    where: str | None = None
    """Only images for which this is true, as in pfgdata query; default: all."""
    threshold: float = 0.35
    """General tags count from this score on."""
    character_threshold: float = 0.85
    """Characters count from this score on."""
