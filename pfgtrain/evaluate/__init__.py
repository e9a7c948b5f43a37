"""Guide fidelity: how far a run's pictures show the character of the guide, beside rows that bound it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

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
    from pfgtrain.evaluate.setup import (
        LARGE_GALLERY,
        EvaluateSetup,
        gallery_of_job,
        guides_of_job,
        judge_of_job,
        large_gallery,
        tuned,
    )
    from pfgtrain.evaluate.tables import Table, report_tables, verdict
    from pfgtrain.evaluate.training import TrainingImages, training_images
    from pfgtrain.evaluate.tuning import tune

__all__ = [
    "LARGE_GALLERY",
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
    "gallery_of_job",
    "guides_of_folder",
    "guides_of_job",
    "guides_of_selection",
    "judge_of_job",
    "large_gallery",
    "report_tables",
    "require_possible",
    "training_images",
    "tune",
    "tuned",
    "verdict",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
