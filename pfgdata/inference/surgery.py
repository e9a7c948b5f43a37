"""Changes to a graph that change no result: images come in as bytes; or all is computed in float16.

An image is 3 bytes a pixel in memory and 12 as the graph's float32. The conversion (to float, to the graph's
order of channels, range and layout) is therefore part of the graph here: a quarter crosses the bus of a GPU,
and no pass over the pixels is made in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pfgdata.conventions import Convention
from pfgdata.errors import GraphError

__all__ = ["ImageInput", "Precision", "give_scores", "image_input", "take_bytes", "to_float16"]

Precision = Literal["float32", "float16"]

IMAGE_SIZE = 448  # of every published WD14 tagger; used where a graph leaves its height and width open
# Sums over hundreds of values, squares and what undoes them: beyond float16's 65504 in a decomposed layer
# norm, or too coarse for the mean that is the feature. The rest of a ViT stays in range.
_FLOAT32_OPS = ("Pow", "Reciprocal", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """The input of a rewritten graph: uint8 RGB [B, S, S, 3], and what it was turned into."""

    name: str
    size: int | None  # S, None where the graph leaves it open
    batch_size: int | None  # the only B it takes; None if any
    channels_first: bool  # the original's layout
    half: bool  # the original takes float16


def image_input(model: Any, path: Path, *, layout: str | None = None) -> ImageInput:
    """What `model` (a ModelProto) takes. Raises GraphError on any form that is no batch of images.

    `layout` is what a convention says of a graph that leaves its channels open.
    """
    return _described(_image_input(model.graph, path), path, layout)


def image_side(model: Any, path: Path, convention: Convention) -> int:
    """S of the images that `model` takes. Raises GraphError where `convention` says otherwise."""
    size = _agreed(image_input(model, path), convention, path).size
    assert size is not None  # `_agreed` says it
    return size


def take_bytes(model: Any, path: Path, convention: Convention) -> ImageInput:
    """Give `model` an input of uint8 RGB NHWC in place of its float one, as `convention` has that; in place.

    Transposed as bytes first: whole planes change places then, which is 1.7 times as fast on a CPU as turning
    the three channels of each pixel (the demo tagger: 27 and 47 ms for 8 images; in numpy 34 ms). Values of
    0..255 are exact, so the scores are those of the file to the bit. Raises GraphError where the graph has
    another layout or size.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    old = _image_input(graph, path)
    found = _agreed(_described(old, path, convention.layout), convention, path)
    stored, nodes = [], [helper.make_node("Transpose", [found.name], ["pfg_planes"], perm=[0, 3, 1, 2])]
    planes = "pfg_planes"
    if convention.channels == "BGR":
        stored.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "pfg_bgr"))
        nodes.append(helper.make_node("Gather", [planes, "pfg_bgr"], ["pfg_turned"], axis=1))
        planes = "pfg_turned"
    dtype = TensorProto.FLOAT16 if found.half else TensorProto.FLOAT
    floats = old.name if found.channels_first else "pfg_floats"
    if convention.mean is not None and convention.std is not None:
        mean, std = (
            np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (convention.mean, convention.std)
        )
        for name, values in (("pfg_middle", 255 * mean), ("pfg_reach", 255 * std)):
            stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        nodes += [
            helper.make_node("Cast", [planes], ["pfg_levels"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["pfg_levels", "pfg_middle"], ["pfg_centred"]),
            helper.make_node("Div", ["pfg_centred", "pfg_reach"], ["pfg_normal"]),
        ]
        planes = "pfg_normal"
    nodes.append(helper.make_node("Cast", [planes], [floats], to=dtype))
    if not found.channels_first:
        nodes.append(helper.make_node("Transpose", [floats], [old.name], perm=[0, 2, 3, 1]))
    shape = [found.batch_size or "N", found.size, found.size, 3]
    image = helper.make_tensor_value_info(found.name, TensorProto.UINT8, shape)
    rest = [value for value in graph.input if value.name != old.name]
    _replace(graph.node, [*nodes, *graph.node])
    _replace(graph.input, [image, *rest])
    graph.initializer.extend(stored)
    return found


def give_scores(model: Any, logits: Any) -> Any:
    """The output that a sigmoid, added here in place, makes of the output `logits`."""
    from onnx import helper

    tensor = logits.type.tensor_type
    node = helper.make_node("Sigmoid", [logits.name], ["pfg_scores"])
    model.graph.node.append(node)
    shape = [axis.dim_value or axis.dim_param or None for axis in tensor.shape.dim]
    value = helper.make_tensor_value_info("pfg_scores", tensor.elem_type, shape)
    model.graph.output.append(value)
    return value


def _agreed(found: ImageInput, convention: Convention, path: Path) -> ImageInput:
    """`found` with its size. Raises GraphError where the convention has another size or layout."""
    layout = "NCHW" if found.channels_first else "NHWC"
    size = found.size or convention.size or IMAGE_SIZE
    for what, ours, theirs in (
        ("layout", layout, convention.layout or layout),
        ("size", size, convention.size or size),
    ):
        if ours != theirs:
            raise GraphError(
                f"{path}: the graph's {what} is {ours}, its convention says {theirs}; it is the convention of"
                " another file"
            )
    return replace(found, size=size)


def to_float16(model: Any) -> Any:
    """`model` computing in float16, its inputs and outputs as they were; a new ModelProto.

    Sums and squares stay float32, and so does what they hand to each other.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    stored = {tensor.name for tensor in model.graph.initializer}  # listed as inputs they would stay float32
    _replace(model.graph.input, [value for value in model.graph.input if value.name not in stored])
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPS],
        node_block_list=_name_squares(model.graph),
    )
    _mend_casts(converted.graph)
    return converted


def _name_squares(graph: Any) -> list[str]:
    """Names, given where there are none, of x * x and of sums with a mean: a variance and its epsilon."""
    means = {node.output[0] for node in graph.node if node.op_type == "ReduceMean"}
    names = []
    for number, node in enumerate(graph.node):
        square = node.op_type == "Mul" and node.input[0] == node.input[1]
        if square or (node.op_type == "Add" and means & set(node.input)):
            node.name = node.name or f"pfg_float32_{number}"
            names.append(node.name)
    return names


def _mend_casts(graph: Any) -> None:
    """Hand a float32 value to a float32 node as it is, not through float16; and make every cast once.

    The converter casts a value once for each float32 node that takes it, under one name: no valid graph.
    """
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    exact = {}
    for name, up in casts.items():
        rounded = up.input[0]
        if name == f"{rounded}_cast_to_fp32" and rounded in casts:
            source = casts[rounded].input[0]
            if source == f"{rounded}_cast_to_fp16":
                exact[name] = source
    kept = [node for node in graph.node if node.output[0] not in exact]
    for node in kept:
        for at, name in enumerate(node.input):
            node.input[at] = exact.get(name, name)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    nodes = []
    for node in kept:
        if node.op_type == "Cast":
            if node.output[0] not in used:
                continue  # rounded for nobody, or made before under this name
            used.remove(node.output[0])
        nodes.append(node)
    _replace(graph.node, nodes)


def _image_input(graph: Any, path: Path) -> Any:
    """The one input that is no stored weight (old files list those too)."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "nothing"
        raise GraphError(f"{path}: the graph takes {names}; a tagger takes one image batch")
    return inputs[0]


def _described(value: Any, path: Path, layout: str | None = None) -> ImageInput:
    """What an input of a file says of itself. GraphError unless it is a batch of square float images."""
    from onnx import TensorProto

    tensor = value.type.tensor_type
    shape = [  # some converters write an open axis as -1
        axis.dim_value if axis.dim_value > 0 else axis.dim_param or "?" for axis in tensor.shape.dim
    ]
    kind = TensorProto.DataType.Name(tensor.elem_type)
    wrong = f"{path}: the graph's input is {value.name} {kind} {shape}; a tagger takes"
    floats = tensor.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
    if not floats or len(shape) != 4:
        raise GraphError(f"{wrong} one float image batch, NHWC or NCHW")
    first, last = shape[1], shape[3]
    if 3 not in (first, last) and (layout is None or isinstance(first if layout == "NCHW" else last, int)):
        raise GraphError(f"{wrong} one float image batch, NHWC or NCHW")
    channels_first = last != 3 if 3 in (first, last) else layout == "NCHW"
    sides = {side for side in (shape[2:] if channels_first else shape[1:3]) if isinstance(side, int)}
    if len(sides) > 1:
        raise GraphError(f"{wrong} square images")
    return ImageInput(
        name="pfg_image",
        size=sides.pop() if sides else None,
        batch_size=shape[0] if isinstance(shape[0], int) else None,
        channels_first=channels_first,
        half=tensor.elem_type == TensorProto.FLOAT16,
    )


def _replace(field: Any, values: list[Any]) -> None:
    """The values of a repeated protobuf field."""
    del field[:]
    field.extend(values)
