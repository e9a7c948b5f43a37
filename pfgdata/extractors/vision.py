"""Extractors of transformers' own models, by their classes: no code of a repository is ever run.

AutoImageProcessor is not asked: today's processors import torchvision. What it would do stands in
preprocessor_config.json, and a Convention does it.

Shapes: B images, S side of the square, F width of a vector.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import Convention
from pfgdata.errors import ConfigError, ModelError, refused_by_system
from pfgdata.extractors.stated import Stated, stated
from pfgdata.hub import Resolved, weights_sha256
from pfgdata.images import DECODE_VERSION, square
from pfgdata.inference import BatchLimit, Precision, is_out_of_memory, json_in, one_line, run_in_parts
from pfgdata.records import ExtractorIdentity

__all__ = ["VisionExtractor", "model_type"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Of a model_type: transformers' classes, and the tensor that its authors compare images by."""

    model: str
    config: str
    node: str


_CLIP = _Kind(model="CLIPVisionModelWithProjection", config="CLIPVisionConfig", node="image_embeds")
_SIGLIP = _Kind(model="SiglipVisionModel", config="SiglipVisionConfig", node="pooler_output")
_KINDS: Mapping[str, _Kind] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,  # SigLIP 2 of one size too
    "siglip_vision_model": _SIGLIP,
    "dinov2": _Kind(model="Dinov2Model", config="Dinov2Config", node="pooler_output"),
    "dinov2_with_registers": _Kind(
        model="Dinov2WithRegistersModel", config="Dinov2WithRegistersConfig", node="pooler_output"
    ),
    "dinov3_vit": _Kind(model="DINOv3ViTModel", config="DINOv3ViTConfig", node="pooler_output"),
}
_DEVICE = re.compile(r"auto|cpu|(?P<kind>cuda|tensorrt)(?::(?P<number>\d+)(?:,\d+)*)?")
_OF_PEOPLE = (
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "_commit_hash",
)


def model_type(folder: Path) -> str | None:
    """The model_type that config.json in `folder` says; None where there is none. Raises ModelError."""
    record = _config(folder)
    return None if record is None else record.get("model_type")


class VisionExtractor:
    """A loaded model; see the protocol `Extractor`."""

    batch_size = None

    def __init__(
        self, model: Any, *, found: Resolved, how: Stated, identity: ExtractorIdentity, precision: Precision
    ) -> None:
        assert how.convention.size is not None
        self.name, self.revision, self.source = found.name, found.revision, how.source
        self.identity = identity
        self.feature_dim = identity.feature_dim
        self.image_size = how.convention.size
        self.precision = precision
        self._model = model
        self._convention = how.convention
        self._limit = BatchLimit()

    @classmethod
    def load(
        cls,
        found: Resolved,
        *,
        node: str | None,
        convention: Convention | None,
        device: str,
        precision: Precision,
    ) -> VisionExtractor:
        """The extractor of the model in a folder. Raises ModelError."""
        record = _config(found.folder) or {}
        kind = _KINDS.get(str(record.get("model_type")))
        if kind is None:
            raise _unknown(found.folder, record)
        how = stated(found.folder, convention)
        if how.convention.size is None:
            raise ModelError(f"{found.name}: its convention ({how.source}) says no size; add one")
        model = _loaded(found.folder, kind, record)
        home = _device(device)
        try:
            model = model.to(device=home, dtype=_dtype(precision))
        except RuntimeError as problem:
            raise _unfit(found.name, home, problem) from problem
        told = _of_model(record)
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        chosen = node or kind.node
        width = _width(model, chosen, how.convention, found.name)
        identity = ExtractorIdentity(
            weights_sha256=weights_sha256(*_weights(found.folder)),
            architecture=f"{kind.model} {digest[:16]}",
            node=chosen,
            preprocess=how.convention.text,
            decode=DECODE_VERSION,
            feature_dim=width,
        )
        return cls(model, found=found, how=how, identity=identity, precision=precision)

    @property
    def writer(self) -> dict[str, Any]:
        """Where it computes, and in what."""
        return {"device": str(self._model.device), "compute_dtype": self.precision}

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture as its convention has it, uint8 RGB [S, S, 3]."""
        return square(pixels, preprocess=self.identity.preprocess, size=self.image_size)

    def features(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """The vectors [B, F] of squares, uint8 RGB [B, S, S, 3].

        Where the device has no memory for B squares at once, they and all later ones go in smaller batches.
        Raises ModelError where it has none for one, or fails.
        """
        size = self.image_size
        if squares.dtype != np.uint8 or squares.shape[1:] != (size, size, 3):
            raise ValueError(f"squares are {squares.dtype} {squares.shape}, not uint8 [B, {size}, {size}, 3]")
        if not len(squares):
            return np.empty((0, self.feature_dim), np.float16)
        try:
            parts = run_in_parts(self._run, squares, limit=self._limit, out_of_memory=is_out_of_memory)
        except RuntimeError as problem:
            raise ModelError(f"{self._model.device} failed on a batch ({one_line(problem)})") from problem
        found = np.concatenate([vectors for (vectors,) in parts])
        with np.errstate(over="ignore"):  # the caller says which is infinite
            return found.astype(np.float16)

    def _run(self, squares: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32]]:
        return (_run(self._model, squares, self.identity.node, self._convention),)


def _run(
    model: Any, squares: npt.NDArray[np.uint8], node: str, convention: Convention
) -> npt.NDArray[np.float32]:
    """The tensor `node` of squares, as float32."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(squares)).to(model.device).permute(0, 3, 1, 2).float()
    if convention.channels == "BGR":
        x = x.flip(1)
    if convention.mean is not None and convention.std is not None:
        mean, std = (
            torch.tensor(values, device=x.device).view(1, 3, 1, 1)
            for values in (convention.mean, convention.std)
        )
        x = (x / 255 - mean) / std
    with torch.inference_mode():
        found = model(pixel_values=x.to(model.dtype))
    tensor = getattr(found, node)
    return np.asarray(tensor.float().cpu().numpy(), np.float32)


