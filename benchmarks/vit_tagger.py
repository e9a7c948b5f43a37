"""Writes a tagger of random weights in the shape of wd-v1-4-vit-tagger-v2, as large and as slow as it is.

ViT-B/16 at 448 px: 784 tokens, 12 blocks, LayerScale, exact GELU, mean after the last LayerNorm, 9,083 tags.
Its scores mean nothing; about 80 tags an image are over the floor.

Shapes: N images, T = 784 tokens, D = 768.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NUM_TAGS", "selected_tags", "write_vit_tagger"]

SIDE, PATCH, WIDTH, HEADS, MLP, BLOCKS = 448, 16, 768, 12, 3072, 12  # of wd-v1-4-vit-tagger-v2
NUM_TAGS, GENERAL_TAGS, RATINGS = 9083, 6500, ("general", "sensitive", "questionable", "explicit")
EPSILON = 1e-3  # of its LayerNorms
LOGIT_MEAN, LOGIT_SPREAD = -6.0, 1.29  # 0.9 % of the tags score over 0.05
FEATURE_NORM = 35.5  # measured: it hardly depends on the image
OPSET = 20  # Gelu; LayerNormalization is of 17


def write_vit_tagger(folder: Path, *, blocks: int = BLOCKS, seed: int = 18) -> None:
    """Write model.onnx (360 MB), selected_tags.csv and UNTRAINED into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_Vit(blocks, np.random.default_rng(seed)).model(), folder / "model.onnx")
    (folder / "selected_tags.csv").write_text(selected_tags())
    (folder / "UNTRAINED").write_text("random weights, for measurements\n")


def selected_tags() -> str:
    """A selected_tags.csv of 9,083 rows: 4 ratings, 6,500 general tags, characters."""
    lines = ["tag_id,name,category,count"]
    for number in range(NUM_TAGS):
        if number < len(RATINGS):
            name, category = RATINGS[number], 9
        elif number < len(RATINGS) + GENERAL_TAGS:
            name, category = f"tag_{number}", 0
        else:
            name, category = f"character_{number}", 4
        lines.append(f"{number},{name},{category},{NUM_TAGS - number}")
    return "\n".join([*lines, ""])


