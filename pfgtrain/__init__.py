"""pfgtrain: a feature store to a Prompt Free Generation model, and guide images to pictures.

What `import pfgtrain` offers, loaded when first asked for. The functions `fit`, `generate` and `evaluate`
stand in the modules of their names:

    from pfgdata import Store
    from pfgtrain import Base, FitConfig, data_of
    from pfgtrain.fit import fit
    data = data_of(Store.open(Path("feats")), FitConfig())
    report = fit(data, Base.load("demo"), FitConfig(max_train_steps=50), run_dir=Path("runs/a"))
"""

from __future__ import annotations

from pfgdata.lazy import lazy_imports

TYPE_CHECKING = False  # as typing has it, whose import takes as long as all else before Ctrl-C is ours

if TYPE_CHECKING:
    from pfgtrain.adapter import PFGLinear
    from pfgtrain.base import Base
    from pfgtrain.checkpoint import RunRecord
    from pfgtrain.config import FitConfig
    from pfgtrain.evaluate import EvaluateOptions, EvaluateReport, Guide
    from pfgtrain.fit import FitData, FitPlan, FitReport, data_of, plan_fit
    from pfgtrain.generate import (
        GenerateOptions,
        GenerateReport,
        PFGModel,
        PFGPipeline,
        load_adapter_on_base,
        load_run,
    )

__all__ = [
    "Base",
    "EvaluateOptions",
    "EvaluateReport",
    "FitConfig",
    "FitData",
    "FitPlan",
    "FitReport",
    "GenerateOptions",
    "GenerateReport",
    "Guide",
    "PFGLinear",
    "PFGModel",
    "PFGPipeline",
    "RunRecord",
    "data_of",
    "load_adapter_on_base",
    "load_run",
    "plan_fit",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
