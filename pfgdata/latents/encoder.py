"""A VAE as an encoder: its identity, its buckets, and what goes in and comes out by aspect bucket.

What is stored is the posterior mean, unscaled, as float16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.errors import IdentityError
from pfgdata.hub import resolve
from pfgdata.images import DECODE_VERSION, PIXEL_RECIPE, BucketPolicy, crop_to_bucket, nearest_buckets
from pfgdata.store import LatentIdentity, installed_versions
from pfgdata.vaes import Vae

__all__ = ["VaeEncoder", "VaeSource", "latent_identity"]

_PACKAGES = ("pfg", "torch", "diffusers", "numpy", "pillow", "opencv-python-headless")  # latents follow these


@dataclass(frozen=True, slots=True)
class VaeEncoder:
    """`vae` on the buckets of a latent set, (width, height) in pixels; a group is a bucket."""

    vae: Vae
    buckets: Sequence[tuple[int, int]]

    @property
    def writer(self) -> Mapping[str, Any]:
        """Where it runs, and by which versions."""
        return {
            "device": self.vae.device,
            "compute_dtype": self.vae.compute_dtype,
            "versions": installed_versions(_PACKAGES),
        }

    def groups(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The bucket nearest to each image."""
        return nearest_buckets(widths, heights, self.buckets)

    def name(self, group: int) -> str:
        """WxH in pixels."""
        width, height = self.buckets[group]
        return f"{width}x{height}"

    def facts(self, group: int) -> Mapping[str, Any]:
        """The bucket's sides."""
        return {"bucket": list(self.buckets[group])}

    def prepare(
        self, pixels: npt.NDArray[np.uint8], group: int
    ) -> tuple[npt.NDArray[np.uint8], Mapping[str, Any]]:
        """The image cropped to its bucket, uint8 [H, W, 3], and what was cut."""
        cropped, box = crop_to_bucket(pixels, self.buckets[group])
        height, width = pixels.shape[:2]
        return cropped, {
            "flip": False,
            "crop_top": box.top,
            "crop_left": box.left,
            "resized_width": box.resized_width,
            "resized_height": box.resized_height,
            "width": width,
            "height": height,
        }

    def encode(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Means [B, C, h, w]."""
        return self.vae.encode(batch)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeSource:
    """What another machine loads the encoder of a latent set by: an EncoderSource."""

    base: str
    revision: str | None
    config: Path | None  # of a base that is a single file
    policy: BucketPolicy
    buckets: Sequence[tuple[int, int]]
    identity: LatentIdentity

    def load(self, *, gpu: bool) -> VaeEncoder:
        """Raises what `Vae.load` does, IdentityError for another VAE than the set's."""
        found = resolve(self.base, what="vae", revision=self.revision, config=self.config)
        vae = Vae.load(found, device="cuda" if gpu else "cpu")
        if latent_identity(vae, self.policy) != self.identity:
            raise IdentityError(
                f"base {self.base} has another VAE, or way to decode, here than the latent set; use the same"
                " files and versions on every machine"
            )
        return VaeEncoder(vae, self.buckets)


def latent_identity(vae: Vae, policy: BucketPolicy) -> LatentIdentity:
    """The identity of the set that `vae` and `policy` make."""
    return LatentIdentity(
        vae_digest=vae.digest,
        compute_dtype=vae.compute_dtype,
        stored_dtype="float16",
        resolution=policy.resolution,
        step=policy.step,
        area=policy.area,
        min_side=policy.min_side,
        max_side=policy.max_side,
        max_ratio=policy.max_ratio,
        small_rule="keep",
        crop_rule="centre",
        pixel_recipe=f"decode {DECODE_VERSION}, {PIXEL_RECIPE}",
        flip=False,
        kind="mean",
    )
