"""A model file in ONNX, parsed with all its weights, and one more output of its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfgdata.errors import GraphError

__all__ = ["OpenedModel", "expose", "open_model"]

_LARGEST = 2**31 - 1  # bytes of a serialised model: protobuf's limit


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model file, parsed; surgery changes `proto`."""

    path: Path
    proto: Any
    external: tuple[Path, ...]


def open_model(path: Path) -> OpenedModel:
    """Parse the model at `path` with all its weights. Raises GraphError."""
    model = _parsed(path)
    return OpenedModel(path, model, _take_in_external(model, path))


def expose(model: Any, name: str, *, half: bool) -> None:
    """Make the tensor `name`, computed in float16 or float32, an output of `model`, in place."""
    from onnx import TensorProto

    if name not in [value.name for value in model.graph.output]:
        output = model.graph.output.add(name=name)
        output.type.tensor_type.elem_type = TensorProto.FLOAT16 if half else TensorProto.FLOAT


def _parsed(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as problem:
        raise GraphError(f"{path} is no ONNX model ({problem}); fetch it again") from problem
    return model


def _take_in_external(model: Any, path: Path) -> tuple[Path, ...]:
    """Read weights that lie in files beside the model into it; those files, sorted.

    onnxruntime itself refuses links that lead out of the folder, and Hugging Face's cache has such links.
    """
    files = set()
    size = path.stat().st_size
    for tensor in model.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location = Path(entry["location"])
        if location.is_absolute() or ".." in location.parts or not (path.parent / location).is_file():
            raise GraphError(f"{path} needs {location} beside it, with its weights; fetch that file too")
        files.add(path.parent / location)
        with (path.parent / location).open("rb") as file:
            file.seek(int(entry.get("offset", 0)))
            length = int(entry.get("length", -1))
            tensor.raw_data = file.read(length)
        if len(tensor.raw_data) < length:
            raise GraphError(f"{path.parent / location} is cut short; fetch it again")
        size += len(tensor.raw_data)
        if size > _LARGEST:
            raise GraphError(f"{path}: with its weights it is over 2 GiB, which is not supported")
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]
    return tuple(sorted(files))
