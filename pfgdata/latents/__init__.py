"""Selection to latent set: each distinct image encoded once by the VAE, by aspect bucket."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.latents.encode import LatentPass, LatentReport, probe_image
    from pfgdata.latents.job import LatentJob, LatentOptions

__all__ = [
    "LatentJob",
    "LatentOptions",
    "LatentPass",
    "LatentReport",
    "probe_image",
]

_LAZY = {
    "LatentJob": "pfgdata.latents.job",
    "LatentOptions": "pfgdata.latents.job",
    "LatentPass": "pfgdata.latents.encode",
    "LatentReport": "pfgdata.latents.encode",
    "probe_image": "pfgdata.latents.encode",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
