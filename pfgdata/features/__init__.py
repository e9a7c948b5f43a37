"""Selection to feature set: each distinct image through an extractor once, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.features.job import FeatureJob, FeatureOptions
    from pfgdata.features.make import ExtractorSource, FeaturePass, FeatureReport
    from pfgdata.features.setup import extractor_for, extractor_of

__all__ = [
    "ExtractorSource",
    "FeatureJob",
    "FeatureOptions",
    "FeaturePass",
    "FeatureReport",
    "extractor_for",
    "extractor_of",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
