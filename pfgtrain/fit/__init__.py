"""Stored latents and features to a model that follows features: the plan, the steps, the run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgtrain.fit.data import FitData, Inputs, base_of, data_of
    from pfgtrain.fit.loop import FitReport
    from pfgtrain.fit.plan import FitPlan, plan_fit
    from pfgtrain.fit.run import fit, go_on
    from pfgtrain.fit.trainer import Trainer, make_accelerator

__all__ = [
    "FitData",
    "FitPlan",
    "FitReport",
    "Inputs",
    "Trainer",
    "base_of",
    "data_of",
    "fit",
    "go_on",
    "make_accelerator",
    "plan_fit",
]

_LAZY = {
    "FitData": "pfgtrain.fit.data",
    "FitPlan": "pfgtrain.fit.plan",
    "FitReport": "pfgtrain.fit.loop",
    "Inputs": "pfgtrain.fit.data",
    "Trainer": "pfgtrain.fit.trainer",
    "base_of": "pfgtrain.fit.data",
    "data_of": "pfgtrain.fit.data",
    "fit": "pfgtrain.fit.run",
    "go_on": "pfgtrain.fit.run",
    "make_accelerator": "pfgtrain.fit.trainer",
    "plan_fit": "pfgtrain.fit.plan",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
