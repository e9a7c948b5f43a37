"""A run to the files that other programs read: web UIs, diffusers, kohya's tools."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgtrain.export.plan import FORMATS, ExportOptions, ExportPlan, plan_export
    from pfgtrain.export.run import ExportReport, export

__all__ = ["FORMATS", "ExportOptions", "ExportPlan", "ExportReport", "export", "plan_export"]

_LAZY = {
    "FORMATS": "pfgtrain.export.plan",
    "ExportOptions": "pfgtrain.export.plan",
    "ExportPlan": "pfgtrain.export.plan",
    "ExportReport": "pfgtrain.export.run",
    "export": "pfgtrain.export.run",
    "plan_export": "pfgtrain.export.plan",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
