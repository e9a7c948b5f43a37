"""What is fused of Swin and EVA02 taggers as torch and tf2onnx write them; their scores stay the same.

Of a Swin LayerNorm and GELU alone: its attention has a bias, which no pattern of onnxruntime's own takes with
windows, nor ours. Of an EVA02 the attention too: what turns its queries and keys comes before.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter

from benchmarks.torch_taggers import EvaShape, SwinShape, write_torch_tagger
from pfgdata.inference import Fused, Precision, fuse, open_model
from pfgdata.taggers import OnnxTagger, describe
from pfgdata.taggers.graph import read_graph
from tests.pfgdata.taggers.graphs import TAGS, tagger_folder

KERAS_SWIN = Path(__file__).parents[2] / "data" / "graphs" / "keras_swin.onnx"
SIDE = 32
# 8 x 8 patches in 4 windows, every second block shifted, then 4 x 4 in one; and 16 patches
SWIN = SwinShape(side=SIDE, window=4, width=16, blocks=(2, 2), head_width=8, tags=len(TAGS))
EVA = EvaShape(side=SIDE, patch=8, width=24, blocks=2, heads=2, tags=len(TAGS))
ROUNDING = 2e-6  # of a score, between operators fused and not
# By name of a graph. From opset 17 on torch writes LayerNorm as one operator by itself.
FUSED = {
    "keras_swin": Fused(layer_norm=9, gelu=3),
    "swin_14": Fused(layer_norm=11, gelu=4),
    "swin_17": Fused(gelu=4),
    "eva_14": Fused(attention=2, layer_norm=7),
    "eva_17": Fused(attention=2),
}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of FUSED."""
    folder = tmp_path_factory.mktemp("graphs")
    found = {"keras_swin": KERAS_SWIN}
    for name, shape in (("swin", SWIN), ("eva", EVA)):
        for opset in (14, 17):
            place = folder / f"{name}_{opset}"
            write_torch_tagger(place, shape, opset=opset)
            found[place.name] = place / "model.onnx"
    return found


def run(model: Any, images: Any, *outputs: str) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs) or None, {session.get_inputs()[0].name: images})[0]


def pictures(count: int) -> Any:
    return np.random.default_rng(count).uniform(0, 255, (count, SIDE, SIDE, 3)).astype(np.float32)


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", FUSED)
def test_what_can_be_is_fused_and_the_scores_are_the_same_at_any_batch(
    name: str, graphs: dict[str, Path]
) -> None:
    plain, model = onnx.load(graphs[name]), onnx.load(graphs[name])
    assert fuse(model, side=SIDE) == FUSED[name]
    assert not {"Erf", "GlobalAveragePool"} & set(kinds(model))
    for count in (1, 2, 5):
        images = pictures(count)
        expected = run(plain, images)
        assert np.ptp(expected, axis=0).max() > 0.02 or count == 1  # they see the picture
        np.testing.assert_allclose(run(model, images), expected, atol=ROUNDING)


@pytest.mark.parametrize("name", FUSED)
def test_the_count_of_the_fused_is_that_of_the_operators(name: str, graphs: dict[str, Path]) -> None:
    plain, model = onnx.load(graphs[name]), onnx.load(graphs[name])
    told = fuse(model, side=SIDE)
    before, after = kinds(plain), kinds(model)
    operators = {
        "MultiHeadAttention": told.attention,
        "LayerNormalization": told.layer_norm,
        "Gelu": told.gelu,
    }
    assert {kind: after[kind] - before[kind] for kind in operators} == operators
    assert before["Softmax"] - after["Softmax"] == told.attention
    assert before["Erf"] - after["Erf"] == told.gelu


@pytest.mark.parametrize("name", ["keras_swin", "swin_14"])
def test_onnxruntimes_own_patterns_find_no_attention_in_a_swin(name: str, graphs: dict[str, Path]) -> None:
    """Why it stays unfused: should a later onnxruntime find it, that can be taken."""
    from onnxruntime.transformers.fusion_attention import FusionAttention  # of the types swin, vit, bert
    from onnxruntime.transformers.fusion_attention_clip import FusionAttentionClip
    from onnxruntime.transformers.fusion_mha_dit import FusionMultiHeadAttentionDiT
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(onnx.load(graphs[name]))
    FusionAttention(model, SWIN.width, SWIN.width // SWIN.head_width).apply()
    FusionAttentionClip(model, SWIN.width, SWIN.width // SWIN.head_width).apply()
    FusionMultiHeadAttentionDiT(model).apply()
    assert not [kind for kind in kinds(model.model) if "Attention" in kind]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", ["keras_swin", "swin_14", "eva_17"])
def test_such_a_tagger_is_loaded_fused_with_the_scores_and_features_of_its_file(
    name: str,
    precision: Precision,
    graphs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))
    folder = tagger_folder(tmp_path / name, graphs[name])
    tagger = OnnxTagger.load(str(folder), device="cpu", precision=precision)
    assert tagger.fused == FUSED[name]
    assert describe(tagger).fused == str(FUSED[name])
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    floats = images[..., ::-1].astype(np.float32)
    plain = open_model(folder / "model.onnx")
    graph = read_graph(plain, num_tags=len(TAGS))
    scores, features = tagger.predict(images)
    exact = (run(onnx.load_from_string(graph.model), images, one) for one in (graph.scores, graph.feature))
    near = {"float32": (ROUNDING, 1e-5), "float16": (1e-2, 5e-2)}[precision]
    for ours, theirs, atol in zip((scores, features), exact, near, strict=True):
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), atol=atol)
    np.testing.assert_allclose(scores, run(onnx.load(folder / "model.onnx"), floats), atol=near[0])


def test_a_layer_norm_by_tf2onnx_is_found_where_the_axes_of_a_mean_are_an_input() -> None:
    """From opset 18 on."""
    model = version_converter.convert_version(onnx.load(KERAS_SWIN), 18)
    images = pictures(2)
    expected = run(model, images)
    assert fuse(model, side=SIDE) == FUSED["keras_swin"]
    np.testing.assert_allclose(run(model, images), expected, atol=ROUNDING)


@pytest.mark.parametrize("opset", [17, 18])
def test_a_pool_over_tokens_that_is_no_layer_norm_gives_what_it_gave(opset: int) -> None:
    """Once [N, T, C], where it may become a mean, and once [N, C, H, W], where it may not; beside a GELU."""
    stored = {
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("Div", ["x", "root"], ["divided"]),
        helper.make_node("Erf", ["divided"], ["bent"]),
        helper.make_node("Add", ["bent", "one"], ["added"]),
        helper.make_node("Mul", ["x", "added"], ["product"]),
        helper.make_node("Mul", ["product", "half"], ["gelu"]),
        helper.make_node("GlobalAveragePool", ["gelu"], ["over_tokens"]),
        helper.make_node("Unsqueeze", ["gelu", "first"], ["picture"]),
        helper.make_node("GlobalAveragePool", ["picture"], ["over_picture"]),
        helper.make_node("Add", ["over_tokens", "over_picture"], ["y"]),
    ]
    stored["first"] = np.array([1], np.int64)
    graph = helper.make_graph(
        nodes,
        "pools",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    x = np.random.default_rng(3).normal(size=(2, 3, 5)).astype(np.float32)
    expected = run(model, x)
    assert fuse(model, side=SIDE) == Fused(gelu=1)
    assert kinds(model)["GlobalAveragePool"] == 1
    np.testing.assert_allclose(run(model, x), expected, atol=1e-6)
