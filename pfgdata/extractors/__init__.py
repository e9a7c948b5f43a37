"""Extractors: an image to one vector, by a graph in ONNX or by a model of transformers.

Other rooms know only the protocol `Extractor`. How a picture becomes its square is a Convention, as a
tagger's is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.extractors.catalog import EXTRACTORS, Extractor, ExtractorEntry
    from pfgdata.extractors.load import load_extractor

__all__ = ["EXTRACTORS", "Extractor", "ExtractorEntry", "load_extractor"]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
