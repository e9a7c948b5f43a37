"""A graph read from its middle: what a tensor was made of, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pfgdata.inference.layout import Layout
from pfgdata.inference.shapes import Known

__all__ = ["Chain", "Nodes", "Walk"]

_RESHAPING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}


@dataclass(frozen=True, slots=True)
class Chain:
    """A tensor, the one that it was reshaped, turned and scaled from, and what that came to."""

    root: str
    layout: Layout
    scale: float


@dataclass(slots=True)
class Walk:
    """A graph with its facts, its shapes written down."""

    graph: Any
    facts: Known
    makers: dict[str, Any] = field(default_factory=dict)
    users: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.graph.node:
            self.makers.update((name, node) for name in node.output)
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def step(self, node: Any) -> str | None:
        """The input that `node` only reshapes, turns or scales; None of another node."""
        if node.op_type in _RESHAPING or node.op_type in ("Transpose", "Identity"):
            return str(node.input[0])
        if node.op_type in ("Mul", "Div"):
            numbers = [self.facts.scalar(name) for name in node.input]
            if numbers[1] is not None and numbers[0] is None:
                return str(node.input[0])
            if node.op_type == "Mul" and numbers[0] is not None and numbers[1] is None:
                return str(node.input[1])
        return None

    def scale_of(self, node: Any) -> float:
        """What `node`, which is a step, multiplies by."""
        if node.op_type not in ("Mul", "Div"):
            return 1.0
        number = next(one for name in node.input if (one := self.facts.scalar(name)) is not None)
        return number if node.op_type == "Mul" else 1 / number

    def after(self, layout: Layout, node: Any) -> Layout | None:
        """The layout of what `node`, a step, makes of a tensor of `layout`."""
        shape = self.facts.shapes.get(node.output[0])
        if shape is None:
            return None
        if node.op_type == "Transpose":
            perm = next((list(one.ints) for one in node.attribute if one.name == "perm"), None)
            return layout.turned(perm or range(len(layout.axes))[::-1])
        return layout.reshaped(shape)

    def up(self, name: str) -> Chain | None:
        """Follow `name` upwards as far as it is only reshaped, turned and scaled."""
        nodes: list[Any] = []
        while (node := self.makers.get(name)) is not None and (source := self.step(node)) is not None:
            nodes.append(node)
            name = source
        shape = self.facts.shapes.get(name)
        layout = Layout.of(shape) if shape else None
        scale = 1.0
        for node in reversed(nodes):
            layout = layout and self.after(layout, node)
            scale *= self.scale_of(node)
        return Chain(name, layout, scale) if layout else None

    def down(self, name: str, layout: Layout) -> Iterator[tuple[str, Layout, Any]]:
        """`name` and what becomes of it as long as one node takes it: each with layout and that node."""
        found: Layout | None = layout
        while found is not None:
            taker = self.only_taker(name)
            yield name, found, taker
            if taker is None or self.step(taker) != name or self.scale_of(taker) != 1:
                return
            found = self.after(found, taker)
            name = taker.output[0]

    def only_taker(self, name: str) -> Any | None:
        """The one node that takes `name`, but for those that ask its shape; None where there are several."""
        takers = [node for node in self.users.get(name, []) if node.op_type != "Shape"]
        return takers[0] if len(takers) == 1 else None

    def open_shape(self, name: str) -> list[int]:
        """The shape of a tensor whose numbers lie in the order of the images, the batch as -1."""
        axes = list(self.facts.shapes[name])
        first = next(axis for axis, size in enumerate(axes) if size != 1)
        axes[first] = -1
        return axes

    def put(self, made: Mapping[str, Sequence[Any]]) -> None:
        """Let each tensor of `made` be made by those nodes instead, in place.

        They stand where its maker does. What nothing asks for any more stays, to be pruned.
        """
        before: dict[int, Sequence[Any]] = {}
        for name, nodes in made.items():
            maker = self.makers[name]
            maker.output[list(maker.output).index(name)] = f"{name}_pfg_before"
            before[id(maker)] = nodes
        nodes = [one for node in self.graph.node for one in (*before.get(id(node), ()), node)]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)


class Nodes:
    """Nodes to come, and the constants that they take, which go into `graph` at once."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.made: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **words: Any) -> str:
        """A node that makes `output`; its name."""
        from onnx import helper

        self.made.append(helper.make_node(kind, list(inputs), [output], name=f"{output}_node", **words))
        return output

    def reshape(self, name: str, axes: Sequence[int], output: str) -> str:
        """`name` in the shape `axes`."""
        return self.add("Reshape", [name, self.store(f"{output}_shape", np.array(axes, np.int64))], output)

    def store(self, name: str, value: Any) -> str:
        """A constant; its name."""
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name
