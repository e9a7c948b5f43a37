"""Graphs as exporters write them run as fewer operators and give the same scores; others stay as they are.

tests/data/graphs holds a ViT of Keras layers by tf2onnx, one by torch's exporter, and how they were made.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pfgdata.inference import Fused, Precision, fuse, open_model
from pfgdata.taggers import OnnxTagger, describe
from pfgdata.taggers.graph import read_graph, same_scores
from tests.pfgdata.taggers.graphs import TAGS, tagger_folder

GRAPHS = Path(__file__).parents[2] / "data" / "graphs"
SIDE = 32
WHOLE = Fused(attention=2, layer_norm=5, gelu=2)
ROUNDING = 2e-6  # of a score, between operators fused and not


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))


def run(model: Any, images: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def pictures(count: int, name: str) -> Any:
    chance = np.random.default_rng(count)
    if name == "torch_vit.onnx":
        return chance.uniform(size=(count, 3, SIDE, SIDE)).astype(np.float32)
    return chance.uniform(0, 255, (count, SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["keras_vit.onnx", "torch_vit.onnx"])
def test_all_of_a_vit_is_fused_and_gives_the_same_scores_at_any_batch(name: str) -> None:
    plain, model = onnx.load(GRAPHS / name), onnx.load(GRAPHS / name)
    assert fuse(model, side=SIDE) == WHOLE
    assert "Softmax" not in (kinds := Counter(node.op_type for node in model.graph.node))
    assert not {"Erf", "BatchNormalization", "Sqrt", "Shape", "Expand"} & set(kinds)
    for count in (1, 2, 5):
        images = pictures(count, name)
        expected = run(plain, images)
        assert np.ptp(expected, axis=0).max() > 0.005 or count == 1  # they see the picture
        np.testing.assert_allclose(run(model, images), expected, atol=ROUNDING)


def test_onnxruntimes_own_patterns_find_no_attention_in_either() -> None:
    """Why ours are there: should a later onnxruntime find them, ours can go."""
    from onnxruntime.transformers.fusion_attention import FusionAttention
    from onnxruntime.transformers.fusion_mha_dit import FusionMultiHeadAttentionDiT
    from onnxruntime.transformers.onnx_model import OnnxModel

    for name in ("keras_vit.onnx", "torch_vit.onnx"):
        model = OnnxModel(onnx.load(GRAPHS / name))
        FusionAttention(model, 0, 0).apply()
        FusionMultiHeadAttentionDiT(model).apply()
        assert not [node for node in model.model.graph.node if "Attention" in node.op_type]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_tagger_is_loaded_fused_and_says_so(precision: Precision, tmp_path: Path) -> None:
    folder = tagger_folder(tmp_path / "keras", GRAPHS / "keras_vit.onnx")
    tagger = OnnxTagger.load(str(folder), device="cpu", precision=precision)
    assert tagger.fused == WHOLE
    assert describe(tagger).fused == "2 attention, 5 LayerNorm, 2 GELU"
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    scores, features = tagger.predict(images)
    exact = run(onnx.load(GRAPHS / "keras_vit.onnx"), images[..., ::-1].astype(np.float32))
    np.testing.assert_allclose(scores, exact, atol=ROUNDING if precision == "float32" else 5e-3)
    assert features.shape == (3, 16)


def test_the_identity_of_a_tagger_is_that_of_its_file(tmp_path: Path) -> None:
    folder = tagger_folder(tmp_path / "keras", GRAPHS / "keras_vit.onnx")
    plain = read_graph(open_model(folder / "model.onnx"), num_tags=len(TAGS))
    assert OnnxTagger.load(str(folder), device="cpu").identity.feature_node == plain.feature


@pytest.fixture
def inexact(tmp_path: Path) -> Path:
    mean = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0)
    return inexact_tagger(tmp_path, [mean], brightest=127.5)  # x is 1 for a picture of middle grey


def inexact_tagger(folder: Path, means: list[Any], *, brightest: float) -> Path:
    """A tagger whose x * erf is within onnxruntime's tolerance of a GELU, and far from it in its scores.

    `means` make the [N, 3] of which x is; far from it where they are `brightest`, saturated below.
    """
    stored = {
        "last": np.array(SIDE - 1),
        "first": np.array(0),
        "hidden": np.full((3, 16), 1 / (3 * brightest), np.float32),
        "divisor": np.array(1.4133, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "head": np.full((16, len(TAGS)), 20, np.float32),
        "bias": np.full(len(TAGS), -20 * 16 * 0.8413, np.float32),  # GELU(1): its scores are about 0.5
    }
    nodes = [
        *means,
        helper.make_node("MatMul", ["mean", "hidden"], ["x"]),
        helper.make_node("Div", ["x", "divisor"], ["divided"]),
        helper.make_node("Erf", ["divided"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["added"]),
        helper.make_node("Mul", ["x", "added"], ["product"]),
        helper.make_node("Mul", ["product", "half"], ["feature"]),
        helper.make_node("MatMul", ["feature", "head"], ["heads"]),
        helper.make_node("Add", ["heads", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    model = made(nodes, stored, [("image", ["N", SIDE, SIDE, 3])], ("scores", ["N", len(TAGS)]))
    onnx.save(model, folder / "inexact.onnx")
    return tagger_folder(folder / "inexact", folder / "inexact.onnx")


def made(nodes: list[Any], stored: dict[str, Any], images: list[Any], scores: tuple[str, list[Any]]) -> Any:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in images],
        [helper.make_tensor_value_info(scores[0], TensorProto.FLOAT, scores[1])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_graph_that_gives_other_scores_when_fused_runs_as_its_file_has_it(inexact: Path) -> None:
    model = onnx.load(inexact / "model.onnx")
    assert fuse(model, side=SIDE) == Fused(gelu=1)
    images = np.random.default_rng(18).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    floats = images[..., ::-1].astype(np.float32)
    exact = run(onnx.load(inexact / "model.onnx"), floats)
    assert not same_scores(run(model, floats), exact, half=False)
    tagger = OnnxTagger.load(str(inexact), device="cpu")
    assert not tagger.fused
    np.testing.assert_array_equal(tagger.predict(images)[0], exact)


def test_a_graph_is_compared_by_more_than_one_picture(tmp_path: Path) -> None:
    means = [  # how much brighter the last line of pixels is than the first: nothing in noise
        helper.make_node("Gather", ["image", "last"], ["below"], axis=1),
        helper.make_node("Gather", ["image", "first"], ["above"], axis=1),
        helper.make_node("Sub", ["below", "above"], ["step"]),
        helper.make_node("ReduceMean", ["step"], ["mean"], axes=[1], keepdims=0),
    ]
    folder = inexact_tagger(tmp_path, means, brightest=255.0)
    assert fuse(onnx.load(folder / "model.onnx"), side=SIDE) == Fused(gelu=1)
    assert not OnnxTagger.load(str(folder), device="cpu").fused


TOKENS, HEADS, WIDTH = 6, 2, 4


def attention(form: str) -> Any:
    """An attention over [N, T, H D] in which `form` is what is not as usual."""
    shape = [HEADS, WIDTH] if form != "heads mixed" else [WIDTH, HEADS]
    turned = [0, 2, 1, 3] if form != "heads mixed" else [0, 3, 1, 2]
    stored = {
        "split": np.array([0, 0, *shape], np.int64),
        "joined": np.array([0, 0, HEADS * WIDTH], np.int64),
        "scale": np.array(0.3, np.float32),
        "head_scales": np.array([0.3, 2.0], np.float32).reshape(HEADS, 1, 1),
        "bias": np.linspace(-2, 2, TOKENS**2, dtype=np.float32).reshape(TOKENS, TOKENS),
    }
    nodes = []

    def add(kind: str, inputs: list[str], output: str, **words: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **words))
        return output

    parts = {}
    for letter in "qkv":
        stored[f"w{letter}"] = (
            np.random.default_rng(ord(letter)).normal(size=(HEADS * WIDTH,) * 2).astype(np.float32)
        )
        z = add("MatMul", ["x", f"w{letter}"], f"{letter}0")
        z = add("Reshape", [z, "split"], f"{letter}1")
        parts[letter] = add("Transpose", [z], f"{letter}2", perm=turned)
    keys = add("Transpose", [parts["k"]], "k3", perm=[0, 1, 3, 2])
    if form == "scaled keys":
        keys = add("Mul", ["scale", keys], "k4")
    z = add("MatMul", [parts["q"], keys], "products")
    if form == "divided":
        z = add("Div", [z, "scale"], "divided")
    if form == "a scale for each head":
        z = add("Mul", [z, "head_scales"], "scaled")
    if form == "a bias":
        z = add("Add", [z, "bias"], "biased")
    z = add("Softmax", [z], "soft", axis=2 if form == "softmax over queries" else -1)
    z = add("MatMul", [z, parts["v"]], "mixed")
    z = add("Transpose", [z], "back", perm=[0, 2, 1, 3])
    add("Reshape", [z, "joined"], "y")
    return made(nodes, stored, [("x", ["N", TOKENS, HEADS * WIDTH])], ("y", ["N", TOKENS, HEADS * WIDTH]))


@pytest.mark.parametrize("form", ["usual", "divided", "scaled keys"])
def test_an_attention_is_fused_whatever_scales_it(form: str) -> None:
    model = attention(form)
    assert fuse(model, side=SIDE) == Fused(attention=1)
    x = np.random.default_rng(5).normal(size=(3, TOKENS, HEADS * WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(model, x), run(attention(form), x), atol=1e-5)


@pytest.mark.parametrize("form", ["a bias", "a scale for each head", "softmax over queries", "heads mixed"])
def test_what_is_no_plain_attention_stays_as_it_is(form: str) -> None:
    model = attention(form)
    assert fuse(model, side=SIDE) == Fused()
    x = np.random.default_rng(5).normal(size=(2, TOKENS, HEADS * WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(run(model, x), run(attention(form), x))


def test_a_graph_in_which_nothing_is_found_keeps_shapes_that_it_computes_and_an_erf_that_is_no_gelu() -> None:
    """Nobody compares it with its file: so it must be its file's to the byte."""
    stored = {"factor": np.array(0.5, np.float32), "rest": np.array([-1], np.int64), "one": np.array([0])}
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["halved"]),
        helper.make_node("Erf", ["halved"], ["bent"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["asked"], axis=0),
        helper.make_node("Reshape", ["bent", "asked"], ["y"]),
    ]
    model = made(nodes, stored, [("x", ["N", TOKENS, WIDTH])], ("y", ["N", TOKENS * WIDTH]))
    before = model.SerializeToString(deterministic=True)
    assert fuse(model, side=SIDE) == Fused()
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_without_any_of_them_stays_as_it_is() -> None:
    from pfgdata.hub import resolve

    model = onnx.load(resolve("demo", what="tagger").folder / "model.onnx")
    before = model.SerializeToString(deterministic=True)
    assert str(fuse(model, side=448)) == "nothing"
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_is_compared_with_its_file_once_on_a_machine(inexact: Path, tmp_path: Path) -> None:
    folder = tagger_folder(tmp_path / "keras", GRAPHS / "keras_vit.onnx")
    for name, fused in ((folder, True), (inexact, False)):
        assert bool(OnnxTagger.load(str(name), device="cpu").fused) is fused
    notes = {file.read_bytes(): file for file in (tmp_path / "cache" / "fused").iterdir()}
    assert set(notes) == {b"same", b"other"}
    notes[b"same"].write_bytes(b"other")  # believed, as it stands there
    assert not OnnxTagger.load(str(folder), device="cpu").fused
    notes[b"same"].unlink()
    assert OnnxTagger.load(str(folder), device="cpu").fused
