"""What the tensors of a graph are once the batch is known: their shapes, and the values of the small ones.

Exporters compute shapes in the graph, from the batch, at every run (tf2onnx: 200 such nodes in a ViT of two
blocks). Here they are computed once, for two batches: what differs is the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Known", "known", "write_down_shapes"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

_SMALL = 64  # numbers: a shape, a scale, an axis; no weight
_BATCHES = (2, 3)


@dataclass(frozen=True, slots=True)
class Known:
    """Shapes by name, at a batch of `batch`, and the values of small tensors that no image changes."""

    batch: int
    shapes: Mapping[str, Shape]
    values: Mapping[str, Array]
    kinds: Mapping[str, int]  # TensorProto's numbers of dtypes

    def scalar(self, name: str) -> float | None:
        """The value of a tensor of one number; None of any other."""
        value = self.values.get(name)
        return float(value.ravel()[0]) if value is not None and value.size == 1 else None


def known(model: Any, *, batch: int, side: int) -> Known:
    """What is known of `model` at a batch of `batch` images of `side` pixels."""
    return _Evaluator(model, batch, side).run()


def write_down_shapes(model: Any, *, side: int) -> Known:
    """Write the shape that each Reshape gives into it, in place, the batch as -1; and what is known then.

    One that depends on the batch in two axes stays as it is.
    """
    from onnx import numpy_helper

    small, large = (known(model, batch=batch, side=side) for batch in _BATCHES)
    stored = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] in stored:
            continue
        one, other = (facts.shapes.get(node.output[0]) for facts in (small, large))
        if one is None or other is None or len(one) != len(other):
            continue
        axes = [-1 if a != b else a for a, b in zip(one, other, strict=True)]
        if axes.count(-1) > 1 or 0 in axes:
            continue
        name = "pfg_shape_" + "_".join(map(str, axes))
        if name not in stored:
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
            stored.add(name)
        node.input[1] = name
    return large


class _Evaluator:
    def __init__(self, model: Any, batch: int, side: int) -> None:
        self._graph, self._batch, self._side = model.graph, batch, side
        self._opsets = list(model.opset_import)
        self._versions = {one.domain: one.version for one in model.opset_import}
        self._types: dict[str, Any] = {}
        self._values: dict[str, Array] = {}

    def run(self) -> Known:
        from onnx import helper, numpy_helper

        for tensor in self._graph.initializer:
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            if np.prod(tensor.dims, dtype=np.int64) <= _SMALL:
                self._values[tensor.name] = numpy_helper.to_array(tensor)
        for value in self._graph.input:
            if value.name not in self._types:
                self._types[value.name] = self._image(value)
        for node in self._graph.node:
            if not self._evaluate(node):
                self._infer(node)
        shapes = {name: shape for name, kind in self._types.items() if (shape := _shape(kind)) is not None}
        kinds = {name: kind.tensor_type.elem_type for name, kind in self._types.items()}
        return Known(self._batch, shapes, self._values, kinds)

    def _image(self, value: Any) -> Any:
        """The type of an input whose first axis is the batch, its open axes the side."""
        from onnx import helper

        tensor = value.type.tensor_type
        axes = [axis.dim_value if axis.dim_value > 0 else self._side for axis in tensor.shape.dim]
        return helper.make_tensor_type_proto(tensor.elem_type, [self._batch, *axes[1:]])

    def _evaluate(self, node: Any) -> bool:
        """Compute what `node` gives, if that is small and no image changes it."""
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        if node.op_type == "Shape":
            shape = _shape(self._types.get(node.input[0]))
            words = {one.name: one.i for one in node.attribute}
            found = (
                None if shape is None else [np.array(shape[words.get("start") : words.get("end")], np.int64)]
            )
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            found = [numpy_helper.to_array(node.attribute[0].t)]
        elif node.domain or not all(name in self._values for name in node.input if name):
            return False
        else:
            try:
                given = {name: self._values[name] for name in node.input if name}
                found = ReferenceEvaluator(node, opsets=self._versions).run(None, given)
            except Exception:  # of an operator that onnx's reference does not have: then it is unknown
                return False
        if found is None:
            return False
        for name, value in zip(node.output, found, strict=False):
            value = np.asarray(value)
            self._types[name] = helper.make_tensor_type_proto(
                helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            if value.size <= _SMALL:
                self._values[name] = value
        return True

    def _infer(self, node: Any) -> None:
        """The types of what `node` gives, where onnx knows the operator and all its inputs."""
        from onnx import defs, numpy_helper, shape_inference

        if not all(name in self._types for name in node.input if name):
            return
        try:
            schema = defs.get_schema(node.op_type, self._versions.get(node.domain, 1), node.domain)
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self._types[name] for name in node.input if name},
                {
                    name: numpy_helper.from_array(self._values[name], name)
                    for name in node.input
                    if name in self._values
                },
                opset_imports=self._opsets,
            )
        except Exception:  # an operator of onnxruntime's own, or one that onnx cannot follow
            return
        self._types.update(found)


def _shape(kind: Any) -> Shape | None:
    """The shape of a type, where all its axes are known."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    axes = kind.tensor_type.shape.dim
    if not all(axis.HasField("dim_value") for axis in axes):
        return None
    return tuple(axis.dim_value for axis in axes)
