"""Builds small WD14-shaped graphs: 8 px in, one hidden layer, 7 tags; every form a published file may have.

The hidden layer is wide enough (16) that another tensor of the graph cannot be mistaken for the feature.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, FEATURE_DIM = 8, 16
EPSILON = 1e-3  # the norms' of the v2 taggers
LOUD = 1000.0  # its square is beyond float16's 65504
TAGS = ["general", "sensitive", "questionable", "explicit", "1girl", "smile", "someone"]
CATEGORIES = [9, 9, 9, 9, 0, 0, 4]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What differs from file to file."""

    layout: str = "NHWC"
    batch: int | None = None
    half: bool = False  # computes in float16
    half_io: bool = False  # takes and gives float16 too
    dense: str = "matmul"  # matmul | gemm | gemm_transposed | cast | no_bias
    tail: str = "sigmoid"  # sigmoid | logits | scrambled | scaled
    embedding: str | None = None  # name of an output that gives the feature already
    norm: bool = False  # a layer norm in single operators, over values around LOUD
    dtype: int | None = None  # of the input, where it is none that a tagger has
    sides: tuple[int, int] | None = None  # of the input, where they are not SIDE
    num_tags: int = len(TAGS)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The numbers behind a graph, so that a test can compute what it must give."""

    hidden: npt.NDArray[np.float32]  # [3, F], of the mean colour, BGR
    head: npt.NDArray[np.float32]  # [F, V]
    bias: npt.NDArray[np.float32]  # [V]
    norm: bool = False

    def expected(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Scores and features of uint8 RGB [B, S, S, 3]."""
        mean = images[..., ::-1].astype(np.float64).mean((1, 2)) / 127.5 - 1
        hidden = mean @ self.hidden
        if self.norm:
            centred = hidden - hidden.mean(1, keepdims=True)
            hidden = centred / np.sqrt((centred**2).mean(1, keepdims=True) + EPSILON / LOUD**2)
        features = np.maximum(hidden, 0)
        return 1 / (1 + np.exp(-(features @ self.head + self.bias))), features


def weights(num_tags: int = len(TAGS), *, norm: bool = False) -> Weights:
    rng = np.random.default_rng(7)
    return Weights(
        hidden=rng.normal(size=(3, FEATURE_DIM)).astype(np.float32),
        head=rng.normal(size=(FEATURE_DIM, num_tags)).astype(np.float32),
        bias=rng.normal(-1, 1, num_tags).astype(np.float32),
        norm=norm,
    )


_AS_WD = 'channels = "BGR"\nsquare = "kohya"\noutput = "probabilities"\nlabels = "selected_tags.csv"\n'


