"""WD14 taggers: an image to tag scores and to the feature they are computed from.

`OnnxTagger` runs any WD14-shaped ONNX file and finds the feature in its graph by itself; other rooms know
only the protocol `Tagger`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = [
    "CATALOG",
    "DEFAULT_TAGGER",
    "CatalogEntry",
    "DoctorReport",
    "Finding",
    "OnnxTagger",
    "Precision",
    "Tagger",
    "choose_batch_size",
    "diagnose",
]

_LAZY = {
    "CATALOG": "pfgdata.taggers.catalog",
    "DEFAULT_TAGGER": "pfgdata.taggers.catalog",
    "CatalogEntry": "pfgdata.taggers.catalog",
    "DoctorReport": "pfgdata.taggers.doctor",
    "Finding": "pfgdata.taggers.doctor",
    "OnnxTagger": "pfgdata.taggers.onnx",
    "Precision": "pfgdata.taggers.catalog",
    "Tagger": "pfgdata.taggers.catalog",
    "choose_batch_size": "pfgdata.taggers.probe",
    "diagnose": "pfgdata.taggers.doctor",
}

if TYPE_CHECKING:
    from pfgdata.taggers.catalog import CATALOG as CATALOG
    from pfgdata.taggers.catalog import DEFAULT_TAGGER as DEFAULT_TAGGER
    from pfgdata.taggers.catalog import CatalogEntry as CatalogEntry
    from pfgdata.taggers.catalog import Precision as Precision
    from pfgdata.taggers.catalog import Tagger as Tagger
    from pfgdata.taggers.doctor import DoctorReport as DoctorReport
    from pfgdata.taggers.doctor import Finding as Finding
    from pfgdata.taggers.doctor import diagnose as diagnose
    from pfgdata.taggers.onnx import OnnxTagger as OnnxTagger
    from pfgdata.taggers.probe import choose_batch_size as choose_batch_size

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
