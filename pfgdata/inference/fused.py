"""Attention, LayerNorm and GELU of a tagger as one operator each, computed in one pass over memory.

By onnxruntime's own optimizer where it knows what the exporter wrote, else by what the nodes do (`attention`,
`norms`). A graph in which nothing is found stays as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pfgdata.inference.attention import fuse_attention
from pfgdata.inference.norms import fuse_batch_norms
from pfgdata.inference.shapes import Known, write_down_shapes

__all__ = ["Fused", "fuse"]

_ATTENTION, _NORM, _GELU = "MultiHeadAttention", "LayerNormalization", "Gelu"
_OWN = "com.microsoft"  # onnxruntime's operators beyond ONNX


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """How many of each were put into the place of several nodes."""

    attention: int = 0
    layer_norm: int = 0
    gelu: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def __str__(self) -> str:
        names = {"attention": self.attention, "LayerNorm": self.layer_norm, "GELU": self.gelu}
        return ", ".join(f"{count} {name}" for name, count in names.items() if count) or "nothing"


def fuse(model: Any, *, side: int) -> Fused:
    """Fuse what can be in `model` (a ModelProto in float32, of images of `side` pixels), in place; what was.

    The numbers stay the same but for rounding. A caller proves it, and goes back to its file otherwise. Where
    nothing is found `model` stays as it was, for then nobody compares.
    """
    from onnx import helper
    from onnxruntime.transformers.fusion_gelu import FusionGelu
    from onnxruntime.transformers.fusion_layernorm import FusionLayerNormalization, FusionLayerNormalizationTF
    from onnxruntime.transformers.onnx_model import OnnxModel

    before, stored = _counts(model), len(model.graph.initializer)
    nodes = [node.SerializeToString() for node in model.graph.node]  # weights are not among them
    facts = write_down_shapes(model, side=side)
    fuse_attention(model, facts)
    fuse_batch_norms(model, facts)
    _divide_before_erf(model.graph)
    _mean_of_tokens(model, facts)
    wrapped = OnnxModel(model)
    for fusion in (FusionLayerNormalization, FusionLayerNormalizationTF, FusionGelu):
        fusion(wrapped).apply()
    after = _counts(model)
    found = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in (_ATTENTION, _NORM, _GELU)}
    fused = Fused(attention=found[_ATTENTION], layer_norm=found[_NORM], gelu=found[_GELU])
    if fused:
        wrapped.prune_graph()
        _tell_kinds(model.graph, facts)
        if _OWN not in {one.domain for one in model.opset_import}:
            model.opset_import.append(helper.make_opsetid(_OWN, 1))
    else:
        del model.graph.node[:], model.graph.initializer[stored:]
        for node in nodes:
            model.graph.node.add().ParseFromString(node)
    return fused


def _divide_before_erf(graph: Any) -> None:
    """x / sqrt(2) where tf2onnx multiplies by its inverse: onnxruntime's pattern of Keras' GELU divides."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for erf in graph.node:
        node = makers.get(erf.input[0]) if erf.op_type == "Erf" else None
        if node is None or node.op_type != "Mul":
            continue
        for x, factor in (node.input, tuple(node.input)[::-1]):
            if factor in stored and not stored[factor].dims:
                name = f"{node.output[0]}_pfg_divisor"
                graph.initializer.append(
                    numpy_helper.from_array(1 / numpy_helper.to_array(stored[factor]), name)
                )
                node.op_type, node.input[0], node.input[1] = "Div", x, name
                break


def _mean_of_tokens(model: Any, facts: Known) -> None:
    """ReduceMean where tf2onnx pools [N, T, C] over C: onnxruntime's pattern of its LayerNorm has that."""
    from onnx import helper, numpy_helper

    stored = {tensor.name for tensor in model.graph.initializer}
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    for node in model.graph.node:
        if node.op_type != "GlobalAveragePool" or len(facts.shapes.get(node.input[0], ())) != 3:
            continue
        node.op_type = "ReduceMean"  # with keepdims, as by default
        if opset < 18:
            node.attribute.append(helper.make_attribute("axes", [2]))
            continue
        if (name := "pfg_last_of_three") not in stored:
            model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), name))
            stored.add(name)
        node.input.append(name)


def _tell_kinds(graph: Any, facts: Known) -> None:
    """Write down what dtype each tensor has: the way to float16 asks, and onnx knows no operator of ours."""
    from onnx import TensorProto, helper

    told = {value.name for value in [*graph.value_info, *graph.input, *graph.output]}
    names = [name for node in graph.node for name in node.output if name and name not in told]
    graph.value_info.extend(
        helper.make_tensor_value_info(name, facts.kinds.get(name, TensorProto.FLOAT), None) for name in names
    )


def _counts(model: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
