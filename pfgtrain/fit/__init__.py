"""Stored latents and features to a model that follows features: the plan, the steps, the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.fit.data import FitData, Inputs, base_of, data_of
    from pfgtrain.fit.forecast import Forecast, forecast_fit
    from pfgtrain.fit.loop import FitReport
    from pfgtrain.fit.plan import FitPlan, plan_fit
    from pfgtrain.fit.run import fit, go_on
    from pfgtrain.fit.timing import Timing, time_fit
    from pfgtrain.fit.trainer import Trainer, make_accelerator

__all__ = [
    "FitData",
    "FitPlan",
    "FitReport",
    "Forecast",
    "Inputs",
    "Timing",
    "Trainer",
    "base_of",
    "data_of",
    "fit",
    "forecast_fit",
    "go_on",
    "make_accelerator",
    "plan_fit",
    "time_fit",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
