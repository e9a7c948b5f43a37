"""A name to an extractor: one of the catalog, a hub id, a folder of transformers or of model.onnx, a file."""

from __future__ import annotations

from dataclasses import replace

from pfgdata.conventions import Convention
from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.extractors.catalog import EXTRACTORS, Extractor, repository
from pfgdata.extractors.onnx import OnnxExtractor
from pfgdata.extractors.vision import VisionExtractor, model_type
from pfgdata.hub import Resolved, resolve
from pfgdata.inference import Precision

__all__ = ["load_extractor"]


def load_extractor(
    name: str,
    *,
    node: str | None = None,
    convention: Convention | str | None = None,
    revision: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> Extractor:
    """Load an extractor by catalog name, hub id, folder or .onnx file.

    `node` is the tensor that is the feature: by default the catalog's, of a model of transformers what its
    authors compare images by, of a graph its only output. `convention` (or the text of one on record) is how
    it takes pictures, by default what the files beside it say. `device` is auto, cpu, cuda, cuda:1. Raises
    ModelNotFoundError, GraphError, ModelError (nobody states a convention, no such node or device).
    """
    how = Convention.of(convention) if isinstance(convention, str) else convention
    known = EXTRACTORS.get(name)
    node = node or (known.node if known else None)
    found = _found(name, revision)
    if found.file is None and model_type(found.folder) and not (found.folder / "model.onnx").is_file():
        return VisionExtractor.load(found, node=node, convention=how, device=device, precision=precision)
    path = found.file or found.folder / "model.onnx"
    if not path.is_file():
        raise ModelNotFoundError(
            f"{path} is missing; an extractor is a folder of transformers (config.json, model.safetensors) or"
            " of model.onnx, or an .onnx file"
        )
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: is no .onnx file; name the folder of a model of transformers")
    return OnnxExtractor.load(found, node=node, convention=how, device=device, precision=precision)


def _found(name: str, revision: str | None) -> Resolved:
    """Where the model stands; one of the catalog under its name there."""
    asked = repository(name)
    found = resolve(asked, what="extractor", revision=revision)
    if found.revision and found.file is None and not (found.folder / "config.json").is_file():
        found = resolve(asked, what="graph", revision=revision)
    return replace(found, name=name) if found.revision else found
