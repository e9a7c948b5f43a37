"""A rewritten graph gives what its file gives: to the bit from bytes, closely in float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from pfgdata.errors import GraphError
from pfgdata.hub import resolve
from pfgdata.inference import Precision, open_model
from pfgdata.taggers import OnnxTagger
from pfgdata.taggers.graph import read_graph
from tests.pfgdata.taggers.graphs import SIDE, TAGS, Form, write_tagger

FORMS = {
    "nhwc": Form(),
    "nchw": Form(layout="NCHW"),
    "float16": Form(half=True, half_io=True),
    "float16 nchw": Form(half=True, half_io=True, layout="NCHW"),
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (4, 1, 1, 3)) // 2 + rng.integers(0, 128, (4, SIDE, SIDE, 3))
    return colours.astype(np.uint8)


def plain(folder: Path, images: np.ndarray) -> np.ndarray:
    """The scores of the file as it is, fed with BGR floats."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    dtype = np.float16 if "16" in image.type else np.float32
    turned = images[..., ::-1] if image.shape[3] == 3 else images[..., ::-1].transpose(0, 3, 1, 2)
    return session.run(["scores"], {image.name: np.ascontiguousarray(turned, dtype)})[0]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_bytes_give_the_scores_of_the_file_to_the_bit(form: Form, images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path, form)
    scores, _ = OnnxTagger.load(str(tmp_path), device="cpu", threads=1).predict(images)
    assert np.array_equal(scores, plain(tmp_path, images).astype(np.float32))


def test_bytes_give_the_scores_of_the_demo_tagger_to_the_bit() -> None:
    demo = OnnxTagger.load("demo", device="cpu", threads=1)
    folder = resolve("demo", what="tagger").folder
    images = np.random.default_rng(5).integers(0, 256, (2, 448, 448, 3), dtype=np.uint8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    floats = np.ascontiguousarray(images[..., ::-1], np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: floats})[0]
    assert np.array_equal(demo.predict(images)[0], expected)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_float16_stays_close_to_float32(layout: str, images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(layout=layout))
    exact = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    half = OnnxTagger.load(str(tmp_path), device="cpu", threads=1, precision="float16")
    assert (exact.precision, half.precision) == ("float32", "float16")
    assert half.identity == exact.identity
    for found, expected in zip(half.predict(images), exact.predict(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-2)
        assert not np.array_equal(found, expected)


def test_weights_that_a_file_lists_as_inputs_become_float16_too(images: np.ndarray, tmp_path: Path) -> None:
    expected = write_tagger(tmp_path).expected(images)
    model = onnx.load(tmp_path / "model.onnx")
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, tmp_path / "model.onnx")
    half = OnnxTagger.load(str(tmp_path), device="cpu", threads=1, precision="float16")
    assert half.precision == "float16"
    np.testing.assert_allclose(half.predict(images)[0], expected[0], atol=1e-2)


def test_an_open_axis_may_be_written_as_minus_one(images: np.ndarray, tmp_path: Path) -> None:
    expected = write_tagger(tmp_path).expected(images)
    model = onnx.load(tmp_path / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "model.onnx")
    tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    assert tagger.batch_size is None
    np.testing.assert_allclose(tagger.predict(images)[0], expected[0], atol=1e-5)


def test_a_variance_beyond_float16_is_kept_in_float32(images: np.ndarray, tmp_path: Path) -> None:
    expected = write_tagger(tmp_path, Form(norm=True)).expected(images)
    allowed: dict[Precision, float] = {"float32": 1e-4, "float16": 2e-2}
    for precision, tolerance in allowed.items():
        tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1, precision=precision)
        np.testing.assert_allclose(tagger.predict(images)[0], expected[0], atol=tolerance)
        np.testing.assert_allclose(tagger.predict(images)[1], expected[1], atol=tolerance)


def test_a_variance_is_no_float16_even_where_the_hardware_would_compute_it_so(
    images: np.ndarray, tmp_path: Path
) -> None:
    """onnxruntime computes much of float16 in float32 on a CPU; ONNX's reference does as the graph says."""
    expected = write_tagger(tmp_path, Form(norm=True)).expected(images)
    graph = read_graph(open_model(tmp_path / "model.onnx"), num_tags=len(TAGS), precision="float16")
    model = onnx.ModelProto.FromString(graph.model)
    sort_nodes(model.graph)
    reference = ReferenceEvaluator(model)
    scores, features = reference.run([graph.scores, graph.feature], {graph.image.name: images})
    np.testing.assert_allclose(scores, expected[0], atol=2e-2)
    np.testing.assert_allclose(features, expected[1], atol=2e-2)


def sort_nodes(graph: Any) -> None:
    """Each node after those it takes from, as the reference wants it; onnxruntime sorts by itself."""
    waiting, known = list(graph.node), {value.name for value in (*graph.input, *graph.initializer)}
    del graph.node[:]
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        graph.node.extend(ready)
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if node not in ready]


def test_a_graph_in_float16_already_is_left_as_it_is(images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(half=True))
    as_is = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    asked_for = OnnxTagger.load(str(tmp_path), device="cpu", threads=1, precision="float16")
    assert (as_is.precision, asked_for.precision) == ("float16", "float16")
    assert np.array_equal(as_is.predict(images)[0], asked_for.predict(images)[0])


def test_a_graph_of_doubles_is_refused(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(dtype=TensorProto.DOUBLE))
    with pytest.raises(GraphError, match=r"image DOUBLE .* takes one float image batch"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)


def test_a_graph_of_oblong_images_is_refused(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(sides=(8, 16)))
    with pytest.raises(GraphError, match="takes square images"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
