"""Where in a tagger's graph the feature is: the input of the last dense layer before the scores' sigmoid.

No table of node names: TensorFlow, timm and converters name things differently. What is found is proven by
`verify`: sigmoid(W f + b) must give the scores. Where a graph ends in logits, it is given the sigmoid first.

Shapes: B images, F feature width, V tags.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import WD, Convention
from pfgdata.errors import GraphError
from pfgdata.inference import (
    Fused,
    ImageInput,
    OpenedModel,
    Precision,
    expose,
    fuse,
    give_scores,
    image_input,
    image_side,
    take_bytes,
    to_float16,
)
from pfgdata.taggers.stated import Graph

__all__ = ["TaggerGraph", "graph_facts", "read_graph", "same_scores", "verify"]


Array = npt.NDArray[Any]

# What may stand between the sigmoid and its dense layer: it changes no value, and `verify` checks the order.
_RESHAPING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
# Largest error allowed in a logit, and the rounding of a score. A wrong node is off by whole units. float32
# has room for TF32 products on a GPU (10 bits: about 2e-3 here), float16 for sums kept in float16.
_TOLERANCE = {False: (2e-2, 1e-5), True: (1e-1, 1e-3)}  # by TaggerGraph.half


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerGraph:
    """A graph as bytes that takes images as bytes and gives the feature too, and what was found in it."""

    model: bytes
    image: ImageInput
    scores: str  # output: sigmoid scores [B, V]
    feature: str  # output: feature [B, F], also with more axes of size 1
    weight: Array  # [F, V], as the graph computes with
    bias: Array  # [V]
    half: bool  # computed in float16
    fused: Fused
    external: tuple[Path, ...]  # files beside the model that hold its larger weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dense:
    feature: str
    weight: Array
    bias: Array
    half: bool


def graph_facts(model: OpenedModel) -> Graph:
    """What the graph says of itself. Raises GraphError where it takes no images."""
    image = image_input(model.proto, model.path)
    return Graph(
        layout="NCHW" if image.channels_first else "NHWC",
        size=image.size,
        has_scores=bool(_Reader(model.proto.graph, model.path).sigmoids()),
    )


def read_graph(
    opened: OpenedModel,
    *,
    num_tags: int,
    convention: Convention = WD,
    precision: Precision = "float32",
    fused: bool = False,
) -> TaggerGraph:
    """Find scores, feature and last dense layer of a model. Raises GraphError.

    Of several outputs (files published with embeddings have two) the scores are the one a sigmoid makes, or
    by a convention of logits the one a dense layer makes, of `num_tags` columns where the file says how many.
    `precision` float16 converts a graph in float32; `fused` lets `fuse` change one.
    """
    model, path = opened.proto, opened.path
    reader = _Reader(model.graph, path)
    labels = convention.labels.file
    if convention.output == "logits":
        give_scores(model, reader.logits(num_tags, labels))
        reader = _Reader(model.graph, path)
    scores, sigmoid = reader.scores(num_tags, labels)
    dense = reader.dense_before(sigmoid)
    expose(model, dense.feature, half=dense.half)
    done = fuse(model, side=image_side(model, path, convention)) if fused and not dense.half else Fused()
    if precision == "float16" and not dense.half:
        model = to_float16(model)
        reader = _Reader(model.graph, path)
        dense = replace(reader.dense_before(reader.scores(num_tags, labels)[1]), feature=dense.feature)
    image = take_bytes(model, path, convention)
    return TaggerGraph(
        model=model.SerializeToString(),
        image=image,
        scores=scores,
        feature=dense.feature,
        weight=dense.weight,
        bias=dense.bias,
        half=dense.half,
        fused=done,
        external=opened.external,
    )


def verify(graph: TaggerGraph, *, scores_BV: Array, features_BF: Array, where: Path) -> None:
    """Raise GraphError unless sigmoid(W f + b) gives the scores, within the rounding of the graph's dtype.

    Errors are compared as errors of logits: near 0, where most scores are, a wrong node would hide otherwise.
    """
    scores = scores_BV.astype(np.float64)
    if features_BF.ndim != 2 or features_BF.shape[1] != graph.weight.shape[0]:
        raise GraphError(
            f"{where}: {graph.feature} has shape {features_BF.shape}, the last dense layer takes"
            f" {graph.weight.shape[0]} values an image; this graph is not supported"
        )
    logits = features_BF.astype(np.float64) @ graph.weight + graph.bias
    computed = 1 / (1 + np.exp(-logits))
    if computed.shape != scores.shape:
        raise GraphError(
            f"{where}: the last dense layer makes {computed.shape[1]} scores, not {scores.shape[1]}"
        )
    worst = _beyond(computed, scores, half=graph.half)
    if not np.all(worst <= 0):
        other = "float32 or another model file" if graph.half else "another model file"
        row, tag = np.unravel_index(np.argmax(np.nan_to_num(worst, nan=np.inf)), worst.shape)
        raise GraphError(
            f"{where}: sigmoid(W f + b) of {graph.feature} gives {computed[row, tag]:.6f} for tag {tag}, the"
            f" model {scores[row, tag]:.6f}; its feature cannot be trusted, use {other}"
        )


def same_scores(ours: Array, theirs: Array, *, half: bool) -> bool:
    """Whether two graphs of one tagger give the same scores [B, V], within the rounding of their dtype."""
    return bool(np.all(_beyond(ours.astype(np.float64), theirs.astype(np.float64), half=half) <= 0))


def _beyond(ours: Array, theirs: Array, *, half: bool) -> Array:
    """How far scores are apart beyond what an error of the logit and the rounding of a score explain."""
    logit_error, rounding = _TOLERANCE[half]
    allowed = logit_error * np.maximum(theirs * (1 - theirs), 1e-4) + rounding * theirs
    return np.abs(ours - theirs) - allowed


class _Reader:
    """Walks one graph from its outputs upwards."""

    def __init__(self, graph: Any, path: Path) -> None:
        self._graph = graph
        self._path = path
        self._maker = {output: node for node in graph.node for output in node.output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}

    def sigmoids(self) -> list[tuple[Any, Any]]:
        """Each output that a Sigmoid makes, and that node."""
        found = [(value, self._source(value.name)) for value in self._graph.output]
        return [(value, node) for value, node in found if node is not None and node.op_type == "Sigmoid"]

    def logits(self, num_tags: int, labels: str) -> Any:
        """The output of `num_tags` columns, where the file says how many, that a dense layer makes."""
        fitting = [value for value in self._graph.output if _width(value) in (num_tags, None)]
        if not fitting:
            self._refuse_labels(list(self._graph.output), num_tags, labels)
        made = [value for value in fitting if self._dense_making(value.name)[0] is not None]
        if not made:
            outputs = ", ".join(f"{value.name} of {_width(value) or '?'}" for value in self._graph.output)
            raise GraphError(
                f"{self._path}: no output ({outputs}) is made by a dense layer (MatMul or Gemm with stored"
                f" weights) of {num_tags} tags; a head without W f + b (one query a tag) is not supported"
            )
        return made[0]

    def scores(self, num_tags: int, labels: str) -> tuple[str, Any]:
        """The name of the output with the scores of the tags in `labels`, and the Sigmoid that makes it."""
        made = self.sigmoids()
        if not made:
            names = ", ".join(value.name for value in self._graph.output)
            raise GraphError(
                f"{self._path}: no output ({names}) comes from a sigmoid; if the tagger gives logits, a"
                " convention says so (docs/taggers.md); another kind of model is not supported"
            )
        fitting = [(value, node) for value, node in made if _width(value) in (num_tags, None)]
        if not fitting:
            self._refuse_labels([value for value, _ in made], num_tags, labels)
        value, node = fitting[0]
        return value.name, node

    def _refuse_labels(self, outputs: list[Any], num_tags: int, labels: str) -> NoReturn:
        widths = ", ".join(str(_width(value)) for value in outputs)
        raise GraphError(
            f"{self._path} gives {widths} scores, {labels} names {num_tags} tags;"
            " take both files from the same model"
        )

    def dense_before(self, sigmoid: Any) -> _Dense:
        """The dense layer whose result `sigmoid` takes: Gemm, or MatMul with or without Add."""
        dense, node = self._dense_making(sigmoid.input[0])
        if dense is None:
            kind = node.op_type if node is not None else "the input"
            raise GraphError(
                f"{self._path}: before its sigmoid stands {kind}, no dense layer (MatMul or Gemm with stored"
                " weights); this graph is not supported"
            )
        return dense

    def _dense_making(self, name: str) -> tuple[_Dense | None, Any]:
        """The dense layer that makes the tensor `name`, and the node where it should stand."""
        node = self._source(name)
        bias: Array | None = None
        if node is not None and node.op_type == "Add":
            sides = [(self.constant(name), other) for name, other in (node.input, reversed(node.input))]
            bias, summed = next(((b, other) for b, other in sides if b is not None), (None, node.input[0]))
            node = self._source(summed)
        dense = self._dense(node) if node is not None else None
        if dense is None:
            return None, node
        total = dense.bias + (0 if bias is None else bias.astype(np.float64).ravel())
        return replace(dense, bias=total), node

    def _dense(self, node: Any) -> _Dense | None:
        """What a MatMul or Gemm multiplies, in float64; None if `node` is neither."""
        if node.op_type not in ("MatMul", "Gemm") or (weight := self.constant(node.input[1])) is None:
            return None
        attributes = {attribute.name: attribute for attribute in node.attribute}
        half, weight, bias = weight.dtype == np.float16, weight.astype(np.float64), np.zeros(1)
        if node.op_type == "Gemm":
            if "transA" in attributes and attributes["transA"].i:
                return None
            if "transB" in attributes and attributes["transB"].i:
                weight = weight.T
            weight = weight * (attributes["alpha"].f if "alpha" in attributes else 1.0)
            if len(node.input) > 2 and node.input[2]:
                stored = self.constant(node.input[2])
                if stored is None:
                    return None
                bias = stored.astype(np.float64).ravel() * (
                    attributes["beta"].f if "beta" in attributes else 1.0
                )
        if weight.ndim != 2:
            return None
        return _Dense(feature=node.input[0], weight=weight, bias=bias, half=half)

    def constant(self, name: str) -> Array | None:
        """The value of a tensor that is stored, or made of a stored one by Cast, Transpose and the like."""
        from onnx import numpy_helper

        if name in self._stored:
            return numpy_helper.to_array(self._stored[name])
        node = self._maker.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            return numpy_helper.to_array(node.attribute[0].t)
        apply = _APPLIED.get(node.op_type)
        value = self.constant(node.input[0]) if apply else None
        return None if value is None or apply is None else apply(value, node)

    def _source(self, name: str) -> Any | None:
        """The node that computes `name`, seen through what only reshapes or casts; None at an input."""
        node = self._maker.get(name)
        while node is not None and node.op_type in _RESHAPING:
            node = self._maker.get(node.input[0])
        return node


def _cast(value: Array, node: Any) -> Array:
    from onnx import helper

    return value.astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))


def _transposed(value: Array, node: Any) -> Array:
    return value.transpose(node.attribute[0].ints if node.attribute else None)


_APPLIED: dict[str, Callable[[Array, Any], Array]] = {
    "Cast": _cast,
    "Identity": lambda value, node: value,
    "Transpose": _transposed,
}


def _width(value: Any) -> int | None:
    """Size of the last axis of a graph output; None where the file does not say."""
    axes = value.type.tensor_type.shape.dim
    return axes[-1].dim_value if axes and axes[-1].dim_value > 0 else None
