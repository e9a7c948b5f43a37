"""Graphs that see how they are fed: the feature is single numbers of the input, a grid of each channel.

A swapped channel, another range, pad, filter or place changes it. The head is dense, as taggers have it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pfgdata.conventions import Labels
from pfgdata.taggers.labels import DANBOORU

GRID = 7  # places a side: an odd step, so that they meet every phase of a filter
TAGS = {  # tag -> category
    "1girl": "general",
    "smile": "general",
    "saber": "character",
    "fate_(series)": "copyright",
    "wlop": "artist",
}
RATINGS = ("general", "sensitive", "questionable", "explicit")


@dataclass(frozen=True, kw_only=True)
class Seer:
    """What is written: a graph of `size` pixels in `layout`."""

    layout: str = "NCHW"
    size: int = 32
    output: str = "probabilities"  # probabilities | logits | queries: one vector for each tag, no dense layer
    scale: float = 1.0  # of the input's numbers, so that logits stay small
    tags: dict[str, str] = field(default_factory=lambda: dict(TAGS))


def places(size: int) -> npt.NDArray[np.int64]:
    """The rows and columns that a seer of `size` looks at."""
    return np.linspace(0, size - 1, GRID).astype(np.int64)


def seen(numbers: npt.NDArray[Any], layout: str) -> npt.NDArray[np.float64]:
    """The feature of an input, [H, W, 3] or [3, H, W] as `layout` has it."""
    planes = numbers if layout == "NCHW" else numbers.transpose(2, 0, 1)
    at = places(planes.shape[1])
    return planes[:, at][:, :, at].astype(np.float64).ravel()


def write_seer(folder: Path, seer: Seer) -> None:
    """Write model.onnx into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    width, count = 3 * GRID * GRID, len(seer.tags)
    head = (rng.normal(size=(width, count)) / (8 * seer.scale)).astype(np.float32)
    stored = [
        numpy_helper.from_array(places(seer.size), "places"),
        numpy_helper.from_array(head, "head"),
        numpy_helper.from_array(rng.normal(size=count).astype(np.float32), "bias"),
        numpy_helper.from_array(np.array([0, width]), "flat"),
    ]
    nodes, planes = [], "image"
    if seer.layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
        planes = "planes"
    nodes += [
        helper.make_node("Gather", [planes, "places"], ["rows"], axis=2),
        helper.make_node("Gather", ["rows", "places"], ["grid"], axis=3),
        helper.make_node("Reshape", ["grid", "flat"], ["seen"]),
    ]
    if seer.output == "queries":
        stored.append(numpy_helper.from_array(np.array([1]), "axis"))
        stored.append(numpy_helper.from_array(np.ascontiguousarray(head.T[None]), "queries"))
        nodes += [
            helper.make_node("Unsqueeze", ["seen", "axis"], ["each"]),
            helper.make_node("Mul", ["each", "queries"], ["products"]),
            helper.make_node("ReduceMean", ["products"], ["logits"], axes=[2], keepdims=0),
        ]
    else:
        nodes.append(helper.make_node("Gemm", ["seen", "head", "bias"], ["logits"]))
    last = "logits"
    if seer.output == "probabilities":
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["prediction"]))
        last = "prediction"
    sides = [seer.size, seer.size]
    image = helper.make_tensor_value_info(
        "image", TensorProto.FLOAT, ["N", *([3, *sides] if seer.layout == "NCHW" else [*sides, 3])]
    )
    scores = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", count])
    graph = helper.make_graph(nodes, "seer", [image], [scores], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")


def write_labels(folder: Path, seer: Seer, labels: Labels) -> None:
    """Write the file of its tags, in the form that `labels` has."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / labels.file
    if path.suffix == ".json":
        table = {
            str(number): {"tag": tag, "category": category.capitalize()}
            for number, (tag, category) in enumerate(seer.tags.items())
        }
        path.write_text(json.dumps(table))
        return
    numbers = {name: number for number, name in labels.categories or DANBOORU}
    lines = [f"{labels.name},{labels.category},{labels.count},ips"]
    lines += [f"{tag},{numbers[category]},{90 - n},[]" for n, (tag, category) in enumerate(seer.tags.items())]
    path.write_text("\n".join([*lines, ""]))
