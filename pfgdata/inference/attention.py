"""Attention in a graph, however it was exported: softmax(scale q k) v becomes one MultiHeadAttention.

onnxruntime's own patterns name the nodes that one exporter writes between the two products, and find nothing
in a ViT by tf2onnx or torch (docs/decisions/0038). Here what stands there is followed by what it does: it
reshapes, turns or scales. Where a bias is added in between (Swin), nothing is fused.

Shapes: B images, T tokens, H heads, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from pfgdata.inference.layout import Layout, Run, joined
from pfgdata.inference.shapes import Known
from pfgdata.inference.walk import Nodes, Walk

__all__ = ["fuse_attention"]


@dataclass(frozen=True, slots=True)
class _Operand:
    """q, k or v: a tensor of the numbers of [B, T, H, D], or of [B, H, T, D] (`heads_first`)."""

    name: str
    heads: int
    tokens: int
    width: int
    heads_first: bool
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Products:
    """The two products about a softmax: of queries and keys, then of the softmax and values."""

    q: str
    q_turned: bool  # [.., D, T], not [.., T, D]
    k: str
    k_turned: bool
    v: str
    v_turned: bool
    second: Any  # the node
    output_turned: bool
    scale: float


def fuse_attention(model: Any, facts: Known) -> int:
    """Put a MultiHeadAttention into the place of every attention of `model`, in place; how many.

    `facts` are of `model` with its shapes written down. What nothing asks for any more stays, to be pruned.
    """
    walk = Walk(model.graph, facts)
    made: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.op_type != "Softmax" or (products := _products(walk, node, _opset(model))) is None:
            continue
        q, k, v = (
            _operand(walk, name, turned=turned)
            for name, turned in (
                (products.q, products.q_turned),
                (products.k, products.k_turned),
                (products.v, products.v_turned),
            )
        )
        if q is None or k is None or v is None or v.scale != 1 or not q.heads == k.heads == v.heads:
            continue
        if (target := _target(walk, products, q, v)) is not None:
            scale = products.scale * q.scale * k.scale
            made[target] = _fused(walk, (q, k, v), target=target, scale=scale)
    walk.put(made)
    return len(made)


def _products(walk: Walk, softmax: Any, opset: int) -> _Products | None:
    """The products about `softmax`, where nothing stands between that changes a number but one scale."""
    before = walk.up(softmax.input[0])
    first = walk.makers.get(before.root) if before else None
    if before is None or first is None or first.op_type != "MatMul":
        return None
    axis = next((one.i for one in softmax.attribute if one.name == "axis"), -1 if opset >= 13 else 1)
    rank = len(before.layout.axes)
    if opset < 13 and axis % rank != rank - 1:  # it was over all axes from there on
        return None
    *batch, queries, keys = Layout.of(walk.facts.shapes[before.root]).axes
    turned = joined(before.layout.axes[axis]) == joined(queries) != joined(keys)
    if turned:
        queries, keys = keys, queries
    if joined(before.layout.axes[axis]) != joined(keys):
        return None
    for name, layout, taker in walk.down(softmax.output[0], before.layout):
        if taker is None or taker.op_type != "MatMul":
            continue
        at = list(taker.input).index(name)
        *others, rows, columns = layout.axes
        expected = (queries, keys) if at == 0 else (keys, queries)
        if (joined(rows), joined(columns)) != tuple(map(joined, expected)) or _all(others) != _all(batch):
            return None
        return _Products(
            q=first.input[1] if turned else first.input[0],
            q_turned=turned,
            k=first.input[0] if turned else first.input[1],
            k_turned=not turned,
            v=taker.input[1 - at],
            v_turned=at == 1,
            second=taker,
            output_turned=at == 1,
            scale=before.scale,
        )
    return None


def _operand(walk: Walk, name: str, *, turned: bool) -> _Operand | None:
    """Where the numbers of `name`, as a product takes it, come from; None of an order that is not known."""
    chain = walk.up(name)
    if chain is None or len(chain.layout.axes) < 3:
        return None
    *batch, rows, columns = chain.layout.axes
    tokens, depth = (columns, rows) if turned else (rows, columns)
    count, width = (prod(size for size, _ in axis) for axis in (tokens, depth))
    images = walk.facts.batch
    heads, rest = divmod(prod(size for axis in batch for size, _ in axis), images)
    if rest or prod(walk.facts.shapes[chain.root]) != images * heads * count * width:
        return None
    found = (_all(batch), joined(tokens), joined(depth))
    for heads_first in (False, True):
        stride = (count * width, width) if heads_first else (width, heads * width)  # of a head, of a token
        expected = ([(images, heads * count * width), (heads, stride[0])], [(count, stride[1])], [(width, 1)])
        if found == tuple(map(joined, expected)):
            return _Operand(chain.root, heads, count, width, heads_first, chain.scale)
    return None


def _target(walk: Walk, products: _Products, q: _Operand, v: _Operand) -> str | None:
    """What becomes of the second product that holds the numbers of [B, T, H, D] in that order."""
    images, heads, tokens, width = walk.facts.batch, q.heads, q.tokens, v.width
    batch = [(images, tokens * heads * width), (heads, width)]
    rows, columns = [(tokens, heads * width)], [(width, 1)]
    if products.output_turned:
        rows, columns = columns, rows
    name = products.second.output[0]
    shape = walk.facts.shapes.get(name)
    layout = Layout.over(batch, rows, columns).reshaped(shape) if shape else None
    if layout is None:
        return None
    whole = joined([(images * tokens * heads * width, 1)])
    return next((name for name, found, _ in walk.down(name, layout) if found.flat == whole), None)


def _fused(
    walk: Walk, operands: tuple[_Operand, _Operand, _Operand], *, target: str, scale: float
) -> list[Any]:
    """The nodes that make `target` of q, k and v."""
    nodes, inputs = Nodes(walk.graph), []
    for letter, one in zip("qkv", operands, strict=True):
        name, label = one.name, f"{target}_pfg_{letter}"
        if one.heads_first:
            name = nodes.reshape(name, [-1, one.heads, one.tokens, one.width], f"{label}_heads")
            name = nodes.add("Transpose", [name], f"{label}_turned", perm=[0, 2, 1, 3])
        inputs.append(nodes.reshape(name, [-1, one.tokens, one.heads * one.width], label))
    words = {"domain": "com.microsoft", "num_heads": operands[0].heads, "scale": scale}
    result = nodes.add("MultiHeadAttention", inputs, f"{target}_pfg_attention", **words)
    nodes.reshape(result, walk.open_shape(target), target)
    return nodes.made


def _all(axes: Sequence[Sequence[Run]]) -> tuple[Run, ...]:
    """The runs of several axes as those of one."""
    return joined([run for axis in axes for run in axis])


def _opset(model: Any) -> int:
    return next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
