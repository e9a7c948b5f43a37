"""A trained classifier as an ONNX file with the interface of wd-v1-4-vit-tagger-v2.

In: NHWC, BGR, float32 0..255, any batch. Out: sigmoid scores. Normalisation is inside; the last dense layer
is MatMul + Add, whose input is the 768-wide feature. Weights are stored as float16 behind a Cast, which
halves the file; onnxruntime folds the casts when it loads, so it computes in float32 at full speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from pipelines.demo_models.data import POOL
from pipelines.demo_models.nets import ConvNorm, Folded, GatedBlock, JudgeNet, Residual, TaggerNet


class GraphWriter:
    """Collects nodes and stored tensors; every method adds something and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: list[Any] = []

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One operator; its output's name is made up unless given."""
        from onnx import helper

        name = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}/{op}", **attributes))
        return name

    def constant(self, values: npt.NDArray[Any]) -> str:
        """Float32 values, stored as they are."""
        from onnx import numpy_helper

        name = f"constant_{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def weight(self, values: Tensor) -> str:
        """Values stored as float16 and cast to float32 in the graph."""
        from onnx import TensorProto, numpy_helper

        name = f"half_{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(values.detach().cpu().numpy().astype(np.float16), name))
        return self.node("Cast", name, to=TensorProto.FLOAT)

    def conv(self, x: str, layer: ConvNorm | nn.Conv2d) -> str:
        """A convolution, with its norm folded in if it has one."""
        one = layer.folded() if isinstance(layer, ConvNorm) else _plain(layer)
        bias = self.constant(one.bias.detach().cpu().numpy())
        return self.node(
            "Conv",
            x,
            self.weight(one.weight),
            bias,
            kernel_shape=list(one.weight.shape[2:]),
            strides=[one.stride] * 2,
            pads=[one.padding] * 4,
            group=one.groups,
        )

    def dense(self, x: str, layer: nn.Linear) -> str:
        """x W + b as MatMul and Add, the form in which the input of the last one is found as the feature."""
        product = self.node("MatMul", x, self.weight(layer.weight.T))
        return self.node("Add", product, self.constant(layer.bias.detach().cpu().numpy()))

    def residual(self, x: str, block: Residual) -> str:
        """relu(x + second(relu(first(x))))."""
        inner = self.conv(self.node("Relu", self.conv(x, block.first)), block.second)
        return self.node("Relu", self.node("Add", x, inner))

    def gated(self, x: str, block: GatedBlock) -> str:
        """x + narrow(value * sigmoid(gate))."""
        mixed = self.conv(x, block.mix)
        gate = self.node("Sigmoid", self.conv(mixed, block.gate))
        return self.node(
            "Add", x, self.conv(self.node("Mul", self.conv(mixed, block.value), gate), block.narrow)
        )

    def layer(self, x: str, layer: nn.Module) -> str:
        """Whichever of the above `layer` is."""
        match layer:
            case Residual():
                return self.residual(x, layer)
            case GatedBlock():
                return self.gated(x, layer)
            case nn.ReLU():
                return self.node("Relu", x)
            case ConvNorm() | nn.Conv2d():
                return self.conv(x, layer)
        raise AssertionError(f"no ONNX form for {layer}")


def _plain(layer: nn.Conv2d) -> Folded:
    assert layer.bias is not None and isinstance(layer.padding, tuple)
    return Folded(
        weight=layer.weight,
        bias=layer.bias,
        stride=layer.stride[0],
        padding=layer.padding[0],
        groups=layer.groups,
    )


def classifier_onnx(net: TaggerNet | JudgeNet, *, input_size: int, name: str) -> bytes:
    """The ONNX file of a net in eval mode; the same bytes for the same weights."""
    from onnx import TensorProto, helper

    write = GraphWriter()
    x = write.node("Transpose", "input_1:0", perm=[0, 3, 1, 2])
    x = write.node("AveragePool", x, kernel_shape=[POOL, POOL], strides=[POOL, POOL])
    x = write.node(
        "Div", write.node("Sub", x, write.constant(np.array(127.5))), write.constant(np.array(127.5))
    )
    x = write.node("Gather", x, _bgr_to_rgb(write), axis=1)
    for layer in net.body:
        x = write.layer(x, layer)
    x = write.node("Relu", write.conv(x, net.neck))
    pooled = write.node("GlobalAveragePool", x)
    if isinstance(net, TaggerNet):
        both = write.node("Add", pooled, write.node("GlobalMaxPool", x))
        pooled = write.node("Mul", both, write.constant(np.array(0.5)))
    feature = write.node("Flatten", pooled, output="feature", axis=1)
    write.node("Sigmoid", write.dense(feature, net.head), output="predictions_sigmoid")
    shape = ["N", input_size, input_size, 3]
    image = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, shape)
    scores = helper.make_tensor_value_info(
        "predictions_sigmoid", TensorProto.FLOAT, ["N", net.head.out_features]
    )
    graph = helper.make_graph(write.nodes, name, [image], [scores], write.stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def _bgr_to_rgb(write: GraphWriter) -> str:
    """The channel order 2, 1, 0: the nets are trained on RGB, the interface is BGR."""
    from onnx import numpy_helper

    write.stored.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "rgb"))
    return "rgb"
