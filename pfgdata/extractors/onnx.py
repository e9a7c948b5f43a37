"""An extractor in onnxruntime: any graph that takes one batch of images, and a named tensor in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import Convention
from pfgdata.errors import GraphError
from pfgdata.extractors.stated import stated
from pfgdata.hub import Resolved, weights_sha256
from pfgdata.images import DECODE_VERSION, square
from pfgdata.inference import (
    OpenedModel,
    Precision,
    Runner,
    devices_of,
    expose,
    image_input,
    open_model,
    session_errors,
    take_bytes,
    to_float16,
    unusable,
)
from pfgdata.records import ExtractorIdentity, did_you_mean, nearest

__all__ = ["OnnxExtractor"]

_WIDEST = 65_536  # numbers of a vector; a map of all patches is wider
_SHOWN = 8  # names of tensors in an error


class OnnxExtractor:
    """A loaded graph; see the protocol `Extractor`."""

    def __init__(
        self,
        *,
        found: Resolved,
        source: str,
        identity: ExtractorIdentity,
        runner: Runner,
        precision: Precision,
    ) -> None:
        self.name, self.revision, self.source = found.name, found.revision, source
        self.identity = identity
        self.feature_dim = identity.feature_dim
        self.image_size, self.batch_size = runner.image_size, runner.batch_size
        self.precision = precision
        self._runner = runner

    @classmethod
    def load(
        cls,
        found: Resolved,
        *,
        node: str | None,
        convention: Convention | None,
        device: str,
        precision: Precision,
    ) -> OnnxExtractor:
        """The extractor of a graph's tensor `node`, needed where the graph has several outputs.

        Raises GraphError, ModelError (nobody states a convention, no such device).
        """
        path = found.file or found.folder / "model.onnx"
        how = stated(found.folder, convention)
        opened = open_model(path)
        chosen = _chosen(opened, node)
        model = opened.proto
        if image_input(model, path, layout=how.convention.layout).half:
            precision = "float16"  # the file's own
            _expose_as_it_is(model, chosen)
        elif precision == "float16":
            expose(model, chosen, half=False)
            model = to_float16(model)
        else:
            _expose_as_it_is(model, chosen)
        image = take_bytes(model, path, how.convention)
        homes = devices_of(device)
        try:
            runner = Runner.open(
                model.SerializeToString(),
                homes,
                image=image,
                outputs=[chosen],
                threads=None,
                half=precision == "float16",
            )
            width = _width(runner, chosen, path)
        except session_errors() as problem:
            raise unusable(path, problem) from problem
        identity = ExtractorIdentity(
            weights_sha256=weights_sha256(path, *opened.external),
            architecture="onnx",
            node=chosen,
            preprocess=how.convention.text,
            decode=DECODE_VERSION,
            feature_dim=width,
        )
        return cls(found=found, source=how.source, identity=identity, runner=runner, precision=precision)

    @property
    def writer(self) -> dict[str, Any]:
        """The provider, its devices, what it computes in."""
        runner = self._runner
        return {
            "provider": runner.provider,
            "devices": list(runner.devices),
            "compute_dtype": self.precision,
        }

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture as its convention has it, uint8 RGB [S, S, 3]."""
        return square(pixels, preprocess=self.identity.preprocess, size=self.image_size)

    def features(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """The vectors [B, F] of squares, uint8 RGB [B, S, S, 3]."""
        if not len(squares):
            return np.empty((0, self.feature_dim), np.float16)
        (found,) = self._runner.predict(squares)
        with np.errstate(over="ignore"):  # the caller says which is infinite
            return found.astype(np.float16)


def _chosen(opened: OpenedModel, node: str | None) -> str:
    """The tensor to take. Raises GraphError where there is no such one, or several and none is named."""
    outputs = [value.name for value in opened.proto.graph.output]
    if node is None:
        if len(outputs) == 1:
            return outputs[0]
        raise GraphError(
            f"{opened.path}: gives {', '.join(outputs)}; say by --node which of its tensors is the feature"
        )
    made = [*outputs, *(name for one in opened.proto.graph.node for name in one.output if name)]
    if node in made:
        return node
    near = nearest(node, made)
    shown = ", ".join(outputs[:_SHOWN])
    raise GraphError(f"{opened.path}: no tensor {node}; {did_you_mean(near, f'its outputs are {shown}')}")


def _expose_as_it_is(model: Any, name: str) -> None:
    """Make the tensor `name` an output of `model` in its own type, which onnxruntime finds."""
    from onnx import ValueInfoProto

    if name not in [value.name for value in model.graph.output]:
        model.graph.output.append(ValueInfoProto(name=name))


def _width(runner: Runner, node: str, path: Path) -> int:
    """How wide the vectors are, by trying. Raises GraphError where they are none."""
    size = runner.image_size
    images = np.zeros((2, size, size, 3), np.uint8)
    ((found,), *_) = runner.predict_on_each(images)
    wide = runner.axes_of(node)
    if found.shape[1] > _WIDEST or wide > 1 or not np.issubdtype(found.dtype, np.floating):
        raise GraphError(
            f"{path}: {node} gives {found.shape[1]:,} numbers of {found.dtype} an image over {wide} axes,"
            " and no one vector; take a tensor behind its pooling"
        )
    return int(found.shape[1])
