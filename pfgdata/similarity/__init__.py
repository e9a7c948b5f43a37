"""Likeness: which images of a group are least alike, by their features."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.similarity.sampling import SampleOptions, SampleReport, balanced_sample

__all__ = ["SampleOptions", "SampleReport", "balanced_sample"]

_LAZY = {
    "SampleOptions": "pfgdata.similarity.sampling",
    "SampleReport": "pfgdata.similarity.sampling",
    "balanced_sample": "pfgdata.similarity.sampling",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
