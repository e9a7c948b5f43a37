"""What a making of features is asked: the flags of the command and the keys of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pfgdata.derive import DeriveOptions

__all__ = ["FeatureJob", "FeatureOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOptions(DeriveOptions):
    """How to make features."""

    batch_size: int = 16
    """Images an extractor's call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob(FeatureOptions):
    """All that a making of features is asked beside its store."""

    extractor: str | None = None
    """A name of the catalog (clip-l, siglip2, dinov2-b, ...), a hub id, a folder, an .onnx file; default: by
    `label`."""
    node: str | None = None
    """The tensor that is the feature; default: the catalog's, of a graph its only output."""
    convention: str | None = None
    """How it takes pictures: a .toml or .json file, or a tagger of the catalog; default: as its files say."""
    label: str | None = None
    """What the set is called in this store; default: the extractor's short name."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1."""
    precision: Literal["float32", "float16"] = "float32"
    """What to compute in; features are stored as float16 either way."""
    where: str | None = None
    """Only images for which this is true, as in pfgdata query; default: all."""
    threshold: float = 0.35
    """General tags count from this score on."""
    character_threshold: float = 0.85
    """Characters count from this score on."""
