"""Guide images to pictures: the model of a run or of published weights, its pipeline, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.generate.asked import adapter_model, base_of_run, run_model
    from pfgtrain.generate.beside import document_of
    from pfgtrain.generate.command import command_words
    from pfgtrain.generate.guides import generate
    from pfgtrain.generate.job import PICTURE_FLAGS, CheckpointJob, GenerateJob, ModelJob, PictureJob
    from pfgtrain.generate.load import PUBLISHED_PREPROCESS, load_adapter_on_base, load_run
    from pfgtrain.generate.memory import room_for, short_memory
    from pfgtrain.generate.model import PFGModel
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
    "PICTURE_FLAGS",
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
    "command_words",
    "contact_sheet",
    "document_of",
    "generate",
    "load_adapter_on_base",
    "load_run",
    "paint",
    "pipeline_of",
    "room_for",
    "run_model",
    "short_memory",
    "thumbnail",
    "without_folders",
    "write_png",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