def write_tagger(folder: Path, form: Form = Form(), *, external: bool = False) -> Weights:
    """Write model.onnx and selected_tags.csv of `form` into `folder`, and what WD's shape alone would say."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = weights(form.num_tags, norm=form.norm)
    model = _Builder(form, numbers).model()
    if external:
        onnx.external_data_helper.convert_model_to_external_data(
            model, location="model.onnx_data", size_threshold=0
        )
    onnx.save(model, folder / "model.onnx")
    lines = [f"{number},{tag},{CATEGORIES[number]},0" for number, tag in enumerate(TAGS)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *lines, ""]))
    if form.layout == "NCHW":
        (folder / "convention.toml").write_text(_AS_WD)
    return numbers


class _Builder:
    def __init__(self, form: Form, numbers: Weights) -> None:
        self._form, self._numbers = form, numbers
        self._dtype = np.float16 if form.half else np.float32
        self._nodes: list[Any] = []
        self._stored: list[Any] = []

    def model(self) -> Any:
        form = self._form
        io = TensorProto.FLOAT16 if form.half_io else TensorProto.FLOAT
        inner = TensorProto.FLOAT16 if form.half else TensorProto.FLOAT
        x = "image"
        if inner != io:
            x = self._node("Cast", [x], "image_cast", to=inner)
        axes = [1, 2] if form.layout == "NHWC" else [2, 3]
        x = self._node("ReduceMean", [x], "mean", axes=axes, keepdims=0)
        x = self._node("Div", [x, self._constant("range", np.array(127.5))], "divided")
        x = self._node("Sub", [x, self._constant("one", np.array(1.0))], "centred")
        x = self._node("MatMul", [x, self._constant("hidden", self._numbers.hidden)], "hidden_product")
        if form.norm:
            x = self._layer_norm(
                self._node("Mul", [x, self._constant("loud", np.array(LOUD))], "loud_hidden")
            )
        feature = self._node("Relu", [x], form.embedding or "penultimate")
        scores = self._tail(self._dense(feature))
        if inner != io:
            scores = self._node("Cast", [scores], "scores_cast", to=io)
        outputs = [helper.make_tensor_value_info(scores, io, [form.batch or "N", form.num_tags])]
        if form.embedding:
            outputs.insert(0, helper.make_tensor_value_info(feature, inner, [form.batch or "N", FEATURE_DIM]))
        height, width = form.sides or (SIDE, SIDE)
        sides = [height, width, 3] if form.layout == "NHWC" else [3, height, width]
        image = helper.make_tensor_value_info("image", form.dtype or io, [form.batch or "N", *sides])
        graph = helper.make_graph(self._nodes, "small", [image], outputs, self._stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _layer_norm(self, x: str) -> str:
        mean = self._node("ReduceMean", [x], "norm_mean", axes=[1], keepdims=1)
        centred = self._node("Sub", [x, mean], "norm_centred")
        square = self._node("Mul", [centred, centred], "norm_square")
        variance = self._node("ReduceMean", [square], "norm_variance", axes=[1], keepdims=1)
        shifted = self._node("Add", [variance, self._constant("epsilon", np.array(EPSILON))], "norm_shifted")
        return self._node("Div", [centred, self._node("Sqrt", [shifted], "norm_root")], "normed")

    def _dense(self, feature: str) -> str:
        head, bias = self._numbers.head, self._constant("bias", self._numbers.bias)
        if self._form.dense == "gemm":
            return self._node("Gemm", [feature, self._constant("head", head), bias], "logits")
        if self._form.dense == "gemm_transposed":
            stored = self._constant("head", head.T / 2)
            return self._node("Gemm", [feature, stored, bias], "logits", transB=1, alpha=2.0)
        if self._form.dense == "cast":
            self._stored.append(numpy_helper.from_array(head.T.astype(np.float16), "head_half"))
            turned = self._node("Transpose", ["head_half"], "head_turned", perm=[1, 0])
            stored = self._node("Cast", [turned], "head", to=TensorProto.FLOAT)
            return self._node("Add", [bias, self._node("MatMul", [feature, stored], "product")], "logits")
        product = self._node("MatMul", [feature, self._constant("head", head)], "product")
        return product if self._form.dense == "no_bias" else self._node("Add", [product, bias], "logits")

    def _tail(self, logits: str) -> str:
        if self._form.tail == "logits":
            return logits
        if self._form.tail == "scrambled":  # the tags of a batch change places: looks like a reshape
            turned = self._node("Transpose", [logits], "turned", perm=[1, 0])
            shape = numpy_helper.from_array(np.array([-1, self._form.num_tags]), "shape")
            self._stored.append(shape)
            logits = self._node("Reshape", [turned, "shape"], "scrambled")
        scores = self._node("Sigmoid", [logits], "scores")
        if self._form.tail == "scaled":
            return self._node("Mul", [scores, self._constant("half", np.array(0.5))], "scaled")
        return scores

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self._stored.append(numpy_helper.from_array(values.astype(self._dtype), name))
        return name


def tagger_folder(folder: Path, model: Path) -> Path:
    """A folder `folder` of a tagger: the graph `model`, and labels of TAGS."""
    folder.mkdir()
    shutil.copy(model, folder / "model.onnx")
    lines = [f"{number},{tag},{CATEGORIES[number]},0" for number, tag in enumerate(TAGS)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *lines, ""]))
    return folder