def _width(model: Any, node: str, convention: Convention, name: str) -> int:
    """How wide the vectors are, by trying. Raises ModelError."""
    import torch

    size = convention.size
    assert size is not None
    try:
        blank = torch.zeros((1, 3, size, size), device=model.device, dtype=model.dtype)
        with torch.inference_mode():
            outputs = model(pixel_values=blank)
    except (ValueError, RuntimeError) as problem:
        if is_out_of_memory(problem):
            raise _unfit(name, model.device, problem) from problem
        reason = " ".join(str(problem).split())
        raise ModelError(f"{name}: cannot take pictures of {size} x {size} ({reason[:200]})") from problem
    known = [key for key, value in outputs.items() if getattr(value, "ndim", 0) == 2]
    if node not in known:
        raise ModelError(f"{name}: has no vector {node}; it gives {', '.join(known) or 'none'}")
    return int(outputs[node].shape[1])


def _unfit(name: str, home: object, problem: Exception) -> ModelError:
    """What to raise where the model cannot be brought to a device, or see one picture there."""
    if is_out_of_memory(problem):
        return ModelError(
            f"{name}: {home} has no memory for it; stop what else runs there or use --device cpu"
        )
    return ModelError(f"{name}: {home} cannot run it ({one_line(problem)})")


def _loaded(folder: Path, kind: _Kind, record: Mapping[str, Any]) -> Any:
    """The model in `folder`, complete, frozen, float32 on the CPU. Raises ModelError."""
    import torch
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()  # this program has its own
    own = {key: value for key, value in _of_model(record).items() if key != "model_type"}
    try:
        config = getattr(transformers, kind.config).from_dict(own)
        model, info = getattr(transformers, kind.model).from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as problem:
        reason = " ".join(str(problem).split())
        why = refused_by_system(problem) or f"no {kind.model} that transformers can load: {reason[:300]}"
        raise ModelError(f"{folder}: {why}") from problem
    lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lacking:  # transformers would fill them with random numbers
        raise ModelError(
            f"{folder}: its weights lack {len(lacking)} tensors, {lacking[0]} first; fetch it again"
        )
    return model.eval().requires_grad_(False)


def _of_model(record: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of the part that looks at pictures."""
    inside = record.get("vision_config")
    told = dict(inside) if isinstance(inside, Mapping) else dict(record)
    if inside is not None and "projection_dim" in record:  # a CLIP's own, whatever its part says
        told["projection_dim"] = record["projection_dim"]
    return {key: value for key, value in told.items() if key not in _OF_PEOPLE}


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        record = json_in(folder / "config.json")
    except (OSError, ValueError, RecursionError) as problem:
        reason = refused_by_system(problem) or f"cannot be read ({' '.join(str(problem).split())[:200]})"
        raise ModelError(f"{folder / 'config.json'}: {reason}; fetch it again") from problem
    return record if isinstance(record, dict) else None


def _unknown(folder: Path, record: Mapping[str, Any]) -> ModelError:
    kind = record.get("model_type")
    if kind == "siglip2":
        return ModelError(
            f"{folder}: SigLIP 2 of any shape (naflex) has no square; take a checkpoint of one size"
        )
    return ModelError(
        f"{folder}: no extractor: its model_type is {kind}; known are {', '.join(_KINDS)}; any other goes as"
        " model.onnx"
    )


def _weights(folder: Path) -> list[Path]:
    """The files that hold the weights, in order. Raises ModelError."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found
    raise ModelError(f"{folder}: no model.safetensors; fetch it again")


def _device(name: str) -> str:
    """torch's name of a device as onnxruntime's are asked for; of several GPUs the first. Raises PfgError."""
    import torch

    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ConfigError(f"no device {name!r}; it is auto, cpu, cuda or cuda:1")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, number = match["kind"], match["number"]
    if kind and not count:
        raise ModelError("no CUDA for torch here; install a CUDA build of torch, or use --device cpu")
    if int(number or 0) >= count and kind:
        raise ModelError(f"there is no GPU {number} here; torch sees {count}, from 0")
    if name == "cpu" or not count:
        return "cpu"
    return f"cuda:{number}" if number else "cuda"


def _dtype(precision: Precision) -> Any:
    import torch

    return torch.float16 if precision == "float16" else torch.float32
