"""What an extractor is to the other rooms, and the ones known by a short name.

The licences and gates of bigG, SigLIP 2 and DINOv3 were looked up in November 2026, the others are as known;
a gated repository asks for a login and a click first. A width is for people: that of a loaded extractor comes
from its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.hub import repository_of
from pfgdata.inference import Precision
from pfgdata.records import ExtractorIdentity

__all__ = ["EXTRACTORS", "Extractor", "ExtractorEntry", "repository"]


class Extractor(Protocol):
    """Makes one vector of a picture; two implementations: a graph in ONNX, a model of transformers."""

    @property
    def name(self) -> str:
        """What finds it again: of the catalog, a hub id, a folder or a file, made absolute."""

    @property
    def revision(self) -> str | None:
        """The hub's commit."""

    @property
    def identity(self) -> ExtractorIdentity:
        """What its vectors mean."""

    @property
    def feature_dim(self) -> int:
        """F, the width of a vector."""

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at."""

    @property
    def batch_size(self) -> int | None:
        """The only number of images it takes at once; None if any."""

    @property
    def source(self) -> str:
        """Who says its convention."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    @property
    def writer(self) -> dict[str, Any]:
        """Where it runs and what it computes in, as a shard's record has it."""

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture, uint8 [H, W, 3 or 4], as its square, uint8 RGB [S, S, 3]. Called in threads."""

    def features(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """The vectors [B, F] of squares, uint8 RGB [B, S, S, 3]; what float16 cannot hold is infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractorEntry:
    """A published extractor on the hub: its node is what its authors compare images by."""

    repository: str
    node: str
    feature_dim: int
    licence: str
    gated: bool = False


EXTRACTORS: dict[str, ExtractorEntry] = {
    "clip-l": ExtractorEntry(
        repository="openai/clip-vit-large-patch14", node="image_embeds", feature_dim=768, licence="MIT"
    ),
    "clip-h": ExtractorEntry(
        repository="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        node="image_embeds",
        feature_dim=1024,
        licence="MIT",
    ),
    "clip-bigg": ExtractorEntry(
        repository="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        node="image_embeds",
        feature_dim=1280,
        licence="MIT",
    ),
    "siglip2-b": ExtractorEntry(
        repository="google/siglip2-base-patch16-224",
        node="pooler_output",
        feature_dim=768,
        licence="Apache-2.0",
    ),
    "siglip2": ExtractorEntry(
        repository="google/siglip2-so400m-patch14-384",
        node="pooler_output",
        feature_dim=1152,
        licence="Apache-2.0",
    ),
    "dinov2-b": ExtractorEntry(
        repository="facebook/dinov2-base", node="pooler_output", feature_dim=768, licence="Apache-2.0"
    ),
    "dinov2-l": ExtractorEntry(
        repository="facebook/dinov2-large", node="pooler_output", feature_dim=1024, licence="Apache-2.0"
    ),
    "dinov3-b": ExtractorEntry(
        repository="facebook/dinov3-vitb16-pretrain-lvd1689m",
        node="pooler_output",
        feature_dim=768,
        licence="DINOv3 License",
        gated=True,
    ),
    "dinov3-l": ExtractorEntry(
        repository="facebook/dinov3-vitl16-pretrain-lvd1689m",
        node="pooler_output",
        feature_dim=1024,
        licence="DINOv3 License",
        gated=True,
    ),
}


def repository(name: str) -> str:
    """The name under which the hub knows `name`; a name not in the catalog is its own.

    Raises ModelNotFoundError if it only looks like a catalog name.
    """
    known = {one: entry.repository for one, entry in EXTRACTORS.items()}
    return repository_of(name, known, what="extractor")
