"""Stored latents and features to a model that follows features: the plan, the steps, the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.fit.data import FitData, base_of, data_of
    from pfgtrain.fit.plan import FitPlan, plan_fit
    from pfgtrain.fit.run import FitReport, fit
    from pfgtrain.fit.trainer import Trainer, make_accelerator

__all__ = [
    "FitData",
    "FitPlan",
    "FitReport",
    "Trainer",
    "base_of",
    "data_of",
    "fit",
    "make_accelerator",
    "plan_fit",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
