"""WD14 taggers: an image to tag scores and to the feature they are computed from.

`OnnxTagger` runs any WD14-shaped ONNX file and finds the feature in its graph by itself; other rooms know
only the protocol `Tagger`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["CATALOG", "DEFAULT_TAGGER", "CatalogEntry", "OnnxTagger", "Tagger"]

_LAZY = {
    "CATALOG": "pfgdata.taggers.catalog",
    "DEFAULT_TAGGER": "pfgdata.taggers.catalog",
    "CatalogEntry": "pfgdata.taggers.catalog",
    "OnnxTagger": "pfgdata.taggers.onnx",
    "Tagger": "pfgdata.taggers.catalog",
}

if TYPE_CHECKING:
    from pfgdata.taggers.catalog import CATALOG as CATALOG
    from pfgdata.taggers.catalog import DEFAULT_TAGGER as DEFAULT_TAGGER
    from pfgdata.taggers.catalog import CatalogEntry as CatalogEntry
    from pfgdata.taggers.catalog import Tagger as Tagger
    from pfgdata.taggers.onnx import OnnxTagger as OnnxTagger

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
