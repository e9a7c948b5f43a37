"""Guide fidelity: how far a run's pictures show the character of the guide, beside rows that bound it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgtrain.evaluate.guides import Guide, guides_of_folder, guides_of_selection
    from pfgtrain.evaluate.job import EvaluateJob
    from pfgtrain.evaluate.options import EvaluateOptions
    from pfgtrain.evaluate.report import (
        EvaluateReport,
        Figure,
        Retrieval,
        RowReport,
        Trial,
        Tuning,
        ViewerReport,
    )
    from pfgtrain.evaluate.run import evaluate, require_possible
    from pfgtrain.evaluate.setup import EvaluateSetup, guides_of_job, judge_of_job, tuned
    from pfgtrain.evaluate.tables import Table, report_tables, verdict
    from pfgtrain.evaluate.training import TrainingImages, training_images
    from pfgtrain.evaluate.tuning import tune

__all__ = [
    "EvaluateJob",
    "EvaluateOptions",
    "EvaluateReport",
    "EvaluateSetup",
    "Figure",
    "Guide",
    "Retrieval",
    "RowReport",
    "Table",
    "TrainingImages",
    "Trial",
    "Tuning",
    "ViewerReport",
    "evaluate",
    "guides_of_folder",
    "guides_of_job",
    "guides_of_selection",
    "judge_of_job",
    "report_tables",
    "require_possible",
    "training_images",
    "tune",
    "tuned",
    "verdict",
]

_LAZY = {
    "EvaluateJob": "pfgtrain.evaluate.job",
    "EvaluateOptions": "pfgtrain.evaluate.options",
    "EvaluateReport": "pfgtrain.evaluate.report",
    "EvaluateSetup": "pfgtrain.evaluate.setup",
    "Figure": "pfgtrain.evaluate.report",
    "Guide": "pfgtrain.evaluate.guides",
    "Retrieval": "pfgtrain.evaluate.report",
    "RowReport": "pfgtrain.evaluate.report",
    "Table": "pfgtrain.evaluate.tables",
    "TrainingImages": "pfgtrain.evaluate.training",
    "Trial": "pfgtrain.evaluate.report",
    "Tuning": "pfgtrain.evaluate.report",
    "ViewerReport": "pfgtrain.evaluate.report",
    "evaluate": "pfgtrain.evaluate.run",
    "guides_of_folder": "pfgtrain.evaluate.guides",
    "guides_of_job": "pfgtrain.evaluate.setup",
    "guides_of_selection": "pfgtrain.evaluate.guides",
    "judge_of_job": "pfgtrain.evaluate.setup",
    "report_tables": "pfgtrain.evaluate.tables",
    "require_possible": "pfgtrain.evaluate.run",
    "training_images": "pfgtrain.evaluate.training",
    "tune": "pfgtrain.evaluate.tuning",
    "tuned": "pfgtrain.evaluate.setup",
    "verdict": "pfgtrain.evaluate.tables",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