class _Vit:
    """The graph under construction."""

    def __init__(self, blocks: int, rng: np.random.Generator) -> None:
        self._blocks, self._rng = blocks, rng
        self._nodes: list[Any] = []
        self._stored: list[Any] = []

    def model(self) -> Any:
        x_NTD = self._tokens("input_1:0")
        for block in range(self._blocks):
            x_NTD = self._attention(x_NTD, f"block{block}/attention")
            x_NTD = self._mlp(x_NTD, f"block{block}/mlp")
        x_NTD = self._norm(x_NTD, "norm")
        axes = self._constant("mean/axes", np.array([1], np.int64))
        feature = self._node("ReduceMean", [x_NTD, axes], "feature", keepdims=0)
        head = self._random("head", (WIDTH, NUM_TAGS), LOGIT_SPREAD / FEATURE_NORM)
        bias = np.full(NUM_TAGS, LOGIT_MEAN, np.float32)
        bias[0] = 3.0  # general wins
        logits = self._node("MatMul", [feature, head], "product")
        logits = self._node("Add", [logits, self._constant("bias", bias)], "logits")
        self._node("Sigmoid", [logits], "predictions_sigmoid")
        image = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])
        scores = helper.make_tensor_value_info("predictions_sigmoid", TensorProto.FLOAT, ["N", NUM_TAGS])
        graph = helper.make_graph(self._nodes, "vit", [image], [scores], self._stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

    def _tokens(self, image: str) -> str:
        """BGR 0..255 [N, 448, 448, 3] as tokens [N, T, D]."""
        middle = self._constant("middle", np.array(127.5, np.float32))
        x = self._node("Sub", [image, middle], "centred")
        x = self._node("Div", [x, middle], "scaled")
        x = self._node("Transpose", [x], "channels_first", perm=[0, 3, 1, 2])
        kernel = self._random("patch/kernel", (WIDTH, 3, PATCH, PATCH), 0.04)
        x = self._node("Conv", [x, kernel], "patches", strides=[PATCH, PATCH], kernel_shape=[PATCH, PATCH])
        tokens = (SIDE // PATCH) ** 2
        shape = self._constant("patch/shape", np.array([0, WIDTH, tokens], np.int64))
        x = self._node("Reshape", [x, shape], "patches_flat")
        x = self._node("Transpose", [x], "tokens", perm=[0, 2, 1])
        return self._node("Add", [x, self._random("positions", (1, tokens, WIDTH), 0.02)], "embedded")

    def _attention(self, x_NTD: str, name: str) -> str:
        y = self._norm(x_NTD, f"{name}/norm")
        split = self._constant(f"{name}/split", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        parts = {}
        for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            z = self._dense(y, (WIDTH, WIDTH), f"{name}/{part}")
            z = self._node("Reshape", [z, split], f"{name}/{part}/heads")
            parts[part] = self._node("Transpose", [z], f"{name}/{part}/turned", perm=perm)
        z = self._node("MatMul", [parts["q"], parts["k"]], f"{name}/products")
        scale = self._constant(f"{name}/scale", np.array((WIDTH // HEADS) ** -0.5, np.float32))
        z = self._node("Softmax", [self._node("Mul", [z, scale], f"{name}/scaled")], f"{name}/soft", axis=-1)
        z = self._node("MatMul", [z, parts["v"]], f"{name}/mixed")
        z = self._node("Transpose", [z], f"{name}/mixed/turned", perm=[0, 2, 1, 3])
        joined = self._constant(f"{name}/joined", np.array([0, 0, WIDTH], np.int64))
        z = self._node("Reshape", [z, joined], f"{name}/mixed/flat")
        return self._residual(x_NTD, self._dense(z, (WIDTH, WIDTH), f"{name}/out"), name)

    def _mlp(self, x_NTD: str, name: str) -> str:
        y = self._dense(self._norm(x_NTD, f"{name}/norm"), (WIDTH, MLP), f"{name}/in")
        y = self._node("Gelu", [y], f"{name}/gelu", approximate="none")
        return self._residual(x_NTD, self._dense(y, (MLP, WIDTH), f"{name}/out"), name)

    def _residual(self, x: str, branch: str, name: str) -> str:
        """x + LayerScale(branch)."""
        scale = self._constant(f"{name}/layer_scale", np.full(WIDTH, 0.5, np.float32))
        return self._node("Add", [x, self._node("Mul", [branch, scale], f"{name}/weighed")], f"{name}/sum")

    def _norm(self, x: str, name: str) -> str:
        gain = self._random(f"{name}/gain", (WIDTH,), 0.1, around=1.0)
        shift = self._random(f"{name}/shift", (WIDTH,), 1.0)  # keeps the mean over tokens from vanishing
        return self._node("LayerNormalization", [x, gain, shift], f"{name}/normal", axis=-1, epsilon=EPSILON)

    def _dense(self, x: str, shape: tuple[int, int], name: str) -> str:
        product = self._node("MatMul", [x, self._random(f"{name}/kernel", shape, 0.02)], f"{name}/product")
        return self._node("Add", [product, self._random(f"{name}/bias", shape[1:], 0.02)], f"{name}/dense")

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _random(self, name: str, shape: tuple[int, ...], spread: float, *, around: float = 0.0) -> str:
        values = self._rng.standard_normal(shape, np.float32) * np.float32(spread) + np.float32(around)
        return self._constant(name, values)

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self._stored.append(numpy_helper.from_array(values, name))
        return name


def main() -> None:
    """Write one into the folder named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_vit_tagger(parser.parse_args().folder)


if __name__ == "__main__":
    main()
