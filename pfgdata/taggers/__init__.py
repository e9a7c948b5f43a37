"""Taggers: an image to tag scores and to the feature they are computed from.

`OnnxTagger` runs an ONNX file by its convention and finds the feature in its graph by itself; other rooms
know only the protocol `Tagger`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.taggers.catalog import (
        CATALOG,
        DEFAULT_TAGGER,
        CatalogEntry,
        Tagger,
        convention_named,
    )
    from pfgdata.taggers.described import TaggerFacts, describe
    from pfgdata.taggers.doctor import DoctorReport, Finding, diagnose
    from pfgdata.taggers.onnx import OnnxTagger

__all__ = [
    "CATALOG",
    "DEFAULT_TAGGER",
    "CatalogEntry",
    "DoctorReport",
    "Finding",
    "OnnxTagger",
    "Tagger",
    "TaggerFacts",
    "convention_named",
    "describe",
    "diagnose",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
