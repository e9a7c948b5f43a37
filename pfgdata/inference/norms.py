"""The LayerNorm of Keras as tf2onnx writes it: a BatchNormalization over tokens, whose mean comes first.

Keras hands its norm to TensorFlow's fused batch norm where epsilon is large (0.001, its default), the tokens
in the place of channels. onnxruntime's own optimizer has no such pattern, and stops at an epsilon of 0.0001.

Shapes: C what is normalized over, the last axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.inference.shapes import Known
from pfgdata.inference.walk import Nodes, Walk

__all__ = ["fuse_batch_norms"]

_AXES = [0, 2, 3]  # of [1, tokens, C, 1]


@dataclass(slots=True)
class _Norm:
    """A LayerNorm: the numbers it takes, the tensor that it makes."""

    source: str
    width: int
    epsilon: float
    target: str
    gain: npt.NDArray[Any]
    shift: npt.NDArray[Any]


def fuse_batch_norms(model: Any, facts: Known) -> int:
    """Put a LayerNormalization into the place of each such norm of `model`, in place; how many.

    `facts` are of `model` with its shapes written down. What nothing asks for any more stays, to be pruned.
    """
    walk = Walk(model.graph, facts)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    norms = [
        norm for node in model.graph.node if (norm := _norm(walk, node)) and _take_in(walk, norm, stored)
    ]
    walk.put({norm.target: _nodes(walk, norm) for norm in norms})
    return len(norms)


def _norm(walk: Walk, node: Any) -> _Norm | None:
    """The norm that `node` is; None of any other node."""
    if node.op_type != "BatchNormalization" or len(node.input) != 5:
        return None
    source, gain, shift, mean, variance = node.input
    shape = walk.facts.shapes.get(source, ())
    if (
        len(shape) != 4
        or (shape[0], shape[3]) != (1, 1)
        or (_filled(walk, gain), _filled(walk, shift)) != (1, 0)
    ):
        return None
    width = shape[2]
    if not (_is_mean(walk, mean, source) and _is_variance(walk, variance, source, width)):
        return None
    epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
    ones = np.ones(width, np.float32)
    return _Norm(source, width, epsilon, node.output[0], ones, np.zeros_like(ones))


def _filled(walk: Walk, name: str) -> float | None:
    """The one number that `name` is full of, as far as that is plain."""
    maker = walk.makers.get(name)
    if maker is not None and maker.op_type == "Expand":
        return walk.facts.scalar(maker.input[0])
    value = walk.facts.values.get(name)
    return float(value.flat[0]) if value is not None and np.ptp(value) == 0 else None


def _is_mean(walk: Walk, name: str, source: str) -> bool:
    """Whether `name` is the mean of `source` over all axes but the second."""
    chain = walk.up(name)
    node = walk.makers.get(chain.root) if chain else None
    return node is not None and node.op_type == "ReduceMean" and _reduces(walk, node, source)


def _is_variance(walk: Walk, name: str, source: str, width: int) -> bool:
    """Whether `name` is the mean over the same axes of the squared distance of `source` from its mean."""
    node = walk.makers.get(name)
    if node is None or node.op_type != "Div" or walk.facts.scalar(node.input[1]) != width:
        return False
    summed = walk.makers.get(node.input[0])
    if summed is None or summed.op_type != "ReduceSumSquare":
        return False
    centred = walk.makers.get(summed.input[0])
    return (
        centred is not None
        and centred.op_type == "Sub"
        and centred.input[0] == source
        and _reduces(walk, summed, summed.input[0])
        and _is_mean(walk, centred.input[1], source)
    )


def _reduces(walk: Walk, node: Any, source: str) -> bool:
    axes = next((list(one.ints) for one in node.attribute if one.name == "axes"), None)
    if axes is None and len(node.input) > 1 and node.input[1] in walk.facts.values:
        axes = walk.facts.values[node.input[1]].tolist()
    return node.input[0] == source and axes is not None and sorted(axis % 4 for axis in axes) == _AXES


def _take_in(walk: Walk, norm: _Norm, stored: dict[str, Any]) -> _Norm:
    """`norm` with the gain and the shift that follow it, where there are any."""
    from onnx import numpy_helper

    rows = walk.facts.shapes[norm.target]
    name = norm.target
    for kind in ("Mul", "Add"):
        while (taker := walk.only_taker(name)) is not None and taker.op_type == "Reshape":
            name = taker.output[0]
        if taker is None or taker.op_type != kind or walk.facts.shapes.get(name, ())[-1:] != (norm.width,):
            continue
        other = next((one for one in taker.input if one != name), "")
        if (
            other not in stored
            or prod(stored[other].dims) != norm.width
            or stored[other].dims[-1] != norm.width
        ):
            continue
        value = numpy_helper.to_array(stored[other]).ravel()
        norm.gain, norm.shift = (value, norm.shift) if kind == "Mul" else (norm.gain, value)
        norm.target = name = taker.output[0]
    assert prod(walk.facts.shapes[norm.target]) == prod(rows)
    return norm


def _nodes(walk: Walk, norm: _Norm) -> list[Any]:
    """The nodes that make what `norm` makes."""
    nodes, name = Nodes(walk.graph), norm.target
    rows = nodes.reshape(norm.source, [-1, norm.width], f"{name}_pfg_rows")
    inputs = [
        rows,
        nodes.store(f"{name}_pfg_gain", norm.gain),
        nodes.store(f"{name}_pfg_shift", norm.shift),
    ]
    words = {"axis": -1, "epsilon": norm.epsilon}
    normal = nodes.add("LayerNormalization", inputs, f"{name}_pfg_normal", **words)
    nodes.reshape(normal, walk.open_shape(name), name)
    return nodes.made
