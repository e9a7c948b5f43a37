"""Guide images to pictures: the model of a run or of published weights, its pipeline, and its files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgtrain.generate.asked import adapter_model, base_of_run, run_model
    from pfgtrain.generate.guides import generate
    from pfgtrain.generate.job import CheckpointJob, GenerateJob, ModelJob, PictureJob
    from pfgtrain.generate.model import PUBLISHED_PREPROCESS, PFGModel, load_adapter_on_base, load_run
    from pfgtrain.generate.options import GenerateOptions, PictureFields
    from pfgtrain.generate.pictures import (
        GenerateReport,
        Picture,
        cell_size,
        contact_sheet,
        thumbnail,
        without_folders,
        write_png,
    )
    from pfgtrain.generate.pipeline import PFGPipeline, Scene, paint, pipeline_of

__all__ = [
    "PUBLISHED_PREPROCESS",
    "CheckpointJob",
    "GenerateJob",
    "GenerateOptions",
    "GenerateReport",
    "ModelJob",
    "PFGModel",
    "PFGPipeline",
    "Picture",
    "PictureFields",
    "PictureJob",
    "Scene",
    "adapter_model",
    "base_of_run",
    "cell_size",
    "contact_sheet",
    "generate",
    "load_adapter_on_base",
    "load_run",
    "paint",
    "pipeline_of",
    "run_model",
    "thumbnail",
    "without_folders",
    "write_png",
]

_LAZY = {
    "adapter_model": "pfgtrain.generate.asked",
    "base_of_run": "pfgtrain.generate.asked",
    "run_model": "pfgtrain.generate.asked",
    "CheckpointJob": "pfgtrain.generate.job",
    "GenerateJob": "pfgtrain.generate.job",
    "ModelJob": "pfgtrain.generate.job",
    "PictureJob": "pfgtrain.generate.job",
    "PUBLISHED_PREPROCESS": "pfgtrain.generate.model",
    "GenerateOptions": "pfgtrain.generate.options",
    "PictureFields": "pfgtrain.generate.options",
    "GenerateReport": "pfgtrain.generate.pictures",
    "PFGModel": "pfgtrain.generate.model",
    "PFGPipeline": "pfgtrain.generate.pipeline",
    "Picture": "pfgtrain.generate.pictures",
    "Scene": "pfgtrain.generate.pipeline",
    "cell_size": "pfgtrain.generate.pictures",
    "contact_sheet": "pfgtrain.generate.pictures",
    "generate": "pfgtrain.generate.guides",
    "load_adapter_on_base": "pfgtrain.generate.model",
    "load_run": "pfgtrain.generate.model",
    "paint": "pfgtrain.generate.pipeline",
    "pipeline_of": "pfgtrain.generate.pipeline",
    "thumbnail": "pfgtrain.generate.pictures",
    "without_folders": "pfgtrain.generate.pictures",
    "write_png": "pfgtrain.generate.pictures",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
