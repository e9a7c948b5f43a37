"""A run to the files that other programs read: web UIs, diffusers, kohya's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.export.plan import FORMATS, ExportOptions, ExportPlan, plan_export
    from pfgtrain.export.run import ExportReport, export

__all__ = ["FORMATS", "ExportOptions", "ExportPlan", "ExportReport", "export", "plan_export"]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
