"""Selection to latent set: each distinct image encoded once by the VAE, by aspect bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.latents.encode import LatentPass, LatentReport, probe_image
    from pfgdata.latents.encoder import VaeSource
    from pfgdata.latents.job import LatentJob, LatentOptions

__all__ = [
    "LatentJob",
    "LatentOptions",
    "LatentPass",
    "LatentReport",
    "VaeSource",
    "probe_image",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
